"""Animations read back, last as long as they should, and keep to their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from next3d.media.animation import save_animation


def make_frames(count: int = 6, noise: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        (np.full((24, 32, 3), 40 + 30 * index) + noise * rng.standard_normal((24, 32, 3))).clip(0, 255).astype(np.uint8)
        for index in range(count)
    ]


def read_animation(path: Path) -> tuple[list[np.ndarray], int]:
    """Frames, and milliseconds altogether."""
    picture, frames, lasts = Image.open(path), [], 0
    for index in range(picture.n_frames):
        picture.seek(index)
        frames.append(np.array(picture.convert("RGB")))
        lasts += picture.info["duration"]
    assert picture.info["loop"] == 0, "it must run for ever"
    return frames, lasts


def test_what_goes_in_comes_out(tmp_path: Path):
    frames = make_frames()
    save_animation(tmp_path / "a.webp", frames, 7.0, limit=10**6)
    read, lasts = read_animation(tmp_path / "a.webp")
    assert len(read) == 6
    assert lasts == round(6000 / 7)
    for before, after in zip(frames, read, strict=True):
        assert abs(float(before.mean()) - float(after.mean())) < 3


def test_frames_that_stand_still_keep_their_time(tmp_path: Path):
    save_animation(tmp_path / "a.webp", [make_frames()[0]] * 3 + make_frames(), 10.0, limit=10**6)
    assert read_animation(tmp_path / "a.webp")[1] == 900


def test_quality_gives_way_to_size(tmp_path: Path):
    frames = make_frames(noise=20.0)
    good = save_animation(tmp_path / "a.webp", frames, 10, limit=10**6)
    less = save_animation(tmp_path / "a.webp", frames, 10, limit=good - 1)
    assert less == (tmp_path / "a.webp").stat().st_size < good
    again = (tmp_path / "a.webp").read_bytes()
    save_animation(tmp_path / "a.webp", frames, 10, limit=good - 1)
    assert (tmp_path / "a.webp").read_bytes() == again
    assert [path.name for path in tmp_path.iterdir()] == ["a.webp"]


def test_no_frames_and_no_webp_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="at least one frame"):
        save_animation(tmp_path / "a.webp", [], 10, limit=1)
    Image.init()
    monkeypatch.delitem(Image.SAVE_ALL, "WEBP")
    with pytest.raises(UserError, match="cannot write animations"):
        save_animation(tmp_path / "a.webp", make_frames(), 10, limit=1)
    assert list(tmp_path.iterdir()) == []
