"""What the renderer must know about a head model once: materials, occlusion, the skull, and fields that tell where to paint.

Everything is measured on the neutral head ("template", world units) and stays attached to its vertices, so that paint follows the
skin through every expression and identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.model import HeadModel, Joint
from next3d.synthetic.geometry import light_view, sphere_directions, vertex_normals
from next3d.synthetic.skin_fields import measure_skin
from next3d.synthetic.skull import AZIMUTHS, ELEVATIONS, skull_center, skull_grid

_OCCLUSION_VIEWS = 40
_OCCLUSION_SIZE = 128
_OCCLUSION_BIAS = 0.012
_COLLAR_DROP = 0.065
"""Distance of the collar below the chin, world units; a little high, so that portraits show some of the clothes."""


class Material(IntEnum):
    """How a triangle is shaded."""

    SKIN = 0
    EYE = 1
    MOUTH = 2
    TEETH = 3
    TONGUE = 4
    BODY = 5
    """Bare skin of neck and chest below the head's mesh."""
    CLOTHES = 6
    HAIR = 7
    EXTRA = 8
    """Glasses, earrings: too thin to cast shadows that shadow maps can show."""
    HAT = 9


@dataclass(frozen=True, eq=False)
class HeadSurface:
    """See the module's first lines. V vertices, F triangles of the head's topology."""

    faces: Tensor
    materials: Tensor
    """[F] int64, values of `Material`."""
    ears: Tensor
    """[F] bool: triangles that long hair covers."""
    template: Tensor
    """[V, 3]: the neutral head."""
    occlusion: Tensor
    """[V] in [0, 1]: how much of the surroundings a vertex sees; 1 is all."""
    skin_columns: Tensor
    """[V, K]: columns of `SkinFields`: where to paint."""
    eye_centers: Tensor
    """[2, 3]: left and right, template."""
    iris_angle: float
    """Radius of the iris seen from the eye's centre, radians."""
    skull_vertices: Tensor
    """[AZIMUTHS * ELEVATIONS, 6] int64 and ..."""
    skull_weights: Tensor
    """... [AZIMUTHS * ELEVATIONS, 6]: each grid direction's surface point as a combination of vertices."""
    neck_vertices: Tensor
    """[K] int64: the ring on which a collar sits."""
    eye_middles: Tensor
    """[2, V]: weights whose sum over posed vertices is the middle of the left and of the right eyeball, wherever the eyes look."""
    lobes: Tensor
    """[2] int64: the lowest vertex of the left and of the right ear."""

    def skull(self, vertices: Tensor) -> Tensor:
        """Surface points [AZIMUTHS, ELEVATIONS, 3] of a posed head [V, 3] in the directions of the skull grid; ears left out."""
        points = F.embedding_bag(self.skull_vertices, vertices, per_sample_weights=self.skull_weights, mode="sum")
        return points.reshape(AZIMUTHS, ELEVATIONS, 3)


@lru_cache(maxsize=2)
@torch.no_grad()
def head_surface(head: HeadModel) -> HeadSurface:
    """Measure a head model; takes about a second, once per process."""
    mesh = head(head.neutral(1))
    topology = head.topology
    template, landmarks, regions = mesh.vertices[0], mesh.landmarks[0], topology.regions
    materials = _materials(topology.faces, regions)
    eyes = torch.stack([_eye_center(template, regions[f"{side}_eye"]) for side in ("left", "right")])
    ears = (regions["left_ear"] | regions["right_ear"])[topology.faces].any(dim=1)
    outside = topology.faces[(materials == Material.SKIN) & ~ears]
    skull_vertices, skull_weights = skull_grid(template, outside, landmarks)
    skull = (template[skull_vertices] * skull_weights[..., None]).sum(dim=1).reshape(AZIMUTHS, ELEVATIONS, 3)
    return HeadSurface(
        faces=topology.faces,
        materials=materials,
        ears=ears,
        template=template,
        occlusion=_occlusion(head),
        skin_columns=measure_skin(template, landmarks, regions["lips"], eyes[0], skull_center(skull)).columns(),
        eye_centers=eyes,
        iris_angle=_iris_angle(template, regions["left_iris"], eyes[0]),
        skull_vertices=skull_vertices,
        skull_weights=skull_weights,
        neck_vertices=_neck_ring(template, regions["neck"], landmarks[8]),
        eye_middles=torch.stack(
            [_middle_weights(template, regions[f"{side}_eye"], eyes[row]) for row, side in enumerate(("left", "right"))]
        ),
        lobes=torch.stack([torch.where(regions[f"{side}_ear"], template[:, 1], torch.inf).argmin() for side in ("left", "right")]),
    )


def _materials(faces: Tensor, regions: Mapping[str, Tensor]) -> Tensor:
    """The material of each triangle: that of a region to which all its corners belong."""
    materials = torch.full((len(faces),), int(Material.SKIN))
    order = (
        ("mouth_interior", Material.MOUTH),
        ("teeth", Material.TEETH),
        ("tongue", Material.TONGUE),
        ("left_eye", Material.EYE),
        ("right_eye", Material.EYE),
    )
    for name, material in order:
        if name in regions:
            materials[regions[name][faces].all(dim=1)] = int(material)
    return materials


def _eye_center(template: Tensor, mask: Tensor) -> Tensor:
    """Centre of the sphere through the eyeball's vertices: linear least squares, rounded, because its last bits vary from run to run."""
    points = template[mask].double()
    system = torch.cat([2 * points, torch.ones_like(points[:, :1])], dim=1)
    return torch.linalg.lstsq(system, (points**2).sum(dim=1, keepdim=True)).solution[:3, 0].round(decimals=6).float()


def _middle_weights(template: Tensor, mask: Tensor, center: Tensor) -> Tensor:
    """The most even weights [V] of the vertices in `mask` whose sum is `center`; a turn about the centre leaves the sum alone."""
    points = template[mask].double()
    offset = points - points.mean(dim=0)
    shift = torch.linalg.solve(offset.T @ offset, center.double() - points.mean(dim=0))
    weights = torch.zeros(len(template))
    weights[mask] = (1 / len(points) + offset @ shift).round(decimals=6).float()
    return weights / weights.sum()


def _iris_angle(template: Tensor, mask: Tensor, center: Tensor) -> float:
    directions = F.normalize(template[mask] - center, dim=1)
    return float(torch.arccos(directions[:, 2].clamp(-1, 1)).max())


def _neck_ring(template: Tensor, mask: Tensor, chin: Tensor) -> Tensor:
    """The neck's vertices at the height where a collar sits."""
    index = mask.nonzero()[:, 0]
    distance = (template[index, 1] - (chin[1] - _COLLAR_DROP)).abs()
    return index[distance <= distance.quantile(0.12)]


def _occlusion(head: HeadModel) -> Tensor:
    """Share [V] of directions from which a vertex is seen, weighted by the cosine; the mouth a little open, to light its inside."""
    params = head.neutral(1)
    pose = params.pose.clone()
    pose[:, Joint.JAW, 0] = 0.2
    vertices, faces = head(replace(params, pose=pose)).vertices[0], head.topology.faces
    normals = vertex_normals(vertices, faces)
    seen, total = torch.zeros(len(vertices)), torch.zeros(len(vertices))
    for direction in sphere_directions(_OCCLUSION_VIEWS):
        cosine = (normals @ direction).clamp_min(0)
        seen += cosine * light_view(vertices, faces, direction, _OCCLUSION_SIZE).lit(vertices, _OCCLUSION_BIAS)
        total += cosine
    return seen / total.clamp_min(1e-6)
