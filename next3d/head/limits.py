"""How far the joints of a head turn: the ranges in which the default head is made to look right."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from next3d.head.model import Joint

Range = tuple[float, float]

JOINT_LIMITS: Mapping[Joint, tuple[Range, Range, Range]] = MappingProxyType(
    {
        Joint.NECK: ((-0.45, 0.45), (-0.8, 0.8), (-0.35, 0.35)),
        Joint.JAW: ((0.0, 0.35), (-0.06, 0.06), (0.0, 0.0)),
        Joint.LEFT_EYE: ((-0.4, 0.45), (-0.6, 0.6), (0.0, 0.0)),
        Joint.RIGHT_EYE: ((-0.4, 0.45), (-0.6, 0.6), (0.0, 0.0)),
    }
)
"""Least and greatest axis-angle component per axis (x, y, z), radians. Positive x nods, opens the jaw and lowers the eyes; positive y
turns towards +x. Joint.GLOBAL is free."""


def limit_pose(pose: Tensor) -> Tensor:
    """The nearest pose within JOINT_LIMITS.

    Args:
        pose: [N, 5, 3], as in `HeadParams`.

    Returns:
        The same shape; gradients pass where nothing was limited.
    """
    low, high = torch.full_like(pose[0], -torch.inf), torch.full_like(pose[0], torch.inf)
    for joint, ranges in JOINT_LIMITS.items():
        low[joint], high[joint] = pose.new_tensor(ranges).unbind(dim=1)
    return torch.minimum(torch.maximum(pose, low), high)
