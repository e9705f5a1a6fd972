"""The posed mesh for human eyes: its guide colours under a light at the camera."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.topology import Topology
from next3d.render.cameras import project
from next3d.types import Camera, HeadMesh
from torch_utils.ops.rasterize import interpolate, rasterize

_AMBIENT = 0.35


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [N, V, 3] of vertices [N, V, 3]: the area-weighted mean of the triangles [F, 3] around each."""
    a, b, c = (vertices[:, faces[:, corner]] for corner in range(3))
    across = torch.linalg.cross(b - a, c - a)  # [N, F, 3], length is twice the area
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals.index_add_(1, faces[:, corner], across)
    return F.normalize(normals, dim=2)


@torch.no_grad()
def render_preview(mesh: HeadMesh, camera: Camera, topology: Topology, size: int) -> Tensor:
    """[N, 3, size, size] in [-1, 1], black where there is no mesh."""
    fragments = rasterize(project(mesh.vertices, camera), topology.faces, (size, size), perspective=True, cull="back")
    towards = F.normalize(camera.cam2world[:, None, :3, 3] - mesh.vertices, dim=2)
    facing = (vertex_normals(mesh.vertices, topology.faces) * towards).sum(2, keepdim=True).clamp_min(0)
    colors = (topology.guide_colors + 1) / 2 * (_AMBIENT + (1 - _AMBIENT) * facing)  # [N, V, 3]
    image = interpolate(colors, topology.faces, fragments) * (fragments.face >= 0)[..., None]
    return image.permute(0, 3, 1, 2) * 2 - 1
