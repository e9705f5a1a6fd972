"""Curves over time without noise and without lag: least squares with a price on acceleration (Whittaker 1923, Eilers 2003).

Every sample pulls with its weight, every acceleration a with (a / w^2)^2, where w = 2 pi cutoff. Both directions of time count alike, so
nothing lags. A wave of the cutoff's frequency keeps half its height, whatever the number of frames per second and however uneven they are.
Samples without weight are bridged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from dnnlib.errors import UserError
from next3d.tracking.types import CropFrame

Array = npt.NDArray[np.float64]

FRAME_CUTOFF = 1.5
"""Crop frames follow movements slower than this, Hz: nods and syllables stay inside the crop, the camera of the crop does not shake."""
_ROBUST_ROUNDS = 4
FIRST_LOOK = 3.0
"""Jumps are looked for first on a curve with a cutoff so many times higher."""


@dataclass(frozen=True)
class Accelerations:
    """Second differences over uneven times, as linear functions of three neighbours."""

    coefficients: Array
    """[T - 2, 3]: the acceleration at sample t + 1 is the sum of these with samples t, t + 1, t + 2; units per second squared."""
    count: int
    """T; there are no accelerations in one sample or two."""

    @classmethod
    def at(cls, times: Array) -> Accelerations:
        """For samples at strictly increasing times [T], seconds."""
        steps = np.diff(times)
        before, after = steps[:-1], steps[1:]
        both = before + after
        return cls(np.stack([2 / (before * both), -2 / (before * after), 2 / (after * both)], axis=1), len(times))

    def __call__(self, values: Array) -> Array:
        """Accelerations [T - 2, ...] of values [T, ...]."""
        c = self.coefficients.reshape(-1, 3, *[1] * (values.ndim - 1))
        return np.asarray(c[:, 0] * values[:-2] + c[:, 1] * values[1:-1] + c[:, 2] * values[2:])

    def price(self, weights: Array) -> tuple[Array, Array, Array]:
        """The three diagonals [T, K], [T - 1, K], [T - 2, K] of the sum of squares that weights [T - 2, K] give."""
        c = self.coefficients
        length, width = self.count, weights.shape[1]
        main, next_one, next_two = (np.zeros((max(length - away, 0), width)) for away in range(3))
        for place in range(3):
            main[place : place + len(c)] += weights * (c[:, place] ** 2)[:, None]
        for place in range(2):
            next_one[place : place + len(c)] += weights * (c[:, place] * c[:, place + 1])[:, None]
        next_two[:] = weights * (c[:, 0] * c[:, 2])[:, None]
        return main, next_one, next_two


def frame_times(count: int, fps: float, times: Array | None = None) -> Array:
    """Seconds [count]: those given, made strictly increasing (some films repeat a time stamp), or evenly spaced ones."""
    if not fps > 0 or not np.isfinite(fps):
        raise UserError(f"frames per second: {fps}, expected a number above 0.")
    if times is None:
        return np.arange(count) / fps
    if len(times) != count:
        raise ValueError(f"times: {len(times)} of them for {count} frames")
    least = 0.1 / fps
    steps = np.maximum(np.diff(np.asarray(times, np.float64)), least)
    return np.concatenate([[0.0], np.cumsum(steps)]) if count else np.zeros(0)


def smooth_signals(values: Array, weights: Array, times: Array, cutoff: float, *, edge: float | None = None) -> Array:
    """Curves through noisy samples.

    Args:
        values: [T, K]; what has no weight may be anything, NaN too.
        weights: [T], 0 for samples to bridge, 1 for the usual ones.
        times: [T], seconds, strictly increasing.
        cutoff: Hz; faster changes are noise.
        edge: accelerations above this (in units of `values` per second squared) are taken for real and cost the less the larger they
            are, so that jumps stay jumps; None smooths everything alike.

    Returns:
        [T, K]. Before the first and after the last sample with a weight the curve stands still.
    """
    used = np.flatnonzero(weights > 0)
    if len(used) < 3:
        return _held(values, used)
    first, last = int(used[0]), int(used[-1])
    inner = slice(first, last + 1)
    known = np.where(weights[inner, None] > 0, np.nan_to_num(values[inner]), 0.0)
    rows = Accelerations.at(times[inner])
    plain = np.full((last - first - 1, values.shape[1]), (2 * np.pi * cutoff) ** -4.0)
    price = plain if edge is None else plain / FIRST_LOOK**4
    curve = _solve(known, weights[inner], rows.price(price))
    for _ in range(0 if edge is None else _ROBUST_ROUNDS):
        curve = _solve(known, weights[inner], rows.price(plain / (1 + (rows(curve) / (edge or np.inf)) ** 2)))
    out = np.empty_like(values)
    out[inner] = curve
    out[:first], out[last + 1 :] = curve[0], curve[-1]
    return out


def _held(values: Array, used: npt.NDArray[np.intp]) -> Array:
    """Too few samples for an acceleration: each frame takes the nearest one's value."""
    if len(used) == 0:
        raise ValueError("smoothing: no sample has a weight")
    nearest = used[np.abs(np.arange(len(values))[:, None] - used).argmin(axis=1)]
    return np.asarray(values[nearest])


def _solve(values: Array, weights: Array, price: tuple[Array, Array, Array]) -> Array:
    """The least-squares curves [T, K]; one pentadiagonal system per column."""
    main, one, two = price
    out = np.empty_like(values)
    for column in range(values.shape[1]):
        band = np.zeros((3, len(values)))
        band[0] = main[:, column] + weights
        band[1, :-1], band[2, :-2] = one[:, column], two[:, column]
        out[:, column] = solveh_banded(band, weights * values[:, column], lower=True)
    return out


def smooth_frames(
    frames: Sequence[CropFrame | None], fps: float, *, times: Array | None = None, cutoff: float = FRAME_CUTOFF
) -> list[CropFrame]:
    """Crop frames of a film that neither jitter nor lag.

    Args:
        frames: T of them; None where no face was seen.
        fps: frames per second of the film.
        times: [T] seconds, where frames are not evenly spaced.
        cutoff: Hz; what moves faster stays a movement inside the crop.

    Returns:
        T frames. Gaps are bridged; before the first face and after the last one the crop stands still.

    Raises:
        ValueError: no frame has a face.
    """
    there = [(f.left + f.side / 2, f.top + f.side / 2, np.log(f.side)) if f is not None else (np.nan,) * 3 for f in frames]
    table = np.array(there, dtype=np.float64).reshape(-1, 3)
    weights = np.isfinite(table[:, 0]).astype(np.float64)
    smooth = smooth_signals(table, weights, frame_times(len(frames), fps, times), cutoff)
    sides = np.exp(smooth[:, 2])
    return [CropFrame(float(x - s / 2), float(y - s / 2), float(s)) for (x, y), s in zip(smooth[:, :2], sides, strict=True)]
