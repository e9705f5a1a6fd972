"""From the frame in which a head was fitted to EG3D's canonical one (docs/tracking.md, "Crop, camera and the canonical frame").

There every head sits in the same place, turned the same way, and the camera, 2.7 from the origin, carries the pose. A similarity of
the world (rotation, scale, shift) takes one frame to the other; cameras move along, so the pictures stay what they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.model import HeadModel, Joint, axis_angle_to_matrix
from next3d.render.cameras import PORTRAIT_RADIUS
from next3d.tracking.types import HeadFit
from next3d.types import Camera

FACE_MIDDLE = (0.0, 0.0, 0.2)
"""Where the canonical frame has the middle of a face (mean of eyes, tip of the nose and corners of the mouth), world units: the point that
EG3D's orbit videos look at. The lines of sight of the two labels that were at hand meet within 0.015 of it."""
DEFAULT_PITCH = -0.085
"""Global rotation about x that the canonical frame gives to the default head, radians; less than 0 lifts the chin. What EG3D's labels call
straight ahead is that much above what this head does. From two photos with labels and from FLAME's landmarks (docs/tracking.md)."""
_INNER = slice(17, 68)
"""Of the 68 landmarks: all but the outline."""

_LARGEST_NOD = 0.2
"""Head models that look up or down by more than this, radians, have other landmarks rather than another straight ahead."""


@dataclass(frozen=True)
class Home:
    """How the canonical frame has a head model."""

    pitch: float
    """Global rotation about x, radians."""
    translation: Tensor
    """[3], world units."""


@torch.no_grad()
def canonical(head: HeadModel, fit: HeadFit) -> HeadFit:
    """The same heads and the same pictures in the canonical frame.

    Args:
        head: the model that was fitted.
        fit: N heads and cameras in any world frame.

    Returns:
        Heads with the global rotation and the translation of `home(head)`; cameras 2.7 from the origin. Scales take up what is left, the
        distance at which the camera stood. Projections of vertices are those of `fit`.
    """
    params, axes, position = fit.params, fit.camera.cam2world[:, :3, :3], fit.camera.cam2world[:, :3, 3]
    place = home(head)
    pose = params.pose.clone()
    pose[:, Joint.GLOBAL] = pose.new_tensor([place.pitch, 0.0, 0.0])
    turn = axis_angle_to_matrix(pose[:, Joint.GLOBAL]) @ axis_angle_to_matrix(params.pose[:, Joint.GLOBAL]).transpose(1, 2)  # [N, 3, 3]
    rest = replace(params, pose=pose, translation=torch.zeros_like(params.translation), scale=torch.ones_like(params.scale))

    # Turned, the head that was fitted is `scale * own + moved`, whatever point its global rotation turns about.
    own, seen = head(rest).landmarks, head(params).landmarks @ turn.transpose(1, 2)  # [N, 68, 3] each
    moved = (seen - params.scale[:, None, None] * own).mean(dim=1)  # [N, 3]
    away = (turn @ position[..., None])[..., 0] - moved  # [N, 3]: from the head's origin to the camera
    target = place.translation.to(away)
    factor = _reach(target, away, PORTRAIT_RADIUS)  # [N]

    cam2world = fit.camera.cam2world.clone()
    cam2world[:, :3, :3] = turn @ axes
    cam2world[:, :3, 3] = target + factor[:, None] * away
    params = replace(rest, translation=target.expand_as(away).clone(), scale=factor * params.scale)
    return replace(fit, params=params, camera=Camera(cam2world, fit.camera.intrinsics))


@lru_cache(maxsize=4)
@torch.no_grad()
def home(head: HeadModel) -> Home:
    """How the canonical frame has a head model.

    Only of the default head it is said. Other models are laid upon it by their landmarks: their middles of eyes, nose and mouth meet, and
    their inner landmarks are turned alike. Heads are symmetric, so nothing moves or turns sideways.
    """
    default = load_head("procedural")
    params = head.neutral(1)
    own = head(params).landmarks[0].double().cpu()
    reference = default(default.neutral(1)).landmarks[0].double()
    pose = params.pose.clone()
    nod = _nod_between(own[_INNER], reference[_INNER])
    pose[:, Joint.GLOBAL, 0] = pitch = DEFAULT_PITCH + min(max(nod, -_LARGEST_NOD), _LARGEST_NOD)
    turned = head(replace(params, pose=pose)).landmarks[0]  # [68, 3]
    shift = turned.new_tensor(FACE_MIDDLE) - _middle(turned)
    shift[0] = 0
    return Home(pitch, shift)


def _middle(landmarks: Tensor) -> Tensor:
    """Of eyes, tip of the nose and corners of the mouth among 68 landmarks."""
    eyes = (landmarks[36:42].mean(dim=0), landmarks[42:48].mean(dim=0))
    return torch.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]]).mean(dim=0)


def _nod_between(source: Tensor, target: Tensor) -> float:
    """Angle about x, radians, that turns points [K, 3] the most like others, least squares about their means whatever their scale."""
    a, b = (points - points.mean(dim=0) for points in (source, target))
    across = (a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]).sum()
    return float(torch.atan2(across, (a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]).sum()))


def _reach(start: Tensor, direction: Tensor, radius: float) -> Tensor:
    """How many times directions [N, 3] lead from a point [3] inside the sphere around the origin to that sphere: [N], positive."""
    a, b, c = (direction * direction).sum(-1), (direction * start).sum(-1), (start * start).sum() - radius * radius
    return ((b * b - a * c).sqrt() - b) / a
