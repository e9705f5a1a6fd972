"""Tri-plane lookups: the mean of three bilinear plane samples at 3D points (EG3D, Sec. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PlaneAxes = tuple[tuple[int, int], ...]


def sample_planes(features: Tensor, points: Tensor, *, axes: PlaneAxes, box_warp: float) -> Tensor:
    """Mean over the planes of bilinear lookups; zero outside the planes.

    Args:
        features: [N, 3, C, P, P].
        points: [N, M, 3], world units; [-box_warp / 2, box_warp / 2] spans the planes.
        axes: for each plane the coordinates that give column and row, both growing with the coordinate.
        box_warp: side of the cube, world units.

    Returns:
        [N, M, C].
    """
    batch, planes, channels = features.shape[:3]
    scaled = points * (2 / box_warp)
    grid = torch.stack([scaled[..., list(pair)] for pair in axes], dim=1).flatten(0, 1)[:, None]  # [N * 3, 1, M, 2]
    found = F.grid_sample(features.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # [N * 3, C, 1, M]
    return found.reshape(batch, planes, channels, -1).mean(dim=1).transpose(1, 2)
