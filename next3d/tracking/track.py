"""The unknowns of a film's frames as curves, so that accelerations can be asked for.

A frame is x = (turn 3, place 3, motion M): its rotation relative to the clip's mean one as an axis-angle vector, radians; where its centre
appears, and how far away, (x / z, y / z, log z); and what `HeadState` calls motion. A detector's habits with this frame (`HeadState.bias`)
are noise: they differ from frame to frame and are eliminated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from next3d.head.model import axis_angle_to_matrix, matrix_to_axis_angle
from next3d.tracking.residuals import RIGID, HeadState, turning_rates

Array = npt.NDArray[np.float64]


def mean_rotation(rotations: Tensor) -> Tensor:
    """The rotation [3, 3] nearest to rotations [N, 3, 3], by least squares of the matrices."""
    left, _, right = torch.linalg.svd(rotations.double().mean(dim=0))
    sign = torch.ones(3, dtype=left.dtype, device=left.device)
    sign[2] = torch.linalg.det(left @ right)
    return left * sign @ right


def to_track(state: HeadState, reference: Tensor) -> Array:
    """States as rows [T, 6 + M]; `reference` is the rotation [3, 3] that is no turn."""
    turn = matrix_to_axis_angle(state.rotation.double() @ reference.T)
    centre = state.centre.double()
    place = torch.cat([centre[:, :2] / centre[:, 2:], centre[:, 2:].log()], dim=1)
    return torch.cat([turn, place, state.motion.double()], dim=1).cpu().numpy()


def from_track(track: Array, reference: Tensor, like: HeadState) -> HeadState:
    """Rows as states with the habits and shapes of `like`, and in its precision."""
    rows = torch.from_numpy(track).to(reference.device)
    turn, place, motion = rows[:, :3], rows[:, 3:RIGID], rows[:, RIGID:]
    depth = place[:, 2:].exp()
    return replace(
        like,
        rotation=(axis_angle_to_matrix(turn) @ reference).to(like.rotation),
        centre=(torch.cat([place[:, :2], torch.ones_like(depth)], dim=1) * depth).to(like.centre),
        motion=motion.to(like.motion),
    )


@dataclass(frozen=True)
class Habits:
    """How each frame's habits B follow from its other unknowns: the best change of bias is `rest + follow @ change of x`."""

    rest: Tensor
    """[T, B]."""
    follow: Tensor
    """[T, B, D]."""

    def after(self, bias: Tensor, change: Array) -> Tensor:
        """Habits [T, B] after x changed [T, D]."""
        moved = self.follow @ torch.from_numpy(change).to(self.follow)[..., None]
        return bias + (self.rest + moved[..., 0]).to(bias)


def without_habits(hessian: Tensor, gradient: Tensor, habits: int) -> tuple[Tensor, Tensor, Habits]:
    """Normal equations [T, U, U] and [T, U] without the last `habits` unknowns, each of which takes its best value (Schur complement)."""
    own = hessian.shape[1] - habits
    square, pull = hessian.double(), gradient.double()
    both = torch.cat([pull[:, own:, None], square[:, own:, :own]], dim=2)
    answer = torch.cholesky_solve(both, torch.linalg.cholesky(square[:, own:, own:]))  # [T, B, 1 + D]
    found = Habits(-answer[..., 0], -answer[..., 1:])
    across = square[:, :own, own:]
    return square[:, :own, :own] + across @ found.follow, pull[:, :own] + (across @ found.rest[..., None])[..., 0], found


def along_track(hessian: Tensor, gradient: Tensor, track: Array) -> tuple[Array, Array]:
    """Normal equations of steps as `residuals.moved` takes them, [T, D, D] and [T, D], as those of changes of the track."""
    rows = torch.from_numpy(track).to(hessian.device)
    slopes = torch.zeros(len(rows), RIGID, RIGID, dtype=torch.float64, device=hessian.device)
    slopes[:, :3, :3] = turning_rates(rows[:, :3]).transpose(1, 2)
    slopes[:, 3:, 3:] = torch.eye(3, dtype=torch.float64, device=hessian.device)
    slopes[:, 3:5, 5] = rows[:, 3:5]
    square, pull = hessian.double().clone(), gradient.double().clone()
    square[:, :RIGID] = slopes.transpose(1, 2) @ square[:, :RIGID]
    square[:, :, :RIGID] = square[:, :, :RIGID] @ slopes
    pull[:, :RIGID] = (slopes.transpose(1, 2) @ pull[:, :RIGID, None])[..., 0]
    return square.cpu().numpy(), pull.cpu().numpy()
