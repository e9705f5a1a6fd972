"""The banded solution is that of the whole system, and does what it is for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from next3d.tracking.temporal import Motion, solve_over_time

Array = npt.NDArray[np.float64]


@pytest.fixture
def numbers() -> np.random.Generator:
    """A fresh stream for every test."""
    return np.random.default_rng(0)


def unlimited(width: int) -> tuple[Array, Array, Array]:
    """Edges and limits that do nothing."""
    return np.full(width, np.inf), np.full(width, -np.inf), np.full(width, np.inf)


def test_equals_the_dense_solution(numbers: np.random.Generator) -> None:
    """Uneven times, a frame that was not seen, prices that differ."""
    count, width = 9, 4
    slopes = numbers.standard_normal((count, 12, width))
    hessian, gradient = slopes.transpose(0, 2, 1) @ slopes, numbers.standard_normal((count, width))
    hessian[4], gradient[4] = 0, 0
    values, times = numbers.standard_normal((count, width)), np.cumsum(numbers.uniform(0.02, 0.06, count))
    price = numbers.uniform(1, 2, width) * 1e-6
    found = solve_over_time(hessian, gradient, values, times, Motion(price, *unlimited(width)), 0)

    def slope(x: Array) -> Array:
        """Of the objective, by its definition."""
        step = x - values
        speed = np.diff(x, axis=0) / np.diff(times)[:, None]
        half = (times[2:] - times[:-2])[:, None] / 2
        bend = np.diff(speed, axis=0) / half  # [T - 2, D]
        pull = np.zeros_like(x)
        before, after = np.diff(times)[:-1, None], np.diff(times)[1:, None]
        pull[:-2] += price * bend / (before * half)
        pull[1:-1] -= price * bend * (1 / before + 1 / after) / half
        pull[2:] += price * bend / (after * half)
        return np.asarray(np.einsum("tij,tj->ti", hessian, step) + gradient + pull)

    assert np.abs(slope(found)).max() < 1e-8 * np.abs(slope(values)).max()


def test_edges_let_a_jump_through() -> None:
    """A step of 1 in one of two unknowns; the price of a jump falls with its size, that of noise does not."""
    count = 60
    truth = np.stack([np.arange(count) >= 30, np.zeros(count)], axis=1).astype(float)
    hessian = np.tile(np.eye(2), (count, 1, 1))
    times = np.arange(count) / 25
    price = np.full(2, 1e-5)
    nothing = np.zeros((count, 2))
    plain = solve_over_time(hessian, nothing, truth, times, Motion(price, *unlimited(2)), 0)
    kept = solve_over_time(hessian, nothing, truth, times, Motion(price, np.array([60.0, np.inf]), *unlimited(2)[1:]), 5)
    assert plain[30, 0] - plain[29, 0] < 0.6
    assert kept[30, 0] - kept[29, 0] > 0.85
    assert np.abs(kept[:, 1]).max() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_frames_without_neighbours_are_solved_alone(count: int) -> None:
    hessian = np.tile(np.diag([2.0, 4.0]), (count, 1, 1))
    gradient = np.ones((count, 2))
    found = solve_over_time(hessian, gradient, np.zeros((count, 2)), np.arange(count) / 25, Motion(np.ones(2), *unlimited(2)), 0)
    np.testing.assert_allclose(found, [[-0.5, -0.25]] * count)
