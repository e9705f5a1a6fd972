"""Smooth curves over time: no noise, no lag, gaps bridged, jumps kept."""

from __future__ import annotations

import numpy as np
import pytest

from next3d.tracking.smooth import FRAME_CUTOFF, frame_times, smooth_frames, smooth_signals
from next3d.tracking.types import CropFrame


@pytest.fixture
def numbers() -> np.random.Generator:
    """A fresh stream for every test."""
    return np.random.default_rng(0)


@pytest.mark.parametrize("fps", [12.0, 25.0, 60.0])
def test_the_cutoff_is_in_hertz(fps: float) -> None:
    """A wave of the cutoff's frequency keeps half its height and its phase, at any frame rate."""
    times = np.arange(int(20 * fps)) / fps
    wave = np.sin(2 * np.pi * 2.0 * times)[:, None]
    smooth = smooth_signals(wave, np.ones(len(times)), times, 2.0)
    inner = slice(len(times) // 4, -len(times) // 4)
    along = float((smooth[inner] * wave[inner]).sum() / (wave[inner] ** 2).sum())
    assert along == pytest.approx(0.5, abs=0.06)
    assert np.abs(smooth[inner] - along * wave[inner]).max() < 0.02


def test_uneven_times_are_minded(numbers: np.random.Generator) -> None:
    """A straight movement stays itself however uneven the frames are; as if they were even, it would bend."""
    times = np.cumsum(numbers.uniform(0.01, 0.09, 80))
    line = np.stack([3 * times, 1 - times], axis=1)
    np.testing.assert_allclose(smooth_signals(line, np.ones(80), times, 1.0), line, atol=1e-9)


def test_noise_falls_and_slow_movements_stay(numbers: np.random.Generator) -> None:
    times = np.arange(250) / 25
    truth = np.sin(2 * np.pi * 0.4 * times)[:, None]
    smooth = smooth_signals(truth + 0.05 * numbers.standard_normal(truth.shape), np.ones(250), times, 2.0)
    assert np.diff(smooth - truth, axis=0).std() < 0.1 * 0.05 * np.sqrt(2)
    assert np.abs(smooth - truth).max() < 0.08


def test_gaps_are_bridged_and_ends_stand_still() -> None:
    times = np.arange(60) / 25
    truth = (times**2)[:, None]
    seen = np.ones(60)
    seen[20:30], seen[:5], seen[50:] = 0, 0, 0
    noisy = np.where(seen[:, None] > 0, truth, np.nan)
    smooth = smooth_signals(noisy, seen, times, 3.0)
    np.testing.assert_allclose(smooth[8:47], truth[8:47], atol=3e-3)
    assert (smooth[:5] == smooth[5]).all()
    assert (smooth[50:] == smooth[49]).all()


def test_a_jump_stays_a_jump(numbers: np.random.Generator) -> None:
    """With an edge, a step ten times the noise takes no more than a frame; without, it is smeared."""
    truth = np.where(np.arange(100) < 50, 0.0, 1.0)[:, None]
    noisy = truth + 0.03 * numbers.standard_normal(truth.shape)
    times = np.arange(100) / 25
    kept = smooth_signals(noisy, np.ones(100), times, 4.0, edge=60.0)
    plain = smooth_signals(noisy, np.ones(100), times, 4.0)
    step = float((kept[50] - kept[49])[0])
    assert step > 0.8
    assert float((plain[50] - plain[49])[0]) < 0.6
    still = np.r_[2:40, 60:98]
    assert np.diff(kept[:, 0])[still].std() < 0.5 * np.diff(noisy[:, 0])[still].std()


def test_crop_frames_neither_jitter_nor_lag(numbers: np.random.Generator) -> None:
    """A head that sways: the crop follows in time, its shake is gone."""
    times = np.arange(200) / 25
    middle = 300 + 40 * np.sin(2 * np.pi * 0.3 * times)
    shake = 2 * numbers.standard_normal((200, 3))
    frames: list[CropFrame | None] = [
        CropFrame(x - 100 + a, 50 + b, 200 + c) if t % 17 else None for t, (x, (a, b, c)) in enumerate(zip(middle, shake, strict=True))
    ]
    smooth = smooth_frames(frames, 25.0)
    centre = np.array([f.left + f.side / 2 for f in smooth])
    lags = range(-5, 6)
    error = [np.abs(centre[20:180] - middle[20 + lag : 180 + lag]).mean() for lag in lags]
    assert list(lags)[int(np.argmin(error))] == 0
    assert np.diff(centre, 2)[2:].std() < 0.2
    assert np.std([f.side for f in smooth]) < 1.0
    assert FRAME_CUTOFF > 1


def test_one_frame_and_two() -> None:
    one = CropFrame(1.0, 2.0, 30.0)
    assert [f.side for f in smooth_frames([None, one, None], 25.0)] == pytest.approx([30.0] * 3)
    assert smooth_frames([one, CropFrame(5.0, 2.0, 30.0)], 25.0)[1].left == pytest.approx(5.0)


def test_no_face_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no sample"):
        smooth_frames([None, None], 25.0)


def test_repeated_time_stamps_are_pulled_apart() -> None:
    times = frame_times(5, 25.0, np.array([0.0, 0.04, 0.04, 0.03, 0.2]))
    assert (np.diff(times) > 0).all()
    assert times[1] == pytest.approx(0.04)
