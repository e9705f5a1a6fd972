"""Frames as curves: there and back, and normal equations that mean the same."""

from __future__ import annotations

import torch

from next3d.head.model import axis_angle_to_matrix
from next3d.tracking.batches import chunks, concatenate
from next3d.tracking.residuals import HeadState, moved
from next3d.tracking.track import along_track, from_track, mean_rotation, to_track, without_habits
from next3d.types import Camera


def states(count: int, rng: torch.Generator) -> HeadState:
    """In double precision, up to half a radian around a common pose."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=rng, dtype=torch.float64)

    base = axis_angle_to_matrix(torch.tensor([2.9, 0.3, 0.2], dtype=torch.float64))
    return HeadState(
        rotation=axis_angle_to_matrix(0.3 * draw(3)) @ base,
        centre=0.1 * draw(3) + torch.tensor([0.0, 0.0, 2.7], dtype=torch.float64),
        motion=draw(5),
        bias=draw(2),
        shape=draw(0),
    )


def test_there_and_back(rng: torch.Generator) -> None:
    state = states(7, rng)
    reference = mean_rotation(state.rotation)
    back = from_track(to_track(state, reference), reference, state)
    for name in ("rotation", "centre", "motion"):
        torch.testing.assert_close(getattr(back, name), getattr(state, name), rtol=0, atol=1e-6)


def test_a_change_of_the_track_is_the_step_that_the_equations_mean(rng: torch.Generator) -> None:
    """The cost of a small change, by the equations along the track, is that of the step which leads to the same state."""
    state = states(4, rng)
    reference = mean_rotation(state.rotation)
    track = to_track(state, reference)
    step = 1e-4 * torch.randn(4, 11, generator=rng, dtype=torch.float64)
    change = to_track(moved(state, torch.cat([step, torch.zeros(4, 2, dtype=torch.float64)], dim=1)), reference) - track
    slopes = torch.randn(4, 20, 11, generator=rng, dtype=torch.float64)
    square, pull = slopes.transpose(1, 2) @ slopes, torch.randn(4, 11, generator=rng, dtype=torch.float64)
    hessian, gradient = (torch.from_numpy(one) for one in along_track(square, pull, track))
    there = torch.from_numpy(change)
    torch.testing.assert_close((gradient * there).sum(1), (pull * step).sum(1), rtol=2e-3, atol=1e-8)
    ours, own = ((there[:, None] @ hessian @ there[..., None]).flatten(), (step[:, None] @ square @ step[..., None]).flatten())
    torch.testing.assert_close(ours, own, rtol=2e-3, atol=1e-10)


def test_habits_are_eliminated_exactly(rng: torch.Generator) -> None:
    slopes = torch.randn(3, 30, 8, generator=rng, dtype=torch.float64)
    hessian, gradient = slopes.transpose(1, 2) @ slopes, torch.randn(3, 8, generator=rng, dtype=torch.float64)
    whole = -torch.linalg.solve(hessian, gradient[..., None])[..., 0]
    square, pull, habits = without_habits(hessian, gradient, 3)
    own = -torch.linalg.solve(square, pull[..., None])[..., 0]
    torch.testing.assert_close(own, whole[:, :5])
    torch.testing.assert_close(habits.after(torch.zeros(3, 3, dtype=torch.float64), own.numpy()), whole[:, 5:])


def test_chunks_put_together_again(rng: torch.Generator) -> None:
    camera = Camera(torch.randn(150, 4, 4, generator=rng), torch.randn(150, 3, 3, generator=rng))
    parts = [camera[rows] for rows in chunks(150)]
    assert len(parts) > 1
    assert concatenate(parts).cam2world.equal(camera.cam2world)
