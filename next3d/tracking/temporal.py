"""Least squares over the frames of a film: each frame's own normal equations, joined by prices on acceleration.

The unknowns of T frames are x [T, D]. A frame asks for H_t dx_t = -g_t; time adds a sum of squared accelerations of every unknown, which
couples a frame with the two before and the two after it. The whole is one positive definite band of half-width 2 D, and is solved exactly
by a banded Cholesky factorisation: the time it takes grows linearly with T. Limits are stiff springs on the unknowns that are beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from next3d.tracking.smooth import FIRST_LOOK, Accelerations

Array = npt.NDArray[np.float64]

_STIFF = 1e3
"""How hard a limit pushes back, in parts of what the frames ask."""


@dataclass(frozen=True)
class Motion:
    """What is expected of D unknowns over time."""

    price: Array
    """[D]: of a squared acceleration (unit per second squared), in the units of the frames' objective."""
    edge: Array
    """[D]: accelerations above this are taken for real, and cost the less the larger they are; infinite where nothing jumps."""
    low: Array
    """[D]: least values; minus infinity where there is no limit."""
    high: Array
    """[D]."""

    def weights(self, accelerations: Array) -> Array:
        """Prices [T - 2, D] of accelerations [T - 2, D] (iteratively reweighted least squares for the cost log(1 + a^2 / edge^2))."""
        return np.asarray(self.price / (1 + (accelerations / self.edge) ** 2))


def solve_over_time(hessian: Array, gradient: Array, values: Array, times: Array, motion: Motion, rounds: int) -> Array:
    """New values of all frames.

    Args:
        hessian: [T, D, D], symmetric, positive definite where a frame was seen, 0 where it was not.
        gradient: [T, D], at `values`; 0 where a frame was not seen.
        values: [T, D].
        times: [T], seconds, strictly increasing.
        motion: prices and limits.
        rounds: how often edges and limits are looked at anew, after a first look at low prices; 0 where there are none.

    Returns:
        [T, D], within the limits.
    """
    target = np.einsum("tij,tj->ti", hessian, values) - gradient
    stiff = _STIFF * hessian.diagonal(axis1=1, axis2=2).max(axis=0)
    band, rows = _frame_band(hessian), Accelerations.at(times)
    below, above = values <= motion.low, values >= motion.high
    plain = np.broadcast_to(motion.price, (max(len(values) - 2, 0), len(motion.price)))
    weights = plain / FIRST_LOOK**4 if rounds else plain
    for _ in range(rounds + 1):
        held = stiff * (below | above)
        bound = np.where(below, motion.low, np.where(above, motion.high, 0.0))
        values = _solve(band, held, target + held * bound, rows.price(weights))
        below, above = values < motion.low, values > motion.high
        weights = motion.weights(rows(values))
    return values.clip(motion.low, motion.high)


def _frame_band(hessian: Array) -> Array:
    """The frames' blocks as the lower half [2 D + 1, T D] of a band."""
    count, width = hessian.shape[:2]
    band = np.zeros((2 * width + 1, count, width))
    for offset in range(width):
        band[offset, :, : width - offset] = np.diagonal(hessian, -offset, axis1=1, axis2=2)
    return band.reshape(2 * width + 1, count * width)


def _solve(frames: Array, held: Array, target: Array, price: tuple[Array, Array, Array]) -> Array:
    """Add the diagonals of limits and prices, and solve."""
    count, width = target.shape
    band = frames.copy()
    main, one, two = price
    band[0] += (main + held).ravel()
    if count > 1:
        band[width, : (count - 1) * width] += one.ravel()
    if count > 2:
        band[2 * width, : (count - 2) * width] += two.ravel()
    return solveh_banded(band, target.ravel(), overwrite_ab=True, lower=True, check_finite=False).reshape(count, width)
