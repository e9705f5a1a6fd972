"""Neural texture to plane features: lookup at the rasters' uv, left and right views joined into the side plane."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.planes.rasterize import FRONT_VIEW, LEFT_VIEW, RIGHT_VIEW, TOP_VIEW
from next3d.types import Rasters
from torch_utils.ops.grid_sample import sample_uv

MIN_WEIGHT = 1e-4


def texture_planes(texture: Tensor, rasters: Rasters) -> Tensor:
    """Dynamic planes [N, 3, C, P, P] of a texture [N, C, T, T]; zero where the mesh shows neither face nor eyes.

    The side plane is the mean of the two side views, weighted by what each shows: at a (z, y) where only one cheek is seen it is that
    cheek's feature, where both are seen it treats left and right alike, so mirrored heads have equal side planes. Features have full
    strength up to the mask's soft edges; blending with the static planes fades them there, once.
    """
    batch, views, rows, columns, _ = rasters.uv.shape
    looked_up = sample_uv(texture, rasters.uv.reshape(batch, views * rows, columns, 2))  # [N, C, 4 * P, P]
    shown = looked_up.reshape(batch, -1, views, rows, columns).transpose(1, 2) * rasters.visible  # [N, 4, C, P, P]
    return _join_sides(shown) / _join_sides(rasters.visible).clamp_min(MIN_WEIGHT)


def _join_sides(views: Tensor) -> Tensor:
    """Four views [N, 4, C, P, P] to three planes [N, 3, C, P, P]: the sum of left and right is the side."""
    view = views.unbind(dim=1)  # its gradient is one stack; indexing would add up four images of zeros
    return torch.stack([view[FRONT_VIEW], view[TOP_VIEW], view[LEFT_VIEW] + view[RIGHT_VIEW]], dim=1)
