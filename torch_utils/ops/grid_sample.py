"""Bilinear texture lookups in UV space: v points up, row 0 of a texture is v = 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_uv(texture: Tensor, uv: Tensor) -> Tensor:
    """Look textures [N, C, T, T] up at uv [N, H, W, 2] in [0, 1], bilinearly, edges repeated; returns [N, C, H, W]."""
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], dim=-1)
    return F.grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=False)
