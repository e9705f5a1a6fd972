"""Static and dynamic planes joined by coverage (Next3D, Sec. 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.types import Planes, Rasters


def blend_planes(static: Tensor, dynamic: Tensor, rasters: Rasters) -> Planes:
    """Dynamic features where the mesh covers a plane, static ones elsewhere; all [N, 3, C, P, P]."""
    return Planes(torch.lerp(static, dynamic, rasters.coverage.to(static.dtype)))
