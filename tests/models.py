"""A head for tests that needs no head model: an ellipsoid with UVs, a face mask with an open mouth, and 68 landmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.topology import Topology
from next3d.render.cameras import orbit_camera
from next3d.types import HeadMesh

RADII = (0.16, 0.22, 0.18)
"""Half axes along x, y, z, world units: about a head of a portrait."""
MASK_SIZE = 64
MOUTH = (0.0, -0.5)
"""Longitude and latitude of the mouth's centre, radians."""


def uv_at(longitude: Tensor, latitude: Tensor) -> Tensor:
    """UV [..., 2] of directions; longitude 0 is +z and grows towards +x, the seam is at the back."""
    return torch.stack([0.5 + longitude / (2 * math.pi), 0.5 + latitude / math.pi], dim=-1)


def direction(longitude: Tensor, latitude: Tensor) -> Tensor:
    """Unit vectors [..., 3]."""
    return torch.stack([longitude.sin() * latitude.cos(), latitude.sin(), longitude.cos() * latitude.cos()], dim=-1)


def face_mask(size: int = MASK_SIZE) -> Tensor:
    """[1, size, size]: an oval around the face with a soft edge and a hole at the mouth; row 0 is v = 1."""
    steps = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - steps, steps, indexing="ij")
    longitude, latitude = (u - 0.5) * 2 * math.pi, (v - 0.5) * math.pi
    oval = 1 - ((longitude / 1.9) ** 2 + (latitude / 1.1) ** 2).sqrt()
    mouth = 1 - (((longitude - MOUTH[0]) / 0.35) ** 2 + ((latitude - MOUTH[1]) / 0.15) ** 2).sqrt()
    return ((oval * 8).clamp(0, 1) * (1 - (mouth * 8).clamp(0, 1)))[None]


def _landmark_angles() -> Tensor:
    """[68, 2] longitude and latitude; 48-59 go around the outer lips from the person's right corner over the top."""
    turn = torch.linspace(math.pi, -math.pi, 13)[:12]
    outer = torch.stack([MOUTH[0] + 0.4 * turn.cos(), MOUTH[1] + 0.2 * turn.sin()], dim=1)
    inner = torch.stack([MOUTH[0] + 0.25 * turn[:8].cos(), MOUTH[1] + 0.1 * turn[:8].sin()], dim=1)
    jaw = torch.stack([torch.linspace(-1.2, 1.2, 17), torch.full((17,), -0.7)], dim=1)
    rest = torch.stack([torch.linspace(-0.8, 0.8, 31), torch.full((31,), 0.3)], dim=1)
    return torch.cat([jaw, rest, outer, inner])


@dataclass(frozen=True)
class ToyHead:
    """A closed ellipsoid, mirror-symmetric down to its triangles."""

    topology: Topology
    vertices: Tensor
    """[V, 3]."""

    def mesh(self, count: int = 1, seed: int | None = None) -> HeadMesh:
        """`count` heads: the ellipsoid, or with a seed smoothly deformed and turned ones, each different."""
        vertices = self.vertices.expand(count, -1, -1)
        if seed is not None:
            rng = torch.Generator().manual_seed(seed)
            waves = torch.randn(count, 3, 3, generator=rng) * 8
            phase = torch.rand(count, 1, 3, generator=rng) * 6
            vertices = vertices * (1 + 0.1 * torch.sin(vertices @ waves + phase))
            vertices = vertices @ _turn(torch.rand(count, generator=rng) - 0.5)
        return HeadMesh(vertices, self.topology.landmarks(vertices))

    def mirrored(self, mesh: HeadMesh) -> HeadMesh:
        """The mirror image at x = 0 of any mesh of this topology."""
        assert self.topology.mirror_vertices is not None
        vertices = mesh.vertices[:, self.topology.mirror_vertices] * torch.tensor([-1.0, 1.0, 1.0])
        return HeadMesh(vertices, self.topology.landmarks(vertices))

    def without(self, removed: Tensor) -> Topology:
        """The topology with the triangles [F] bool taken out: an open surface."""
        return replace(self.topology, faces=self.topology.faces[~removed], uv_faces=self.topology.uv_faces[~removed])


