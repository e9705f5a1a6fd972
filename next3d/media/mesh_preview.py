"""The posed mesh for human eyes: the colours in which the discriminator sees it, under a lamp at the camera."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.topology import Topology
from next3d.render.shaded import render_shaded
from next3d.types import Camera, HeadMesh

_AMBIENT = 0.35


@torch.no_grad()
def render_preview(mesh: HeadMesh, camera: Camera, topology: Topology, size: int) -> Tensor:
    """[N, 3, size, size] in [-1, 1], black where there is no mesh."""
    colors = ((topology.guide_colors + 1) / 2).expand(len(mesh.vertices), -1, -1)  # [N, V, 3]
    lamp = (1 - _AMBIENT) * F.normalize(camera.cam2world[:, :3, 3], dim=1)
    return render_shaded(mesh, topology, colors, camera, size, light=lamp, ambient=_AMBIENT, background=0.0)
