"""Puts one person together: head, shoulders, clothes and hair as one mesh with per-vertex coordinates and per-triangle materials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.synthetic.clothes import Body, build_body, measure_neck
from next3d.synthetic.extras import Piece, make_beard, make_earrings, make_glasses, make_hat, piece_normals
from next3d.synthetic.geometry import vertex_normals
from next3d.synthetic.hair import grow_hair, under_hat
from next3d.synthetic.looks import Extras, Look
from next3d.synthetic.skin_fields import smooth
from next3d.synthetic.surface import HeadSurface, Material

BEARD = 8.0
"""Hair with this, or up to one more, in its third coordinate is a beard as dense as what is beyond it says."""


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
    """[V, 13]: position, normal, the material's own coordinates, direction of strands (0 elsewhere), occlusion.
    Extras have their colour for coordinates, and their gloss in the direction's first column."""


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


def build_scene(vertices: Tensor, landmarks: Tensor, surface: HeadSurface, look: Look) -> Scene:
    """Dress a posed head [V, 3] with landmarks [68, 3]."""
    skull, extras = surface.skull(vertices), look.extras
    strands = grow_hair(under_hat(look.hair) if extras.hat is not None else look.hair, skull)
    body = build_body(look.clothes, measure_neck(vertices[surface.neck_vertices]))
    shown = ~surface.ears if strands is not None and strands.covers_ears else torch.ones_like(surface.ears)
    head_normals = vertex_normals(vertices, surface.faces)
    cloth = torch.where(body.is_cloth, int(Material.CLOTHES), int(Material.BODY))
    build = _Build()
    build.add(_columns(vertices, head_normals, surface.template, None, surface.occlusion), surface.faces[shown], surface.materials[shown])
    bare = vertex_normals(body.vertices, body.faces)
    build.add(_columns(body.vertices, bare, body.local, None, _body_occlusion(body)), body.faces, cloth)
    if strands is not None:
        build.add(_columns(strands.vertices, strands.normals, strands.local, strands.direction, None), strands.faces, Material.HAIR)
    if extras.beard:
        grown, faces, direction, density = make_beard(extras.beard, vertices, head_normals, surface)
        local = torch.stack([grown[:, 0], 0.5 + grown[:, 1], BEARD + density], dim=1)
        build.add(_columns(grown, vertex_normals(grown, faces), local, direction, None), faces, Material.HAIR)
    for piece, material in _worn(extras, vertices, landmarks, skull, surface, covered=not bool(shown.all())):
        shine = torch.tensor([piece.gloss, 0.0, 0.0]).expand_as(piece.vertices)
        build.add(_columns(piece.vertices, piece_normals(piece), piece.color.expand_as(piece.vertices), shine, None), piece.faces, material)
    return build.scene()


def _worn(
    extras: Extras, vertices: Tensor, landmarks: Tensor, skull: Tensor, surface: HeadSurface, *, covered: bool
) -> Iterator[tuple[Piece, Material]]:
    """Glasses, earrings (unless hair covers the ears) and hats."""
    if extras.glasses is not None:
        yield make_glasses(extras.glasses, vertices, landmarks, surface), Material.EXTRA
    if extras.earrings is not None and not covered:
        yield make_earrings(extras.earrings, vertices, surface), Material.EXTRA
    if extras.hat is not None:
        yield make_hat(extras.hat, skull), Material.HAT


@dataclass
class _Build:
    """Meshes that become one."""

    _parts: list[Tensor] = field(default_factory=list)
    _faces: list[Tensor] = field(default_factory=list)
    _materials: list[Tensor] = field(default_factory=list)
    _count: int = 0

    def add(self, columns: Tensor, faces: Tensor, materials: Tensor | Material) -> None:
        """Append vertices [V, 13] and their triangles [T, 3], of one material or of one each."""
        self._faces.append(faces + self._count)
        self._materials.append(materials if isinstance(materials, Tensor) else torch.full((len(faces),), int(materials)))
        self._parts.append(columns)
        self._count += len(columns)

    def scene(self) -> Scene:
        """The whole."""
        attributes = torch.cat(self._parts)
        return Scene(attributes[:, :3].contiguous(), torch.cat(self._faces), torch.cat(self._materials), attributes)


def _body_occlusion(body: Body) -> Tensor:
    """The chin hides some of the sky from the neck (as much as from the head's own neck above), less and less towards the shoulders."""
    return 0.84 + 0.12 * smooth(body.local[:, 1], 0.05, 0.6)


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
