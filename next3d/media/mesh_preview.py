"""Triangles for human eyes: the posed mesh in the colours in which the discriminator sees it, and extracted surfaces as if of clay."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.topology import Topology
from next3d.media.shapes import Surface
from next3d.render.shaded import render_shaded, render_triangles
from next3d.types import Camera, HeadMesh

_AMBIENT = 0.35
_CLAY = (0.80, 0.77, 0.73)
_LAMP = (-0.45, 0.55, 1.0)
"""Where the lamp stands that lights clay: to the left of the camera and above it (right, up, towards the viewer)."""


@torch.no_grad()
def render_preview(mesh: HeadMesh, camera: Camera, topology: Topology, size: int, *, background: Tensor | float = 0.0) -> Tensor:
    """[N, 3, size, size] in [-1, 1]; where there is no mesh, `background`: one grey or [N, 3], in [0, 1]."""
    colors = ((topology.guide_colors + 1) / 2).expand(len(mesh.vertices), -1, -1)  # [N, V, 3]
    lamp = (1 - _AMBIENT) * F.normalize(camera.cam2world[:, :3, 3], dim=1)
    return render_shaded(mesh, topology, colors, camera, size, light=lamp, ambient=_AMBIENT, background=background)


@torch.no_grad()
def render_surface(surface: Surface, camera: Camera, size: int, *, background: Tensor | float = 0.0) -> Tensor:
    """A surface [1, 3, size, size] in [-1, 1], lit from above left as the camera sees it; `background` as in `render_preview`."""
    vertices = torch.from_numpy(surface.vertices)[None]
    right, down, forward = camera.cam2world[:, :3, :3].unbind(dim=2)  # [1, 3] each
    lamp = (1 - _AMBIENT) * F.normalize(_LAMP[0] * right - _LAMP[1] * down - _LAMP[2] * forward, dim=1)
    colors = torch.tensor(_CLAY).expand_as(vertices)
    faces = torch.from_numpy(surface.faces)
    return render_triangles(vertices, faces, colors, camera, size, light=lamp, ambient=_AMBIENT, background=background)
