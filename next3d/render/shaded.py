"""Plain pictures of a head mesh: one colour per vertex, one lamp, ambient light. For checks and documentation, not for training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.topology import Topology
from next3d.render.cameras import project
from next3d.types import Camera, HeadMesh
from torch_utils.ops.rasterize import interpolate, rasterize

OVERSAMPLING = 2
"""Pixels are the mean of this many samples per axis."""


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [N, V, 3] of vertices [N, V, 3]: the mean of the adjacent triangles, weighted by area."""
    a, b, c = (vertices[:, faces[:, corner]] for corner in range(3))
    across = torch.linalg.cross(b - a, c - a)  # [N, F, 3]
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals = normals.index_add(1, faces[:, corner], across)
    return F.normalize(normals, dim=-1)


def render_shaded(
    mesh: HeadMesh,
    topology: Topology,
    colors: Tensor,
    camera: Camera,
    resolution: int,
    *,
    light: Tensor,
    ambient: float = 0.45,
    background: Tensor | float = 0.5,
) -> Tensor:
    """Lambert-shaded pictures [N, 3, resolution, resolution] in [-1, 1] of N posed heads; see `render_triangles`."""
    return render_triangles(mesh.vertices, topology.faces, colors, camera, resolution, light=light, ambient=ambient, background=background)


def render_triangles(
    vertices: Tensor,
    faces: Tensor,
    colors: Tensor,
    camera: Camera,
    resolution: int,
    *,
    light: Tensor,
    ambient: float = 0.45,
    background: Tensor | float = 0.5,
) -> Tensor:
    """Lambert-shaded pictures of any closed surface.

    Args:
        vertices: [N, V, 3], world units.
        faces: [F, 3], counter-clockwise seen from outside; the others do not show.
        colors: [N, V, 3] in [0, 1].
        camera: N cameras.
        resolution: width and height, pixels.
        light: [N, 3], world direction towards the lamp; its length is the lamp's strength.
        ambient: light from everywhere.
        background: one grey or [N, 3], in [0, 1].

    Returns:
        [N, 3, resolution, resolution] in [-1, 1].
    """
    size = resolution * OVERSAMPLING
    fragments = rasterize(project(vertices, camera), faces, (size, size), perspective=True, cull="back")
    attributes = torch.cat([colors, vertex_normals(vertices, faces)], dim=-1)
    color, normal = interpolate(attributes, faces, fragments).split(3, dim=-1)  # [N, H, W, 3] each
    lit = (F.normalize(normal, dim=-1) * light[:, None, None]).sum(-1, keepdim=True).clamp_min(0)
    behind = torch.as_tensor(background, dtype=color.dtype, device=color.device).expand(len(color), 3)[:, None, None]
    picture = torch.where((fragments.face >= 0)[..., None], color * (ambient + lit), behind)
    picture = F.avg_pool2d(picture.permute(0, 3, 1, 2), OVERSAMPLING)
    return picture.clamp(0, 1) * 2 - 1


def plain_colors(topology: Topology, skin: Tensor, hair: Tensor, iris: Tensor) -> Tensor:
    """Simple colours [N, V, 3] in [0, 1] by region, for models whose topology names its regions.

    Args:
        topology: of the default head.
        skin, hair, iris: [N, 3] in [0, 1].
    """
    regions = topology.regions
    colors = skin[:, None].repeat(1, len(topology.guide_colors), 1)
    tint = skin.new_tensor

    def paint(name: str, color: Tensor) -> None:
        colors[:, regions[name]] = color[:, None] if color.ndim == 2 else color

    paint("lips", skin * tint([0.85, 0.58, 0.58]))
    paint("mouth_interior", tint([0.20, 0.05, 0.05]))
    paint("teeth", tint([0.90, 0.88, 0.82]))
    paint("tongue", tint([0.62, 0.28, 0.28]))
    paint("scalp", 0.65 * skin + 0.35 * hair)
    for side in ("left", "right"):
        paint(f"{side}_brow", 0.15 * skin + 0.85 * hair)
        paint(f"{side}_eye", tint([0.92, 0.92, 0.92]))
        paint(f"{side}_iris", iris)
        paint(f"{side}_pupil", tint([0.03, 0.03, 0.03]))
    return colors
