"""Batched Levenberg-Marquardt (Marquardt 1963) over heads that may share their shape, with limits on the unknowns.

Every head's normal equations are those of its picture and its prior. Who is shared is eliminated last: a head's own unknowns leave a
Schur complement in its person's shape (Triggs et al., "Bundle adjustment", 2000, Sec. 6). Limits are kept as projected Newton methods do
(Bertsekas 1982): unknowns that lie on a limit and want beyond it sit out. Points that do not fit are believed less (Geman and McClure).
The number of steps is fixed, so that nothing waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.tracking.noise import DetectorNoise
from next3d.tracking.points import PointModel
from next3d.tracking.priors import SHAPE_LIMIT, Prior
from next3d.tracking.residuals import RIGID, HeadState, View, moved, predict, predict_with_slopes
from next3d.types import TensorBundle

_CHUNK = 16
"""Heads whose derivatives are held at a time."""
_MEDIAN = 2.37
"""Of the squared length of a vector of three standard normals."""
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-6, 1e6


@dataclass(frozen=True)
class Problem:
    """N heads to be found. Everything that does not change during the fit."""

    points: PointModel
    view: View
    noise: DetectorNoise
    prior: Prior
    people: Tensor
    """[N] int64, 0 ... P - 1: heads with the same number share their shape."""
    persons: int
    """P."""
    fixed_shape: bool = False
    cut: float = 4.0
    """Distances in standard deviations of a point from which it is believed little."""


@dataclass(frozen=True)
class Normal(TensorBundle):
    """Quadratic models of the costs of N heads, without the prior of the shape, which belongs to the person."""

    hessian: Tensor
    """[N, U, U]."""
    gradient: Tensor
    """[N, U]."""
    cost: Tensor
    """[N]."""
    weight: Tensor
    """[N, K]: how much points are believed."""


def minimise(problem: Problem, state: HeadState, steps: int) -> HeadState:
    """The state after a number of steps, each of which is taken by those persons whom it makes better off."""
    damping = state.shape.new_full((problem.persons,), _FIRST_DAMPING)
    state = within_limits(problem, state)
    for _ in range(steps):
        normal = linearise(problem, state)
        step = solve(problem, state, normal, damping)
        tried = within_limits(problem, moved(state, step))
        before, after = total_cost(problem, state, normal.cost), total_cost(problem, tried, cost(problem, tried, normal.weight))
        better = after < before  # false for NaN
        state = _choose(better[problem.people], tried, state)
        damping = torch.where(better, damping * 0.2, damping * 8).clamp(_LEAST_DAMPING, _MOST_DAMPING)
    return state


def linearise(problem: Problem, state: HeadState) -> Normal:
    """The normal equations of each head, with its points weighted by how well they fit."""
    parts = [_linearise(_part(problem, slice(i, i + _CHUNK)), state[i : i + _CHUNK]) for i in range(0, len(state.shape), _CHUNK)]
    return Normal(*(torch.cat(rows) for rows in zip(*[(p.hessian, p.gradient, p.cost, p.weight) for p in parts], strict=True)))


def _part(problem: Problem, rows: slice) -> Problem:
    return replace(problem, view=problem.view[rows], people=problem.people[rows])


def _linearise(problem: Problem, state: HeadState) -> Normal:
    expected, slopes = predict_with_slopes(problem.points, state, problem.view, problem.noise)
    error = (expected - problem.view.target) / problem.noise.spread  # [N, K, 3]
    weight = believed(error, problem.view.trust, problem.cut)
    root = (weight.sqrt()[..., None] / problem.noise.spread)[..., None]
    jacobian = (slopes * root).flatten(1, 2)  # [N, 3 K, U]
    residual = (error * weight.sqrt()[..., None]).flatten(1)
    hessian = jacobian.transpose(1, 2) @ jacobian
    gradient = (jacobian.transpose(1, 2) @ residual[..., None])[..., 0]
    nod, axis = _nod(problem, state)
    hessian[:, :3, :3] += problem.prior.nod * axis[:, :, None] * axis[:, None, :]
    gradient[:, :3] += problem.prior.nod * nod[:, None] * axis
    motions, habits = state.motion.shape[1], state.bias.shape[1]
    middle, own = slice(RIGID, RIGID + motions), slice(RIGID + motions, RIGID + motions + habits)
    hessian[:, middle, middle] += problem.prior.motion
    gradient[:, middle] += state.motion @ problem.prior.motion
    hessian[:, own, own] += torch.eye(habits, dtype=hessian.dtype, device=hessian.device)
    gradient[:, own] += state.bias
    return Normal(hessian, gradient, 0.5 * (residual * residual).sum(dim=1) + _prior_cost(problem, state), weight)


def believed(error: Tensor, trust: Tensor, cut: float) -> Tensor:
    """Weights [N, K] in [0, 1] of points with errors [N, K, 3] in standard deviations, relative to how well the head fits as a whole."""
    squared = (error * error).sum(dim=2)
    usual = squared.median(dim=1, keepdim=True).values / _MEDIAN
    return trust / (1 + squared / (cut * cut * usual.clamp_min(1))) ** 2


def cost(problem: Problem, state: HeadState, weight: Tensor) -> Tensor:
    """[N]: cost of each head with given weights of points, without the prior of the shape."""
    error = (predict(problem.points, state, problem.view, problem.noise) - problem.view.target) / problem.noise.spread
    return 0.5 * (weight[..., None] * error * error).sum(dim=(1, 2)) + _prior_cost(problem, state)


def _prior_cost(problem: Problem, state: HeadState) -> Tensor:
    motion = ((state.motion @ problem.prior.motion) * state.motion).sum(dim=1)
    nod = _nod(problem, state)[0]
    return 0.5 * (motion + (state.bias * state.bias).sum(dim=1) + problem.prior.nod * nod * nod)


def _nod(problem: Problem, state: HeadState) -> tuple[Tensor, Tensor]:
    """[N]: sine of how far heads look down in the upright picture, and [N, 3] how it grows as they turn."""
    ahead, down = state.rotation[:, :, 2], F.normalize(problem.view.axes[:, 1], dim=1)
    return (ahead * down).sum(dim=1), torch.linalg.cross(ahead, down, dim=1)


def total_cost(problem: Problem, state: HeadState, own: Tensor) -> Tensor:
    """[P]: cost of each person, from those [N] of the heads and the prior of the shape."""
    total = own.new_zeros(problem.persons).index_add(0, problem.people, own)
    return total + 0.5 * _of_persons(problem, (problem.prior.shape * state.shape * state.shape).sum(dim=1))


def _of_persons(problem: Problem, rows: Tensor) -> Tensor:
    """Of rows [N, ...] that are equal within a person, one per person [P, ...]."""
    return rows.new_zeros(problem.persons, *rows.shape[1:]).index_copy(0, problem.people, rows)


def within_limits(problem: Problem, state: HeadState) -> HeadState:
    """The nearest state that is allowed."""
    motion = state.motion.clamp(problem.prior.low, problem.prior.high)
    shape = state.shape if problem.fixed_shape else state.shape.clamp(-SHAPE_LIMIT, SHAPE_LIMIT)
    return replace(state, motion=motion, shape=shape)


def solve(problem: Problem, state: HeadState, normal: Normal, damping: Tensor) -> Tensor:
    """The damped step [N, U] of heads, of which those of one person agree in the shape."""
    shapes, motions = state.shape.shape[1], state.motion.shape[1]
    own = normal.hessian.shape[1] - shapes
    diagonal = normal.hessian.diagonal(dim1=1, dim2=2)
    free = torch.ones_like(diagonal)
    low, high, pull = problem.prior.low, problem.prior.high, normal.gradient[:, RIGID : RIGID + motions]
    stuck = ((state.motion <= low) & (pull >= 0)) | ((state.motion >= high) & (pull <= 0)) | (low == high)
    free[:, RIGID : RIGID + motions] = (~stuck).to(free.dtype)
    hessian = normal.hessian * free[:, :, None] * free[:, None, :]
    hessian = hessian + torch.diag_embed(1 - free + damping[problem.people, None] * diagonal * free)
    gradient = normal.gradient * free
    factor = torch.linalg.cholesky_ex(hessian[:, :own, :own]).L
    if problem.fixed_shape or shapes == 0:
        step = -torch.cholesky_solve(gradient[:, :own, None], factor)[..., 0]
        return torch.cat([step, torch.zeros_like(gradient[:, own:])], dim=1)
    known = torch.cholesky_solve(torch.cat([hessian[:, :own, own:], gradient[:, :own, None]], dim=2), factor)
    reduced = torch.cat([hessian[:, own:, own:], gradient[:, own:, None]], dim=2) - hessian[:, own:, :own] @ known
    shape = _shape_step(problem, state, reduced, damping)[problem.people]
    step = -known[..., -1] - (known[..., :-1] @ shape[..., None])[..., 0]
    return torch.cat([step, shape], dim=1)


def _shape_step(problem: Problem, state: HeadState, reduced: Tensor, damping: Tensor) -> Tensor:
    """[P, S], from the heads' Schur complements with their right sides [N, S, S + 1]."""
    summed = reduced.new_zeros(problem.persons, *reduced.shape[1:]).index_add(0, problem.people, reduced)
    shape = _of_persons(problem, state.shape)
    gradient = summed[..., -1] + problem.prior.shape * shape
    stuck = ((shape <= -SHAPE_LIMIT) & (gradient >= 0)) | ((shape >= SHAPE_LIMIT) & (gradient <= 0))
    free = (~stuck).to(reduced.dtype)
    hessian = summed[..., :-1] * free[:, :, None] * free[:, None, :]
    hessian = hessian + torch.diag_embed(1 - free + free * problem.prior.shape * (1 + damping[:, None]))
    return -torch.cholesky_solve((gradient * free)[..., None], torch.linalg.cholesky_ex(hessian).L)[..., 0]


def _choose(better: Tensor, tried: HeadState, old: HeadState) -> HeadState:
    def pick(new: Tensor, before: Tensor) -> Tensor:
        return torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, before)

    return HeadState(
        rotation=pick(tried.rotation, old.rotation),
        centre=pick(tried.centre, old.centre),
        motion=pick(tried.motion, old.motion),
        bias=pick(tried.bias, old.bias),
        shape=pick(tried.shape, old.shape),
    )
