"""What the renderer must know about a head model once: materials, occlusion, where brows, lids, nostrils and hairline are.

Everything is measured on the neutral head ("template", world units) and stays attached to its vertices, so that paint follows the
skin through every expression and identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.model import HeadModel, Joint
from torch_utils.ops.rasterize import rasterize

AZIMUTHS = 96
"""Columns of the skull grid and of the hair; column 0 looks straight ahead, a quarter further is the person's left (+x)."""
ELEVATIONS = 49
"""Rows of the skull grid, from straight up to LOWEST_ELEVATION."""
LOWEST_ELEVATION = -np.pi / 3
_OCCLUSION_VIEWS = 40
_OCCLUSION_SIZE = 128
_OCCLUSION_BIAS = 0.012
_RAY_CHUNK = 128
_COLLAR_DROP = 0.065
"""Distance of the collar below the chin, world units; a little high, so that portraits show some of the clothes."""


class Material(IntEnum):
    """How a triangle is shaded."""

    SKIN = 0
    EYE = 1
    MOUTH = 2
    TEETH = 3
    TONGUE = 4
    HAIR = 5
    CLOTHES = 6


@dataclass(frozen=True)
class Curve:
    """A height over x on the person's left half (x >= 0) of the template, world units."""

    x: Tensor
    """[K], increasing."""
    y: Tensor
    """[K]."""

    def height(self, x: Tensor) -> Tensor:
        """Linear interpolation at |x|; constant beyond the ends."""
        x = x.abs().clamp(float(self.x[0]), float(self.x[-1]))
        right = torch.searchsorted(self.x, x).clamp(1, len(self.x) - 1)
        x0, x1, y0, y1 = self.x[right - 1], self.x[right], self.y[right - 1], self.y[right]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


@dataclass(frozen=True)
class HeadSurface:
    """See the module's first lines. V vertices, F triangles of the head's topology."""

    faces: Tensor
    materials: Tensor
    """[F] int64, values of `Material`."""
    ears: Tensor
    """[F] bool: triangles that long hair covers."""
    template: Tensor
    """[V, 3]: the neutral head; the coordinates in which skin is painted."""
    landmarks: Tensor
    """[68, 3] of the neutral head."""
    occlusion: Tensor
    """[V] in [0, 1]: how much of the surroundings a vertex sees; 1 is all."""
    lips: Tensor
    """[V] in [0, 1]."""
    eye_centers: Tensor
    """[2, 3]: left and right, template."""
    iris_angle: float
    """Radius of the iris seen from the eye's centre, radians."""
    brow: Curve
    upper_lid: Curve
    lower_lid: Curve
    skull_vertices: Tensor
    """[AZIMUTHS * ELEVATIONS, 6] int64 and ..."""
    skull_weights: Tensor
    """... [AZIMUTHS * ELEVATIONS, 6]: each grid direction's surface point as a combination of vertices."""
    skull_middle: Tensor
    """[3]: centre of the skull grid on the template."""
    neck_vertices: Tensor
    """[K] int64: the ring on which a collar sits."""

    def skull(self, vertices: Tensor) -> Tensor:
        """Surface points [AZIMUTHS, ELEVATIONS, 3] of a posed head [V, 3] in the directions of the skull grid; ears left out."""
        points = (vertices[self.skull_vertices] * self.skull_weights[..., None]).sum(dim=1)
        return points.reshape(AZIMUTHS, ELEVATIONS, 3)


def skull_center(skull: Tensor) -> Tensor:
    """The middle [3] of a skull grid: the mean of its equator."""
    equator = round((ELEVATIONS - 1) * (np.pi / 2) / (np.pi / 2 - LOWEST_ELEVATION))
    return skull[:, equator].mean(dim=0)


