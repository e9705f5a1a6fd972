"""Cameras: the portrait default, orbits and projection. OpenCV axes, intrinsics normalised by the image size (EG3D)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.types import Camera

PORTRAIT_FOCAL = 4.2647
"""Normalised focal length of EG3D's portraits: 13.37 degrees of view per axis."""
PORTRAIT_RADIUS = 2.7
"""Distance from the world origin, world units."""
ORBIT_TARGET = (0.0, 0.0, 0.2)
"""The point that orbit videos look at."""


def portrait_intrinsics(count: int = 1, *, focal: float = PORTRAIT_FOCAL, device: torch.device | str = "cpu") -> Tensor:
    """Normalised intrinsics [count, 3, 3] with the principal point in the centre."""
    matrix = torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]], device=device)
    return matrix.expand(count, 3, 3).clone()


def orbit_camera(
    yaw: Tensor,
    pitch: Tensor,
    *,
    radius: float = PORTRAIT_RADIUS,
    target: Sequence[float] = (0.0, 0.0, 0.0),
    focal: float = PORTRAIT_FOCAL,
) -> Camera:
    """Cameras on a sphere around the world origin that look at `target`, upright.

    Args:
        yaw: [N] radians; positive moves the camera towards +x (0 looks straight at the face).
        pitch: [N] radians in (-pi/2, pi/2); positive moves the camera up.
        radius: distance from the world origin.
        target: world point in the image centre.
        focal: normalised focal length.
    """
    position = radius * torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], dim=1)  # [N, 3]
    forward = F.normalize(position.new_tensor(target) - position, dim=1)
    up = position.new_tensor([0.0, 1.0, 0.0]).expand_as(forward)
    right = F.normalize(torch.linalg.cross(forward, up), dim=1)
    down = torch.linalg.cross(forward, right)
    rows = torch.stack([right, down, forward, position], dim=2)  # [N, 3, 4]
    last = position.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(yaw), 1, 4)
    cam2world = torch.cat([rows, last], dim=1)
    return Camera(cam2world, portrait_intrinsics(len(yaw), focal=focal, device=yaw.device))


def project(points: Tensor, camera: Camera) -> Tensor:
    """World points to normalised device coordinates.

    Args:
        points: [N, V, 3], world units.
        camera: N cameras.

    Returns:
        [N, V, 3]: x (right) and y (down) in [-1, 1] across the image, and depth along the camera's z axis in
        world units (positive in front). What `torch_utils.ops.rasterize` takes with `perspective=True`.
    """
    rotation, position = camera.cam2world[:, :3, :3], camera.cam2world[:, :3, 3]
    local = (points - position[:, None]) @ rotation  # the inverse of a rotation is its transpose
    depth = local[..., 2:]
    pixels = (local / depth) @ camera.intrinsics.transpose(1, 2)
    return torch.cat([2 * pixels[..., :2] - 1, depth], dim=-1)


def mirrored_camera(camera: Camera) -> Camera:
    """The camera that sees the mirror image at x = 0 of the world as the mirror image of what `camera` sees of the world."""
    intrinsics = camera.intrinsics
    moved = torch.cat([intrinsics[:, :1, :2], 1 - intrinsics[:, :1, 2:]], dim=2)
    return Camera(_negate_cross(camera.cam2world), _negate_cross(torch.cat([moved, intrinsics[:, 1:]], dim=1), columns=2))


def _negate_cross(matrix: Tensor, columns: int | None = None) -> Tensor:
    """[N, R, C] with its first row and its first column negated, but not the corner where they meet; in the first `columns` columns."""
    kept, rest = (matrix, matrix[:, :, :0]) if columns is None else (matrix[:, :, :columns], matrix[:, :, columns:])
    above = torch.cat([kept[:, :1, :1], -kept[:, :1, 1:]], dim=2)
    below = torch.cat([-kept[:, 1:, :1], kept[:, 1:, 1:]], dim=2)
    return torch.cat([torch.cat([above, below], dim=1), rest], dim=2)


def moved_image_camera(camera: Camera, turn: Tensor, scale: Tensor, shift: Tensor) -> Camera:
    """The camera whose image is that of `camera`, turned and scaled about the image's centre and then shifted. It is exact.

    The turn becomes a roll of the camera; scale and shift go into the intrinsics.

    Args:
        camera: N cameras.
        turn: [N] radians, from the image's x axis (right) to its y axis (down).
        scale: [N], above 1 enlarges.
        shift: [N, 2], x (right) and y (down), in image sizes.
    """
    cosine, sine = turn.cos(), turn.sin()
    rotation = torch.stack([cosine, -sine, sine, cosine], dim=1).reshape(-1, 2, 2)
    focal, centre = camera.intrinsics[:, :2, :2], camera.intrinsics[:, :2, 2]
    focal = scale[:, None, None] * (rotation @ focal @ rotation.transpose(1, 2))
    centre = scale[:, None] * (rotation @ (centre - 0.5)[..., None])[..., 0] + 0.5 + shift
    intrinsics = torch.cat([torch.cat([focal, centre[..., None]], dim=2), camera.intrinsics[:, 2:]], dim=1)
    axes = camera.cam2world[:, :, :2] @ rotation.transpose(1, 2)  # [N, 4, 2]: the new right and down
    return Camera(torch.cat([axes, camera.cam2world[:, :, 2:]], dim=2), intrinsics)
