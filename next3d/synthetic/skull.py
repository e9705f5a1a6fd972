"""The skull as a grid of directions: where hair grows, on any posed head."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

AZIMUTHS = 96
"""Columns of the skull grid and of the hair; column 0 looks straight ahead, a quarter further is the person's left (+x)."""
ELEVATIONS = 49
"""Rows of the skull grid, from straight up to LOWEST_ELEVATION."""
LOWEST_ELEVATION = -np.pi / 3
EQUATOR = round((ELEVATIONS - 1) * (np.pi / 2) / (np.pi / 2 - LOWEST_ELEVATION))
"""The row that looks straight to the sides."""
_RAY_CHUNK = 128
_HAIRLINE = ((0, 40), (22, 39), (38, 34), (52, 23), (64, 8), (74, -8), (82, -10), (92, 4), (104, 6), (116, -14), (130, -30), (180, -36))
"""Azimuth from the front and elevation of the hairline, degrees: forehead, temple, sideburn, above and behind the ear, nape."""

Array = npt.NDArray[np.float64]


def skull_center(skull: Tensor) -> Tensor:
    """The middle [3] of a skull grid: the mean of its equator."""
    return skull[:, EQUATOR].mean(dim=0)


def hairline(azimuth: Array) -> Array:
    """Elevation of the hairline, radians, at azimuths in radians (any sign)."""
    turned = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi) / (np.pi / 180)
    table = np.array(_HAIRLINE, dtype=np.float64)
    return np.asarray(np.interp(turned, table[:, 0], table[:, 1]) * (np.pi / 180))


def skull_grid(template: Tensor, faces: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
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
