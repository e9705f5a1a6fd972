"""The background matte: people are in it, backgrounds are not, and its edges are those of the picture."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from dnnlib.errors import UserError
from next3d.tracking.matte import guided_filter, open_matte


def test_the_filter_moves_an_edge_to_that_of_its_guide():
    guide = np.zeros((64, 64), dtype=np.float32)
    guide[:, 32:] = 1
    blurred = np.clip((np.arange(64) - 24) / 16, 0, 1).astype(np.float32)[None].repeat(64, axis=0)
    fine = guided_filter(guide, blurred, 8, 1e-3)
    assert fine[:, 36:].min() > 0.8
    assert fine[:, :28].max() < 0.2
    assert (fine[:, 33] - fine[:, 30]).min() > 2 * (blurred[0, 33] - blurred[0, 30])


def test_the_filter_leaves_a_plain_alone():
    plain = np.full((32, 48), 0.7, dtype=np.float32)
    noise = np.random.default_rng(0).random((32, 48)).astype(np.float32)
    assert guided_filter(noise, plain, 4, 1e-3) == pytest.approx(plain, abs=1e-4)


def test_a_person_is_cut_out():
    pytest.importorskip("mediapipe")
    data = pytest.importorskip("skimage.data")
    image = np.ascontiguousarray(data.astronaut()[:400, 20:420])
    with open_matte() as matte:
        alpha = matte.cut(image)
        empty = matte.cut(np.full((128, 128, 3), 120, dtype=np.uint8))
    assert alpha.shape == (400, 400)
    assert alpha.dtype == np.uint8
    assert alpha[95:150, 185:225].min() > 240, "face"
    assert alpha[330:390, 120:280].min() > 240, "chest"
    assert np.median(alpha[:120, :100]) < 10, "flag"
    assert np.median(alpha[:60, 280:]) < 10, "wall"
    assert np.median(empty) < 30


def test_mediapipe_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="portraits"), open_matte():
        pass
