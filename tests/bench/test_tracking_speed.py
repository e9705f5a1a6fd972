"""The speed bench: a command that fails is no measurement, and the film has the length that figures are divided by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.tracking_speed import make_film, measure
from next3d.tracking.films import open_film


def test_a_command_that_fails_is_no_measurement():
    assert measure(["--version"]).main > 0
    with pytest.raises(RuntimeError, match="exit code 2"):
        measure(["nonsense"])


def test_the_film_is_as_long_as_said(tmp_path: Path):
    clip = [np.full((64, 96, 3), 40 * level, dtype=np.uint8) for level in range(4)]
    make_film(tmp_path / "film.mp4", clip, 11)
    assert len(list(open_film(tmp_path / "film.mp4").frames())) == 11
