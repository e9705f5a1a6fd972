"""How far away the posed mesh is, along the rays of a camera."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.head.topology import Topology
from next3d.render.cameras import project
from next3d.render.rays import pixel_directions
from next3d.types import Camera, HeadMesh
from torch_utils.ops.grid_sample import sample_uv
from torch_utils.ops.rasterize import Fragments, interpolate, rasterize


def render_mesh_depth(mesh: HeadMesh, camera: Camera, faces: Tensor, resolution: int) -> tuple[Tensor, Fragments]:
    """Distance to the mesh along the rays, [N, 1, resolution, resolution], and the triangles that are seen; only where there are some
    does the distance mean anything. World units, as the volume renderer's depth; carries no gradient."""
    fragments = rasterize(project(mesh.vertices.detach(), camera), faces, (resolution, resolution), perspective=True)
    return fragments.depth[:, None] * ray_lengths(camera, resolution), fragments


def render_face_depth(mesh: HeadMesh, camera: Camera, topology: Topology, resolution: int) -> tuple[Tensor, Tensor]:
    """Distance to the mesh along the rays (0 beside it), and how much of each pixel is face or eyes, which is what the neural texture
    covers; both [N, 1, resolution, resolution]."""
    depth, fragments = render_mesh_depth(mesh, camera, topology.faces, resolution)
    uv = interpolate(topology.uvs[None], topology.uv_faces, fragments)  # [N, r, r, 2]
    covered = sample_uv(topology.uv_mask[None].to(uv.dtype).expand(len(uv), -1, -1, -1), uv)
    drawn = fragments.face[:, None] >= 0
    return torch.where(drawn, depth, 0), torch.where(drawn, covered, 0)


def ray_lengths(camera: Camera, resolution: int) -> Tensor:
    """[N, 1, resolution, resolution]: the length of each pixel's ray per unit of depth along the camera's axis."""
    return pixel_directions(camera, resolution).norm(dim=2).view(-1, 1, resolution, resolution)
