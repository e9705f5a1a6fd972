"""From the frame in which a head was fitted to EG3D's canonical one (docs/tracking.md, "Crop, camera and the canonical frame").

There the head's global rotation is zero, so that the camera carries the pose, and the camera looks at the origin from 2.7. A similarity
of the world takes one to the other; cameras move along, so the pictures stay what they were.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from next3d.head.model import HeadModel, Joint, axis_angle_to_matrix
from next3d.render.cameras import PORTRAIT_RADIUS
from next3d.tracking.align import FFHQ, Framing
from next3d.tracking.types import HeadFit
from next3d.types import Camera


@torch.no_grad()
def canonical(head: HeadModel, fit: HeadFit, framing: Framing = FFHQ) -> HeadFit:
    """The same heads and pictures in the canonical frame.

    Args:
        head: the model that was fitted.
        fit: N heads in any world frame.
        framing: where crops have the face; decides which of the similar worlds is taken.

    Returns:
        Heads with global rotation zero; cameras at 2.7 from the origin that look at it. Projections of vertices are those of `fit`.
    """
    pose = fit.params.pose.clone()
    turn = axis_angle_to_matrix(pose[:, Joint.GLOBAL])  # [N, 3, 3]
    pose[:, Joint.GLOBAL] = 0
    rest = replace(
        fit.params, pose=pose, translation=torch.zeros_like(fit.params.translation), scale=torch.ones_like(fit.params.scale)
    )
    own = head(rest).landmarks  # [N, 68, 3], at the model's own place
    seen = head(fit.params).landmarks
    rotation, position = fit.camera.cam2world[:, :3, :3], fit.camera.cam2world[:, :3, 3]
    axes = turn.transpose(1, 2) @ rotation  # [N, 3, 3]: the camera's, in the turned world
    moved_position = -PORTRAIT_RADIUS * axes[:, :, 2]
    rays = (seen - position[:, None]) @ turn  # [N, 68, 3]: from the camera, in the turned world
    wanted = own + place(head, framing) - moved_position[:, None]
    factor = (rays * wanted).sum(dim=(1, 2)) / (rays * rays).sum(dim=(1, 2))  # [N]
    scale = factor * fit.params.scale
    moved = factor[:, None, None] * rays + moved_position[:, None]
    translation = (moved - scale[:, None, None] * own).mean(dim=1)
    params = replace(rest, translation=translation, scale=scale)
    cam2world = fit.camera.cam2world.clone()
    cam2world[:, :3, :3], cam2world[:, :3, 3] = axes, moved_position
    return replace(fit, params=params, camera=Camera(cam2world, fit.camera.intrinsics))


def place(head: HeadModel, framing: Framing = FFHQ) -> Tensor:
    """Where the canonical frame has a head model's origin, world units [3]."""
    return -torch.tensor(framing.centre, device=head.neutral(1).shape.device)
