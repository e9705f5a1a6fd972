"""Puts one person together: head, hair, shoulders and clothes as one mesh with per-vertex coordinates and per-triangle materials."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.synthetic.clothes import build_body, measure_neck
from next3d.synthetic.hair import grow_hair
from next3d.synthetic.looks import Look
from next3d.synthetic.surface import HeadSurface, Material, vertex_normals

BODY_SKIN = 7
"""Material of neck and chest below the head's mesh; continues `Material`."""


@dataclass(frozen=True)
class Scene:
    """A mesh of V vertices and F triangles, ready to be rasterised."""

    vertices: Tensor
    """[V, 3], world."""
    faces: Tensor
    """[F, 3], counter-clockwise seen from outside."""
    materials: Tensor
    """[F] int64: `Material`, or BODY_SKIN."""
    attributes: Tensor
    """[V, 14]: see `Attributes`."""


@dataclass(frozen=True)
class Attributes:
    """What is interpolated over triangles, at P points; built from the columns of `Scene.attributes`."""

    position: Tensor
    """[P, 3], world."""
    normal: Tensor
    """[P, 3], not normalised."""
    local: Tensor
    """[P, 3], the material's own coordinates."""
    direction: Tensor
    """[P, 3]: of strands; 0 elsewhere."""
    occlusion: Tensor
    """[P] in [0, 1]."""
    lips: Tensor
    """[P] in [0, 1]."""

    @classmethod
    def from_columns(cls, columns: Tensor) -> Attributes:
        """Split [P, 14]."""
        position, normal, local, direction, scalars = columns.split([3, 3, 3, 3, 2], dim=1)
        return cls(position, normal, local, direction, scalars[:, 0], scalars[:, 1])

    def __getitem__(self, index: Tensor) -> Attributes:
        """Some of the points."""
        return Attributes(
            self.position[index], self.normal[index], self.local[index], self.direction[index], self.occlusion[index], self.lips[index]
        )


def build_scene(vertices: Tensor, surface: HeadSurface, look: Look) -> Scene:
    """Dress a posed head [V, 3]."""
    strands = grow_hair(look.hair, surface.skull(vertices))
    body = build_body(look.clothes, measure_neck(vertices[surface.neck_vertices]))
    shown = ~surface.ears if strands is not None and strands.covers_ears else torch.ones_like(surface.ears)
    points, faces, materials, columns = [], [], [], []

    def add(part: Tensor, triangles: Tensor, material: Tensor, local: Tensor, direction: Tensor, occlusion: Tensor, lips: Tensor) -> None:
        faces.append(triangles + sum(len(other) for other in points))
        points.append(part)
        materials.append(material)
        columns.append(torch.cat([part, vertex_normals(part, triangles), local, direction, occlusion[:, None], lips[:, None]], dim=1))

    nothing = torch.zeros_like(vertices)
    add(vertices, surface.faces[shown], surface.materials[shown], surface.template, nothing, surface.occlusion, surface.lips)
    cloth = torch.where(body.is_cloth, int(Material.CLOTHES), BODY_SKIN)
    rest = torch.zeros_like(body.vertices)
    add(body.vertices, body.faces, cloth, body.local, rest, torch.ones(len(rest)), rest[:, 0])
    if strands is not None:
        material = torch.full((len(strands.faces),), int(Material.HAIR))
        count = len(strands.vertices)
        add(strands.vertices, strands.faces, material, strands.local, strands.direction, torch.ones(count), torch.zeros(count))
    return Scene(torch.cat(points), torch.cat(faces), torch.cat(materials), torch.cat(columns))
