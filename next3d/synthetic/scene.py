"""Puts one person together: head, shoulders, clothes and hair as one mesh with per-vertex coordinates and per-triangle materials."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.synthetic.clothes import Body, build_body, measure_neck
from next3d.synthetic.geometry import vertex_normals
from next3d.synthetic.hair import grow_hair
from next3d.synthetic.looks import Look
from next3d.synthetic.skin_fields import smooth
from next3d.synthetic.surface import HeadSurface, Material


@dataclass(frozen=True)
class Scene:
    """A mesh of V vertices and F triangles, ready to be rasterised; the head's own vertices come first."""

    vertices: Tensor
    """[V, 3], world."""
    faces: Tensor
    """[F, 3], counter-clockwise seen from outside."""
    materials: Tensor
    """[F] int64, values of `Material`."""
    attributes: Tensor
    """[V, 13]: position, normal, the material's own coordinates, direction of strands (0 elsewhere), occlusion."""


@dataclass(frozen=True)
class Points:
    """P visible points with what was interpolated to them."""

    material: Tensor
    """[P] int64."""
    corners: Tensor
    """[P, 3] int64: vertices of the triangle."""
    weights: Tensor
    """[P, 3]: barycentrics."""
    position: Tensor
    """[P, 3], world."""
    normal: Tensor
    """[P, 3], not normalised."""
    local: Tensor
    """[P, 3], the material's own coordinates."""
    direction: Tensor
    """[P, 3]."""
    occlusion: Tensor
    """[P] in [0, 1]."""


def locate(scene: Scene, face: Tensor, weights: Tensor) -> Points:
    """Points at barycentrics `weights` [P, 3] of triangles `face` [P]."""
    corners = scene.faces.index_select(0, face)
    columns = F.embedding_bag(corners, scene.attributes, per_sample_weights=weights, mode="sum")
    position, normal, local, direction, occlusion = columns.split([3, 3, 3, 3, 1], dim=1)
    return Points(scene.materials.index_select(0, face), corners, weights, position, normal, local, direction, occlusion[:, 0])


def build_scene(vertices: Tensor, surface: HeadSurface, look: Look) -> Scene:
    """Dress a posed head [V, 3]."""
    strands = grow_hair(look.hair, surface.skull(vertices))
    body = build_body(look.clothes, measure_neck(vertices[surface.neck_vertices]))
    shown = ~surface.ears if strands is not None and strands.covers_ears else torch.ones_like(surface.ears)
    head_normals = vertex_normals(vertices, surface.faces)
    cloth = torch.where(body.is_cloth, int(Material.CLOTHES), int(Material.BODY))
    parts = [
        _columns(vertices, head_normals, surface.template, None, surface.occlusion),
        _columns(body.vertices, vertex_normals(body.vertices, body.faces), body.local, None, _body_occlusion(body)),
    ]
    faces, materials = [surface.faces[shown], body.faces + len(vertices)], [surface.materials[shown], cloth]
    if strands is not None:
        parts.append(_columns(strands.vertices, vertex_normals(strands.vertices, strands.faces), strands.local, strands.direction, None))
        faces.append(strands.faces + len(vertices) + len(body.vertices))
        materials.append(torch.full((len(strands.faces),), int(Material.HAIR)))
    attributes = torch.cat(parts)
    return Scene(attributes[:, :3].contiguous(), torch.cat(faces), torch.cat(materials), attributes)


def _body_occlusion(body: Body) -> Tensor:
    """The chin hides the sky from the neck, less and less towards the shoulders."""
    return 0.45 + 0.5 * smooth(body.local[:, 1], 0.15, 0.6)


def _columns(points: Tensor, normals: Tensor, local: Tensor, direction: Tensor | None, occlusion: Tensor | None) -> Tensor:
    nothing = torch.zeros_like(points)
    return torch.cat(
        [
            points,
            normals,
            local,
            nothing if direction is None else direction,
            torch.ones(len(points), 1) if occlusion is None else occlusion[:, None],
        ],
        dim=1,
    )
