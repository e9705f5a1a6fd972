"""Effects of cameras: what they may change, and by how much."""

from __future__ import annotations

import numpy as np
import pytest

from next3d.synthetic.camera import Effects, defocus, draw_effects, expose


@pytest.fixture
def stripes() -> np.ndarray:
    """Vertical stripes [64, 64, 3], one pixel wide."""
    return np.broadcast_to((np.arange(64) % 2)[None, :, None].astype(np.float32), (64, 64, 3)).copy()


def test_what_is_in_focus_stays_sharp_and_what_is_behind_blurs(stripes: np.ndarray) -> None:
    depth = np.full((64, 64), 2.5, dtype=np.float32)
    depth[:, 32:] = 3.2
    blurred = defocus(stripes, depth, focus=2.45, aperture=0.03)
    np.testing.assert_allclose(blurred[:, :28], stripes[:, :28], atol=1e-5)
    assert blurred[:, 40:].std() < 0.2 * stripes.std()
    assert blurred.mean() == pytest.approx(stripes.mean(), abs=0.02)


def test_noise_is_mild_and_keyed(stripes: np.ndarray) -> None:
    grey = np.full_like(stripes, 0.5)
    first, second = (expose(grey, Effects(noise=3.0), np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
    assert 1 < first.astype(float).std() < 6


def test_no_effects_change_nothing_but_rounding(stripes: np.ndarray) -> None:
    assert np.array_equal(expose(stripes, Effects(), np.random.default_rng(0)), (255 * stripes).astype(np.uint8))


def test_jpeg_leaves_its_marks() -> None:
    picture = np.random.default_rng(1).uniform(size=(32, 32, 3)).astype(np.float32)
    compressed = expose(picture, Effects(jpeg=70), np.random.default_rng(0)).astype(float)
    assert 1 < np.abs(compressed - 255 * picture).mean() < 60


def test_effects_are_drawn_within_limits() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_effects(rng) for _ in range(300)]
    assert max(effects.aperture for effects in drawn) <= 0.010
    assert max(effects.noise for effects in drawn) <= 3.5
    assert {effects.jpeg == 0 for effects in drawn} == {True, False}
    assert min(effects.jpeg for effects in drawn if effects.jpeg) >= 70
