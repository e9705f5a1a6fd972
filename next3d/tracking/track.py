"""The unknowns of a film's frames as curves, so that accelerations can be asked for.

A frame is x = (turn 3, place 3, motion M, habits B): its rotation relative to the clip's mean one as an axis-angle vector, radians; where its
centre appears along the camera's axis, (x / z, y / z, log z); and what `HeadState` calls motion and bias.
"""

from __future__ import annotations

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
    """States as rows [T, 6 + M + B]; `reference` is the rotation [3, 3] that is no turn."""
    turn = matrix_to_axis_angle(state.rotation.double() @ reference.T)
    centre = state.centre.double()
    place = torch.cat([centre[:, :2] / centre[:, 2:], centre[:, 2:].log()], dim=1)
    return torch.cat([turn, place, state.motion.double(), state.bias.double()], dim=1).cpu().numpy()


def from_track(track: Array, reference: Tensor, like: HeadState) -> HeadState:
    """Rows as states with the shapes of `like` and in its precision."""
    rows = torch.from_numpy(track).to(reference.device)
    motions = like.motion.shape[1]
    turn, place, motion, bias = rows.split([3, 3, motions, rows.shape[1] - RIGID - motions], dim=1)
    depth = place[:, 2:].exp()
    return HeadState(
        rotation=(axis_angle_to_matrix(turn) @ reference).to(like.rotation),
        centre=(torch.cat([place[:, :2], torch.ones_like(depth)], dim=1) * depth).to(like.centre),
        motion=motion.to(like.motion),
        bias=bias.to(like.bias),
        shape=like.shape,
    )


def along_track(hessian: Tensor, gradient: Tensor, track: Array) -> tuple[Array, Array]:
    """Normal equations of steps as `residuals.moved` takes them, [T, U, U] and [T, U], as those of changes of the track."""
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
