"""How released Next3D networks draw the mesh into their planes.

Their views, their order of planes, their barycentrics and the filled mouth differ from ours (`next3d.planes`); weights that were trained
with them need exactly these. `docs/official.md` gives the reasons.
"""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.head.model import OBJECT_TO_WORLD
from next3d.head.topology import Topology
from next3d.planes.rasterize import SOLID, uv_mask_at
from next3d.types import HeadMesh, Probe, Rasters
from torch_utils.ops.fill_holes import fill_holes
from torch_utils.ops.grid_sample import sample_uv
from torch_utils.ops.rasterize import Fragments, interpolate, pixel_centers, rasterize

FRONT_VIEW, LEFT_VIEW, RIGHT_VIEW, TOP_VIEW = range(4)
"""Views; the planes are front, side, top."""
SCALE, SHIFT, DISTANCE = 5.0, 0.01, 10.0
"""View units per object unit; how far the object is moved in y and z before it is scaled; how far in front of the viewer it is put."""
QUARTER_COSINE = -4.371139e-08
"""Cosine of a quarter turn in float32: the views are rotations by angles, and what this leaks decides some pixels."""
AREA_EPS = 1e-8
"""Added to twice a triangle's area before barycentrics are divided by it: those of small triangles add up to less than one."""
CORNER_ORDER = [0, 2, 1]
"""Order in which the corners of a triangle enter the arithmetic."""


def view_points(vertices: Tensor) -> Tensor:
    """World vertices [N, V, 3] to what the rasteriser takes [N, 4, V, 3]: column, row in [-1, 1], depth growing away from the viewer."""
    x, y, z = (vertices / OBJECT_TO_WORLD).unbind(dim=-1)
    leak_x, leak_y, leak_z = QUARTER_COSINE * x, QUARTER_COSINE * y, QUARTER_COSINE * z
    turned = ((x, y, z), (leak_x - z, y, x + leak_z), (leak_x + z, y, leak_z - x), (x, leak_y - z, y + leak_z))  # front, left, right, top
    return torch.stack([_placed(*view) for view in turned], dim=1)