def _turn(yaw: Tensor) -> Tensor:
    """Rotations [N, 3, 3] about the vertical axis, for row vectors."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    return torch.stack([yaw.cos(), zero, -yaw.sin(), zero, one, zero, yaw.sin(), zero, yaw.cos()], dim=1).reshape(-1, 3, 3)


def toy_head(rings: int = 16, segments: int = 32) -> ToyHead:
    """An ellipsoid of `rings` x `segments` quads with poles at the top and at the bottom."""
    latitude = torch.linspace(-math.pi / 2, math.pi / 2, rings + 1)
    longitude = torch.linspace(-math.pi, math.pi, segments + 1)  # the last column repeats the first: the UV seam
    grid = torch.cartesian_prod(torch.arange(rings + 1), torch.arange(segments + 1))
    uvs = uv_at(longitude[grid[:, 1]], latitude[grid[:, 0]])
    # Vertices: one per pole, `segments` per ring between them.
    vertex_of = torch.where(
        grid[:, 0] == 0, 0, torch.where(grid[:, 0] == rings, 1, 2 + (grid[:, 0] - 1) * segments + grid[:, 1] % segments)
    )
    vertices = torch.zeros(2 + (rings - 1) * segments, 3)
    vertices[vertex_of] = direction(longitude[grid[:, 1]], latitude[grid[:, 0]])
    uv_faces = _triangles(rings, segments)
    faces = vertex_of[uv_faces]
    mirror = torch.arange(len(vertices))
    mirror[vertex_of] = vertex_of[grid[:, 0] * (segments + 1) + segments - grid[:, 1]]
    normals = vertices.clone()
    vertices = vertices * torch.tensor(RADII)
    landmark_faces, weights = _embed(_landmark_angles(), uvs[uv_faces])
    topology = Topology(
        faces=faces,
        uvs=uvs,
        uv_faces=uv_faces,
        uv_mask=face_mask(),
        guide_colors=normals,
        landmark_faces=landmark_faces,
        landmark_barycentrics=weights,
        mirror_vertices=mirror,
        regions={"face": normals[:, 2] > 0, "lips": normals[:, 2] > 0.9},
    )
    return ToyHead(topology, vertices)


def _triangles(rings: int, segments: int) -> Tensor:
    """[F, 3] corners in the grid of (rings + 1) x (segments + 1) UVs, counter-clockwise from outside; diagonals mirror at the middle."""
    found = []
    for ring in range(rings):
        for segment in range(segments):
            a, b = ring * (segments + 1) + segment, ring * (segments + 1) + segment + 1
            c, d = a + segments + 1, b + segments + 1  # above a and b
            pair = [(a, b, d), (a, d, c)] if segment < segments // 2 else [(a, b, c), (b, d, c)]
            # At the poles one of the two has no area.
            found += [t for t in pair if not (ring == 0 and a in t and b in t) and not (ring == rings - 1 and c in t and d in t)]
    return torch.tensor(found)


def _embed(angles: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """The triangle [68] with UV corners [F, 3, 2] that holds each point, and where in it [68, 3]."""
    point = uv_at(angles[:, 0], angles[:, 1])[:, None]
    a, b, c = corners.unbind(1)
    cross = lambda p, q: p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]  # noqa: E731
    weights = torch.stack([cross(b - point, c - point), cross(c - point, a - point), cross(a - point, b - point)], dim=-1)
    weights = weights / cross(b - a, c - a)[None, :, None]
    face = weights.amin(dim=-1).argmax(dim=1)
    inside = weights[torch.arange(len(angles)), face].clamp_min(0)
    return face, F.normalize(inside, p=1, dim=1)


def labels(count: int, seed: int = 0) -> Tensor:
    """Camera labels [count, 25] of portraits from different sides."""
    rng = torch.Generator().manual_seed(seed)
    return orbit_camera(torch.rand(count, generator=rng) * 0.8 - 0.4, torch.rand(count, generator=rng) * 0.4 - 0.2).to_label()
