"""From the frame in which a head was fitted to EG3D's canonical one (docs/tracking.md, "Crop, camera and the canonical frame").

There every head sits in the same place with its global rotation at zero, and the camera, 2.7 from the origin, carries the pose. A similarity of
the world (rotation, scale, shift) takes one frame to the other; cameras move along, so the pictures stay what they were.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from next3d.head.model import HeadModel, Joint, axis_angle_to_matrix
from next3d.render.cameras import PORTRAIT_RADIUS
from next3d.tracking.types import HeadFit
from next3d.types import Camera

DEFAULT_HEAD_PLACE = (0.0, 0.030, 0.0)
"""Where the canonical frame has the default head's origin, world units. Height: from the two photos with labels (docs/tracking.md); sideways
and in depth the two frames agree, the first by symmetry, the second as far as those photos can tell."""
DEFAULT_HEAD_MIDDLE = (0.0, -0.0341, 0.2025)
"""Mean of eyes, tip of the nose and corners of the mouth among the default head's 68 landmarks: what other models are laid upon."""


@torch.no_grad()
def canonical(head: HeadModel, fit: HeadFit) -> HeadFit:
    """The same heads and the same pictures in the canonical frame.

    Args:
        head: the model that was fitted.
        fit: N heads and cameras in any world frame.

    Returns:
        Heads with global rotation zero at `place(head)`; cameras 2.7 from the origin. Scales take up what is left: the distance at which
        the camera stood. Projections of vertices are those of `fit`.
    """
    params, axes, position = fit.params, fit.camera.cam2world[:, :3, :3], fit.camera.cam2world[:, :3, 3]
    turn = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL])  # [N, 3, 3]
    pose = params.pose.clone()
    pose[:, Joint.GLOBAL] = 0
    rest = replace(params, pose=pose, translation=torch.zeros_like(params.translation), scale=torch.ones_like(params.scale))

    # Turned back, the head is `scale * own + moved`: what a global rotation about any joint amounts to.
    own, seen = head(rest).landmarks, head(params).landmarks @ turn  # [N, 68, 3] each
    moved = (seen - params.scale[:, None, None] * own).mean(dim=1)  # [N, 3]
    away = (position[:, None] @ turn)[:, 0] - moved  # [N, 3]: from the head's origin to the camera
    home = place(head).to(away)
    factor = _reach(home, away, PORTRAIT_RADIUS)  # [N]

    cam2world = fit.camera.cam2world.clone()
    cam2world[:, :3, :3] = turn.transpose(1, 2) @ axes
    cam2world[:, :3, 3] = home + factor[:, None] * away
    params = replace(rest, translation=home.expand_as(away).clone(), scale=factor * params.scale)
    return replace(fit, params=params, camera=Camera(cam2world, fit.camera.intrinsics))


@lru_cache(maxsize=4)
def place(head: HeadModel) -> Tensor:
    """Where the canonical frame has a head model's origin, world units [3].

    The middles of eyes, nose and mouth of all models come to lie in one point; of the default head's frame only `DEFAULT_HEAD_PLACE` is said.
    """
    points = head(head.neutral(1)).landmarks[0]  # [68, 3]
    middle = torch.stack([points[36:42].mean(dim=0), points[42:48].mean(dim=0), points[30], points[48], points[54]]).mean(dim=0)
    shift = (points.new_tensor(DEFAULT_HEAD_MIDDLE) - middle) * points.new_tensor([0.0, 1.0, 1.0])  # heads are symmetric
    return (points.new_tensor(DEFAULT_HEAD_PLACE) + shift).detach()


def _reach(start: Tensor, direction: Tensor, radius: float) -> Tensor:
    """How many times directions [N, 3] lead from a point [3] inside the sphere around the origin to that sphere: [N], positive."""
    a, b, c = (direction * direction).sum(-1), (direction * start).sum(-1), (start * start).sum() - radius * radius
    return ((b * b - a * c).sqrt() - b) / a