def _placed(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return torch.stack([SCALE * x, SCALE * (y + SHIFT), DISTANCE - SCALE * (z - SHIFT)], dim=-1)


def front_landmarks(landmarks: Tensor) -> Tensor:
    """World landmarks [N, 68, 3] to column and row of the front view in [-1, 1]: [N, 68, 2]."""
    x, y, z = (landmarks / OBJECT_TO_WORLD).unbind(dim=-1)
    return _placed(x, y, z)[..., :2]


def rasterize_views(
    mesh: HeadMesh, topology: Topology, *, resolution: int, differentiable: bool = False, probe: Probe | None = None
) -> Rasters:
    """Draw N meshes into the four views.

    Args:
        mesh: N posed heads, world units.
        topology: triangles, UVs and the UV mask, on the mesh's device.
        resolution: P, pixels per side.
        differentiable: give uv gradients with respect to the vertices, through the barycentrics.
        probe: receives "view_points", "view_face" [N, 4, P, P], "view_barycentrics", "view_depth" and "view_filled" [N, 4, 1, P, P].

    Returns:
        uv and visible in the order of this module's views; coverage in the order front, side, top. Outside the mesh uv is the centre
        of the texture.
    """
    vertices = mesh.vertices if differentiable else mesh.vertices.detach()
    points = view_points(vertices)  # [N, 4, V, 3]
    fragments = _fragments(points.flatten(0, 1), topology.faces, resolution)
    grid = interpolate(2 * topology.uvs[None] - 1, topology.uv_faces, fragments)  # [N * 4, P, P, 2], background 0
    uv = ((grid + 1) / 2).unflatten(0, (-1, 4))  # [N, 4, P, P, 2]
    hit = (fragments.face >= 0).to(uv.dtype).unflatten(0, (-1, 4))[:, :, None]  # [N, 4, 1, P, P]
    visible = uv_mask_at(topology.uv_mask, uv) * hit
    filled = fill_from_corner(visible.detach())
    if probe is not None:
        probe("view_points", points)
        for name, value in (("face", fragments.face), ("barycentrics", fragments.barycentrics), ("depth", fragments.depth)):
            probe(f"view_{name}", value.unflatten(0, (-1, 4)))
        probe("view_filled", filled)
    side = (filled[:, LEFT_VIEW] > 0).to(filled.dtype)
    return Rasters(uv=uv, visible=visible, coverage=torch.stack([filled[:, FRONT_VIEW], side, filled[:, TOP_VIEW]], dim=1))


def _fragments(points: Tensor, faces: Tensor, resolution: int) -> Fragments:
    """Nearest triangles of [B, V, 3] with the released arithmetic: barycentrics and depth of small triangles shrink.

    A shrunk depth is nearer, so it must take part in the decision: every triangle gets corners of its own with scaled depths.
    """
    corners = points[:, faces[:, CORNER_ORDER]]  # [B, F, 3 corners, 3]
    area = _edge(corners[:, :, 2], corners[:, :, 0], corners[:, :, 1]).abs()  # [B, F]
    shrink = torch.stack([torch.ones_like(area), torch.ones_like(area), area / (area + AREA_EPS)], dim=-1)
    separate = torch.arange(3 * len(faces), device=faces.device).reshape(-1, 3)
    scaled = (corners.detach() * shrink.detach()[:, :, None]).flatten(1, 2)
    face = rasterize(scaled, separate, (resolution, resolution), cull="back").face  # reordering the corners has turned the triangles
    return _locate(corners, face)


def _locate(corners: Tensor, face: Tensor) -> Fragments:
    """Barycentrics and depth of pixels on the triangles [B, F, 3, 3] that they show, in the arithmetic of float32."""
    height, width = face.shape[1:]
    index = face.clamp_min(0).flatten(1)[:, :, None, None].expand(-1, -1, 3, 3)
    first, second, third = corners.gather(1, index).unflatten(1, (height, width)).unbind(dim=3)  # [B, P, P, 3] each
    rows, columns = (pixel_centers(count, face.device).to(corners.dtype) for count in (height, width))
    pixel = torch.stack(torch.broadcast_tensors(columns, rows[:, None]), dim=-1)  # [P, P, 2]
    edges = [_edge(pixel, second, third), _edge(pixel, third, first), _edge(pixel, first, second)]
    area = _edge(third, first, second) + AREA_EPS
    shown = (face >= 0)[..., None]
    weights = torch.where(shown, torch.stack(edges, dim=-1) / area[..., None], 0)
    depth = weights[..., 0] * first[..., 2] + weights[..., 1] * second[..., 2] + weights[..., 2] * third[..., 2]
    in_order = weights[..., CORNER_ORDER]  # swapping two corners undoes itself
    return Fragments(face, in_order, torch.where(shown[..., 0], depth, torch.inf))


def _edge(point: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Twice the signed area of the triangle between a point and an edge (Pineda 1988)."""
    return (point[..., 0] - start[..., 0]) * (end[..., 1] - start[..., 1]) - (point[..., 1] - start[..., 1]) * (end[..., 0] - start[..., 0])


def fill_from_corner(alpha: Tensor) -> Tensor:
    """Set to 1 what a flood from the pixel (0, 0) does not reach; all [N, 4, 1, P, P].

    Entirely covered pixels stop the flood, softly covered ones do not. If the corner itself is covered, everything becomes 1.
    """
    walls = (alpha > SOLID).to(alpha.dtype).flatten(0, 1)
    return torch.where(fill_holes(walls, start="corner").unflatten(0, alpha.shape[:2]) > 0, 1, alpha)


def texture_planes(texture: Tensor, rasters: Rasters) -> Tensor:
    """Texture [N, C, T, T] at the rasters' uv: planes [N, 3, C, P, P] front, side, top.

    Nothing is masked: the background shows the centre of the texture. The side is the plain sum of two views that mirror each other.
    """
    batch, views, rows, columns, _ = rasters.uv.shape
    looked_up = sample_uv(texture, rasters.uv.reshape(batch, views * rows, columns, 2))  # [N, C, 4 * P, P]
    view = looked_up.reshape(batch, -1, views, rows, columns).unbind(dim=2)
    return torch.stack([view[FRONT_VIEW], view[LEFT_VIEW] + view[RIGHT_VIEW], view[TOP_VIEW]], dim=1)
