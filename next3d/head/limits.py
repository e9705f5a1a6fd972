"""How far joints turn and which blend shapes go together: the ranges in which the default head is made to look right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams, Joint

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


SQUINT_SHARE = 0.42
"""How much of the opening between the lids a full squint takes; a blink takes all of it."""
TONGUE_JAW = 0.6
"""How far the jaw must be open for the tongue to come out, as a part of JOINT_LIMITS."""


def limit_expression(head: HeadModel, params: HeadParams) -> HeadParams:
    """The same heads without what goes through itself: strengths within [0, 1], and three that depend on others.

    A squint takes what a blink leaves of the opening (blink + 0.42 squint <= 1), lips close over no more than the jaw opens
    (mouthClose <= jaw), and the tongue comes out of an open mouth (0.6 tongueOut <= jaw). "jaw" is the joint's angle as a part of its
    limit, plus jawOpen.

    Args:
        head: a model with the ARKit names; those it does not have are skipped.
        params: N heads.
    """
    expression = params.expression.clamp(0, 1)
    column = {name: index for index, name in enumerate(head.expression_names)}
    jaw = params.pose[:, Joint.JAW, 0] / JOINT_LIMITS[Joint.JAW][0][1]
    if "jawOpen" in column:
        jaw = jaw + expression[:, column["jawOpen"]]
    most = {"mouthClose": jaw, "tongueOut": jaw / TONGUE_JAW}
    for side in ("Left", "Right"):
        if f"eyeBlink{side}" in column:
            most[f"eyeSquint{side}"] = (1 - expression[:, column[f"eyeBlink{side}"]]) / SQUINT_SHARE
    columns = list(expression.unbind(dim=1))
    for name, value in most.items():
        if name in column:
            columns[column[name]] = torch.minimum(columns[column[name]], value.clamp_min(0))
    return replace(params, expression=torch.stack(columns, dim=1) if columns else expression)
