"""Camera rays through pixel centres."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.types import Camera, Rays


def camera_rays(camera: Camera, resolution: int) -> Rays:
    """One ray per pixel of a resolution x resolution image, row by row: origins and unit directions [N, resolution**2, 3]."""
    local = pixel_directions(camera, resolution)
    directions = F.normalize(local @ camera.cam2world[:, :3, :3].transpose(1, 2), dim=-1)  # [N, R, 3]
    return Rays(camera.cam2world[:, None, :3, 3].expand_as(directions), directions)


def pixel_directions(camera: Camera, resolution: int) -> Tensor:
    """Camera-space points [N, resolution**2, 3] at depth 1 behind the pixel centres."""
    steps = (torch.arange(resolution, device=camera.cam2world.device, dtype=camera.cam2world.dtype) + 0.5) / resolution
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).reshape(1, -1, 3)  # [1, R, 3]
    return pixels @ torch.linalg.inv_ex(camera.intrinsics)[0].transpose(1, 2)  # inv_ex does not wait for the device