@lru_cache(maxsize=2)
def head_surface(head: HeadModel) -> HeadSurface:
    """Measure a head model; takes about a second, once per process."""
    with torch.no_grad():
        mesh = head(head.neutral(1))
    topology = head.topology
    template, landmarks = mesh.vertices[0], mesh.landmarks[0]
    regions = dict(topology.regions)
    materials = _materials(topology.faces, regions)
    eyes = torch.stack([_eye_center(template, regions[f"{side}_eye"]) for side in ("left", "right")])
    ears = (regions["left_ear"] | regions["right_ear"])[topology.faces].any(dim=1)
    skull_vertices, skull_weights = _skull_grid(template, topology.faces[(materials == Material.SKIN) & ~ears], landmarks)
    skull = (template[skull_vertices] * skull_weights[..., None]).sum(dim=1).reshape(AZIMUTHS, ELEVATIONS, 3)
    return HeadSurface(
        faces=topology.faces,
        materials=materials,
        ears=ears,
        template=template,
        landmarks=landmarks,
        occlusion=_occlusion(head),
        lips=regions["lips"].float(),
        eye_centers=eyes,
        iris_angle=_iris_angle(template, regions["left_iris"], eyes[0]),
        brow=_curve(landmarks[22:27]),
        upper_lid=_curve(landmarks[42:46]),
        lower_lid=_curve(landmarks[[42, 47, 46, 45]]),
        skull_vertices=skull_vertices,
        skull_weights=skull_weights,
        skull_middle=skull_center(skull),
        neck_vertices=_neck_ring(template, regions["neck"], landmarks[8]),
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
    """Centre of the sphere through the eyeball's vertices (linear least squares)."""
    points = template[mask]
    system = torch.cat([2 * points, torch.ones(len(points), 1)], dim=1)
    return torch.linalg.lstsq(system, (points**2).sum(dim=1, keepdim=True)).solution[:3, 0]


def _iris_angle(template: Tensor, mask: Tensor, center: Tensor) -> float:
    directions = F.normalize(template[mask] - center, dim=1)
    return float(torch.arccos(directions[:, 2].clamp(-1, 1)).max())


def _curve(points: Tensor) -> Curve:
    ordered = points[points[:, 0].argsort()]
    return Curve(ordered[:, 0].contiguous(), ordered[:, 1].contiguous())


def _neck_ring(template: Tensor, mask: Tensor, chin: Tensor) -> Tensor:
    """The neck's vertices at the height where a collar sits."""
    index = mask.nonzero()[:, 0]
    distance = (template[index, 1] - (chin[1] - _COLLAR_DROP)).abs()
    return index[distance <= distance.quantile(0.12)]


def _occlusion(head: HeadModel) -> Tensor:
    """Share [V] of directions from which a vertex is seen, weighted by the cosine; mouth a little open, so that its inside gets some light."""
    params = head.neutral(1)
    pose = params.pose.clone()
    pose[:, Joint.JAW, 0] = 0.2
    with torch.no_grad():
        vertices = head(replace(params, pose=pose)).vertices[0]
    faces = head.topology.faces
    normals = vertex_normals(vertices, faces)
    seen, total = torch.zeros(len(vertices)), torch.zeros(len(vertices))
    for direction in _sphere(_OCCLUSION_VIEWS):
        cosine = (normals @ direction).clamp_min(0)
        seen += cosine * visible_from(vertices, faces, direction, _OCCLUSION_SIZE, _OCCLUSION_BIAS)
        total += cosine
    return seen / total.clamp_min(1e-6)


def _sphere(count: int) -> Tensor:
    """Directions [count, 3] spread evenly (golden spiral)."""
    step = torch.arange(count) + 0.5
    y, angle = 1 - 2 * step / count, step * (np.pi * (3 - 5**0.5))
    radius = (1 - y**2).sqrt()
    return torch.stack([radius * angle.cos(), y, radius * angle.sin()], dim=1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [V, 3], weighted by area."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    face_normals = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals.index_add_(0, faces[:, corner], face_normals)
    return F.normalize(normals, dim=1)


@dataclass(frozen=True)
class LightView:
    """The scene as a distant lamp sees it: an orthographic depth image."""

    axes: Tensor
    """[3, 3]: rows right, down, away from the lamp."""
    center: Tensor
    """[3], scaled into view."""
    extent: float
    depth: Tensor
    """[S, S], inf where nothing is."""

    def lit(self, points: Tensor, bias: float) -> Tensor:
        """Share [P] in [0, 1] of four neighbouring rays that reach the points [P, 3]."""
        local = (points - self.center) @ self.axes.T
        size = len(self.depth)
        corner = ((local[:, :2] / self.extent + 1) * size - 1) / 2
        base = corner.floor().long()
        fraction = corner - base
        light = points.new_zeros(len(points))
        for row in (0, 1):
            for column in (0, 1):
                x, y = (base[:, 0] + column).clamp(0, size - 1), (base[:, 1] + row).clamp(0, size - 1)
                weight_x = fraction[:, 0] if column else 1 - fraction[:, 0]
                weight_y = fraction[:, 1] if row else 1 - fraction[:, 1]
                light += weight_x * weight_y * (local[:, 2] <= self.depth[y, x] + bias)
        return light


def light_view(vertices: Tensor, faces: Tensor, direction: Tensor, size: int) -> LightView:
    """Look at a scene [V, 3] from a distant lamp in `direction` [3]."""
    away = -F.normalize(direction, dim=0)
    helper = torch.tensor([0.0, 1.0, 0.0]) if abs(float(away[1])) < 0.9 else torch.tensor([1.0, 0.0, 0.0])
    right = F.normalize(torch.linalg.cross(away, helper), dim=0)
    axes = torch.stack([right, torch.linalg.cross(away, right), away])
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    center = (low + high) / 2
    extent = float((high - low).norm()) / 2
    local = (vertices - center) @ axes.T
    points = torch.cat([local[:, :2] / extent, local[:, 2:]], dim=1)
    return LightView(axes, center, extent, rasterize(points[None], faces, (size, size)).depth[0])


def visible_from(vertices: Tensor, faces: Tensor, direction: Tensor, size: int, bias: float) -> Tensor:
    """Share [V] of each vertex that is seen from far away in `direction`."""
    return light_view(vertices, faces, direction, size).lit(vertices, bias)


def _skull_grid(template: Tensor, faces: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays from the head's middle leave it: vertices and weights [G, 6]; gaps (ears, eyes, mouth) are bridged along their row."""
    eye_level = landmarks[36:48, 1].mean()
    upper = template[template[:, 1] > eye_level]
    center = torch.stack([upper.new_zeros(()), eye_level + 0.04, (upper[:, 2].amin() + upper[:, 2].amax()) / 2])
    directions = grid_directions()
    face, weights, hit = _cast_rays(center, directions.reshape(-1, 3), template, faces)
    vertices = torch.cat([faces[face], faces[face]], dim=1)
    weights = torch.cat([weights, torch.zeros_like(weights)], dim=1)
    for gap in (~hit).nonzero()[:, 0].tolist():
        azimuth, elevation = divmod(gap, ELEVATIONS)
        row = hit.reshape(AZIMUTHS, ELEVATIONS)[:, elevation]
        steps = torch.arange(1, AZIMUTHS)
        ahead, behind = row[(azimuth + steps) % AZIMUTHS], row[(azimuth - steps) % AZIMUTHS]
        forward, backward = int(steps[ahead][0]), int(steps[behind][0])
        for place, (step, share) in enumerate(((forward, backward), (-backward, forward))):
            source = ((azimuth + step) % AZIMUTHS) * ELEVATIONS + elevation
            vertices[gap, 3 * place : 3 * place + 3] = faces[face[source]]
            weights[gap, 3 * place : 3 * place + 3] = weights[source, :3] * share / (forward + backward)
    return vertices, weights


def grid_directions() -> Tensor:
    """Unit directions [AZIMUTHS, ELEVATIONS, 3] of the skull grid."""
    azimuth = (torch.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS))[:, None]
    elevation = torch.linspace(np.pi / 2 - 1e-3, LOWEST_ELEVATION, ELEVATIONS)[None]
    flat = elevation.cos()
    return torch.stack([azimuth.sin() * flat, elevation.sin().expand(AZIMUTHS, -1), azimuth.cos() * flat], dim=2).float()


def _cast_rays(origin: Tensor, directions: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The farthest triangle [R] that each ray meets, where in it [R, 3], and whether there is one [R]."""
    a, b, c = (vertices[faces[:, corner]] - origin for corner in range(3))
    # A ray is inside a triangle's cone if it is on the same side of the three planes through the origin and an edge.
    planes = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)])  # [3, F, 3]
    volume = (a * planes[0]).sum(dim=1)
    found = []
    for part in directions.split(_RAY_CHUNK):
        sides = torch.einsum("kfc,rc->rkf", planes, part) / volume  # distance-weighted barycentrics
        distance = 1 / sides.sum(dim=1)
        inside = (sides >= -1e-7).all(dim=1) & distance.isfinite() & (distance > 0)
        reach, face = torch.where(inside, distance, -1.0).max(dim=1)
        weights = sides.gather(2, face[:, None, None].expand(-1, 3, 1))[:, :, 0]
        found.append((face, F.normalize(weights, p=1, dim=1), reach > 0))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]
