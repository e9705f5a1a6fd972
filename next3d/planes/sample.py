"""Neural texture to plane features: lookup at the rasters' uv, left and right views joined into the side plane."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.planes.rasterize import FRONT_VIEW, LEFT_VIEW, RIGHT_VIEW, TOP_VIEW, VIEWS
from next3d.types import Rasters
from torch_utils.ops.texture_views import texture_views

MIN_WEIGHT = 1e-4


def texture_planes(texture: Tensor, rasters: Rasters) -> Tensor:
    """Dynamic planes [N, 3, C, P, P] of a texture [N, C, T, T]; zero where the mesh shows neither face nor eyes.

    The side plane is the mean of the two side views, weighted by what each shows: at a (z, y) where only one cheek is seen it is that
    cheek's feature, where both are seen it treats left and right alike, so mirrored heads have equal side planes. Features have full
    strength up to the mask's soft edges; blending with the static planes fades them there, once.
    """
    visible = rasters.visible[:, :, 0].to(texture.dtype)  # [N, 4, P, P]
    sides = visible[:, LEFT_VIEW] + visible[:, RIGHT_VIEW]
    total = torch.stack([visible[:, FRONT_VIEW], visible[:, TOP_VIEW], sides, sides], dim=1)
    planes = [view.plane for view in VIEWS]
    return texture_views(texture, rasters.uv.to(texture.dtype), visible / total.clamp_min(MIN_WEIGHT), planes)
