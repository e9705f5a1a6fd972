"""What can be commanded of a head: the jaw, the eyes, the lids. Each control says how to set it, how to read it, and where it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams, Joint

MOUTH_AND_CHIN = (*range(4, 13), *range(48, 68))
"""Landmarks of the jaw line around the chin, and of the lips."""
RIGHT_EYE = tuple(range(36, 42))
"""Landmarks around the person's right eye (left in the picture)."""
LEFT_EYE = tuple(range(42, 48))


@dataclass(frozen=True)
class Control:
    """One number that poses a head: several entries of the head parameters that move together."""

    name: str
    low: float
    """One end of the range over which it is moved: closed mouth, eyes to -x, open lids."""
    high: float
    """The other end."""
    areas: tuple[tuple[int, ...], ...]
    """Landmarks around each convex area of the picture that it should change."""
    pose_entries: tuple[tuple[int, int], ...] = ()
    """(joint, axis) entries of the pose that carry the value."""
    expression_entries: tuple[int, ...] = ()
    """Expression coefficients that carry the value."""
    mirror_sign: int = 1
    """What the value is multiplied by in a mirror image; its areas trade places there."""

    def set(self, params: HeadParams, value: Tensor) -> HeadParams:
        """Parameters of N heads with the control at `value` [N] and everything else as it was."""
        pose, expression = params.pose.clone(), params.expression.clone()
        for joint, axis in self.pose_entries:
            pose[:, joint, axis] = value
        for entry in self.expression_entries:
            expression[:, entry] = value
        return replace(params, pose=pose, expression=expression)

    def read(self, params: HeadParams) -> Tensor:
        """The control's value [N]: the mean of its entries."""
        entries = [params.pose[:, joint, axis] for joint, axis in self.pose_entries]
        entries += [params.expression[:, entry] for entry in self.expression_entries]
        return torch.stack(entries).mean(dim=0)

    def at(self, fraction: Tensor) -> Tensor:
        """Values at fractions of the range: 0 is its low end, 1 its high end."""
        return self.low + (self.high - self.low) * fraction


def controls(head: HeadModel) -> Mapping[str, Control]:
    """The controls that a head model has: jaw and gaze always, blink where there are directions named eyeBlink*.

    The ranges are those of wide open (20 degrees), eyes 20 degrees to either side, and lids from open to shut.
    """
    eyes = (RIGHT_EYE, LEFT_EYE)
    turn = math.radians(20)
    found = {
        "jaw": Control("jaw", 0.0, 0.35, (MOUTH_AND_CHIN,), pose_entries=((Joint.JAW, 0),)),
        "gaze": Control("gaze", -turn, turn, eyes, pose_entries=((Joint.LEFT_EYE, 1), (Joint.RIGHT_EYE, 1)), mirror_sign=-1),
    }
    lids = tuple(head.expression_names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight") if name in head.expression_names)
    if lids:
        found["blink"] = Control("blink", 0.0, 1.0, eyes, expression_entries=lids)
    return found
