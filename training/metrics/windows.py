"""Windows of pictures and what a regressor sees of them: colours and oriented gradients."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.rasterize import pixel_centers

LARGEST_IMAGE = 64
"""Larger images are averaged down to this before windows are cut: the window then has about its own pixels."""
WINDOW_PIXELS = 24
"""Side of a window. It is the bounding square of its area's landmarks; wider ones read worse."""
ORIENTATIONS = 8
"""Directions among which gradients are shared out."""
CELL = 4
"""Side in pixels of the cells in which gradients are summed up."""


def at_most(images: Tensor, size: int) -> Tensor:
    """Images [N, 3, H, H], averaged down to `size` where they are larger."""
    return images if images.shape[-1] <= size else F.interpolate(images, size=(size, size), mode="area")


def cut_windows(images: Tensor, centre: Tensor, half: Tensor, *, largest: int = LARGEST_IMAGE) -> Tensor:
    """Windows [N, A, 3, S, S] of images [N, 3, H, H] at `centre` [N, A, 2] with half sides `half` [N, A], in [-1, 1] coordinates."""
    images = at_most(images, largest)
    areas = centre.shape[1]
    axis = pixel_centers(WINDOW_PIXELS, images.device).float()
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([columns, rows], dim=-1)  # [S, S, 2]
    grid = centre[:, :, None, None] + half[:, :, None, None, None] * offsets  # [N, A, S, S, 2]
    repeated = images.float().repeat_interleave(areas, dim=0)
    windows = F.grid_sample(repeated, grid.flatten(0, 1).float(), padding_mode="border", align_corners=False)
    return windows.unflatten(0, (-1, areas))


def window_features(windows: Tensor) -> Tensor:
    """Features [N, D] of windows [N, A, 3, S, S]: colours and oriented gradients, each area's on its own scale."""
    flat = windows.flatten(0, 1)
    colours = F.avg_pool2d(flat, 2).flatten(1)
    features = torch.cat([_standardised(colours), _standardised(_gradients(flat.mean(dim=1)))], dim=1)
    return features.view(len(windows), -1)


def _standardised(features: Tensor) -> Tensor:
    """Each window's features [M, D] to mean 0 and deviation 1 / sqrt(D): exposure and contrast of a picture say nothing."""
    centred = features - features.mean(dim=1, keepdim=True)
    return centred / (centred.norm(dim=1, keepdim=True) + 0.05 * math.sqrt(features.shape[1]))


def _gradients(grey: Tensor) -> Tensor:
    """Gradient strength per cell and direction, [M, cells * ORIENTATIONS], of grey windows [M, S, S] (Dalal and Triggs 2005)."""
    padded = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    angles = torch.arange(ORIENTATIONS, device=grey.device) * (2 * math.pi / ORIENTATIONS)
    along = across[:, None] * angles.cos().view(-1, 1, 1) + down[:, None] * angles.sin().view(-1, 1, 1)  # [M, O, S, S]
    return F.avg_pool2d(along.clamp_min(0), CELL).flatten(1)
