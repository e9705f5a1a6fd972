"""The posed mesh as the discriminator sees it: rendered in guide colours under the image's camera (Next3D, Sec. 3.4)."""

from __future__ import annotations

from torch import Tensor

from next3d.head.topology import Topology
from next3d.render.cameras import project
from next3d.types import Camera, HeadMesh
from torch_utils.ops.rasterize import interpolate, rasterize

BACKGROUND = -1.0


def render_mesh_image(mesh: HeadMesh, camera: Camera, topology: Topology, resolution: int) -> Tensor:
    """[N, 3, resolution, resolution] in [-1, 1]; the background is -1. Carries no gradient."""
    points = project(mesh.vertices.detach(), camera)
    fragments = rasterize(points, topology.faces, (resolution, resolution), perspective=True, cull="back")
    colors = interpolate(topology.guide_colors[None], topology.faces, fragments)  # [N, H, W, 3]
    drawn = (fragments.face >= 0)[..., None]
    return colors.masked_fill(~drawn, BACKGROUND).permute(0, 3, 1, 2)
