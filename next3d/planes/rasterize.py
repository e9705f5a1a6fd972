"""The posed mesh drawn orthographically into the coordinates of the three planes (Next3D, Sec. 3.2).

Four views: front, top, left, right. Left and right share the side plane (z, y). Both are drawn in those same axes, without
mirroring, so that a pixel means the same z and y in both; a mirror image of one would mix the nose with the back of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from next3d.head.topology import Topology
from next3d.planes.frames import FRONT, PLANE_AXES, SIDE, TOP
from next3d.types import HeadMesh, Rasters
from torch_utils.ops.fill_holes import fill_holes
from torch_utils.ops.grid_sample import sample_uv
from torch_utils.ops.rasterize import interpolate, rasterize


@dataclass(frozen=True)
class View:
    """An orthographic view into a plane: `towards` is the sign of the remaining axis at which the viewer stands."""

    plane: int
    axis: int
    towards: int

    @property
    def cull(self) -> Literal["front", "back"]:
        """Which triangles face away. The determinant of (column, row, depth) axes says whether the view mirrors the mesh."""
        column, row = PLANE_AXES[self.plane]
        even = (column, row, self.axis) in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        mirrored = even == (self.towards > 0)  # depth grows away from the viewer, so it runs along -towards
        return "front" if mirrored else "back"


VIEWS = (View(FRONT, 2, +1), View(TOP, 1, +1), View(SIDE, 0, +1), View(SIDE, 0, -1))
"""front, top, left (the person's left, +x), right."""
FRONT_VIEW, TOP_VIEW, LEFT_VIEW, RIGHT_VIEW = range(4)

SOLID = 254 / 255
"""Masks are 8-bit pictures at most; what is more than this is entirely covered."""


def view_points(vertices: Tensor, view: View, box_warp: float) -> Tensor:
    """World vertices [N, V, 3] to what the rasteriser takes: column and row in [-1, 1], depth growing away from the viewer."""
    column, row = PLANE_AXES[view.plane]
    scaled = vertices * (2 / box_warp)
    return torch.stack([scaled[..., column], scaled[..., row], -view.towards * scaled[..., view.axis]], dim=-1)


def rasterize_planes(mesh: HeadMesh, topology: Topology, *, resolution: int, box_warp: float, differentiable: bool = False) -> Rasters:
    """Draw N meshes into the four views.

    Args:
        mesh: N posed heads, world units.
        topology: triangles, UVs and the UV mask, on the mesh's device.
        resolution: P, pixels per side.
        box_warp: side of the cube that the planes span, world units.
        differentiable: give uv gradients with respect to the vertices, through the barycentrics.
    """
    vertices = mesh.vertices if differentiable else mesh.vertices.detach()
    size = (resolution, resolution)
    uvs: list[Tensor] = [vertices] * len(VIEWS)
    drawn: list[Tensor] = [vertices] * len(VIEWS)
    for cull in ("front", "back"):  # views that mirror the mesh turn its front faces around; two batched calls
        chosen = [index for index, view in enumerate(VIEWS) if view.cull == cull]
        points = torch.cat([view_points(vertices, VIEWS[index], box_warp) for index in chosen])
        fragments = rasterize(points, topology.faces, size, cull=cull, differentiable=differentiable)
        uv = interpolate(topology.uvs[None], topology.uv_faces, fragments)  # [views * N, P, P, 2]
        hit = (fragments.face >= 0).to(uv.dtype)[:, None]  # [views * N, 1, P, P]
        for index, view_uv, view_hit in zip(chosen, uv.chunk(len(chosen)), hit.chunk(len(chosen)), strict=True):
            uvs[index], drawn[index] = view_uv, view_hit
    uv, hit = torch.stack(uvs, dim=1), torch.stack(drawn, dim=1)  # [N, 4, P, P, 2], [N, 4, 1, P, P]
    visible = uv_mask_at(topology.uv_mask, uv) * hit
    return Rasters(uv=uv, visible=visible, coverage=plane_coverage(visible.detach()))


def uv_mask_at(mask: Tensor, uv: Tensor) -> Tensor:
    """The UV mask [1, M, M] looked up at uv [N, 4, P, P, 2], to [N, 4, 1, P, P]."""
    batch, views, rows, columns, _ = uv.shape
    looked_up = sample_uv(mask[None], uv.reshape(1, batch * views * rows, columns, 2))
    return looked_up.reshape(batch, views, 1, rows, columns)


def plane_coverage(visible: Tensor) -> Tensor:
    """View masks [N, 4, 1, P, P] to plane coverage [N, 3, 1, P, P].

    The mouth hole of the front view counts as covered, its soft rim included, so that the completed mouth is kept there. The side plane
    is covered where either side view is.
    """
    front = visible[:, FRONT_VIEW]
    # Only what is entirely covered bounds a hole with its rim; should the soft outer edge reach the rim, the hole itself is still filled.
    walls = torch.cat([front > 0.5, front > SOLID]).to(front.dtype)
    holes, holes_with_rim = (fill_holes(walls) - walls).chunk(2)  # the soft outer edge lies outside the walls and stays soft
    filled = torch.maximum(front, torch.maximum(holes, holes_with_rim))
    side = torch.maximum(visible[:, LEFT_VIEW], visible[:, RIGHT_VIEW])
    return torch.stack([filled, visible[:, TOP_VIEW], side], dim=1)
