"""Shoulders and a garment: two nested surfaces that begin inside the neck and run out of the picture.

Both are grids of COLUMNS around the body (column 0 in front, then the person's left) and rows downwards. The inner one is skin; the
garment lies a little outside of it, from its neckline down, and starts below the skin, so that no edge floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from next3d.synthetic.looks import Clothes, Collar

Array = npt.NDArray[np.float64]

COLUMNS = 64
BODY_ROWS = 22
CLOTH_ROWS = 20
_SLEEVE = 0.016
"""Distance of the cloth from the body, world units."""

_PROFILE = np.array(
    # place along the body, half width beyond the neck's (part of the shoulders' rest), height below the neck ring, depth growth
    [
        [0.00, -0.16, 0.050, -0.12],
        [0.20, -0.04, 0.006, -0.02],
        [0.30, 0.10, -0.014, 0.14],
        [0.45, 0.36, -0.034, 0.40],
        [0.62, 0.74, -0.070, 0.75],
        [0.76, 0.96, -0.130, 0.95],
        [0.86, 1.00, -0.230, 1.00],
        [1.00, 0.98, -0.600, 1.05],
    ]
)
_NECKLINES: dict[Collar, tuple[float, float, float]] = {
    # place on the profile where the cloth begins, added in front, how pointed
    "crew": (0.27, 0.06, 1.0),
    "vee": (0.30, 0.34, 5.0),
    "shirt": (0.20, 0.20, 7.0),
    "turtle": (0.03, 0.0, 1.0),
    "boat": (0.38, 0.10, 1.0),
}


@dataclass(frozen=True)
class Body:
    """Shoulders and garment."""

    vertices: Tensor
    """[V, 3], world."""
    faces: Tensor
    """[T, 3]."""
    is_cloth: Tensor
    """[T] bool."""
    local: Tensor
    """[V, 3]: turn around the body (0.5 in front), place downwards, distance below the neckline (0 on skin)."""


@dataclass(frozen=True)
class NeckRing:
    """Where the head's mesh ends: an ellipse."""

    center: Array
    half_width: float
    half_depth: float


def measure_neck(points: Tensor) -> NeckRing:
    """Fit the ring of neck vertices [K, 3]."""
    ring = points.double().numpy()
    low, high = ring.min(axis=0), ring.max(axis=0)
    return NeckRing((low + high) / 2, float(high[0] - low[0]) / 2, float(high[2] - low[2]) / 2)


def build_body(clothes: Clothes, neck: NeckRing) -> Body:
    """Shoulders under the neck and what is worn over them."""
    begin = neckline(clothes.collar)
    bare_rows = np.linspace(0, 1, BODY_ROWS)[None].repeat(COLUMNS, axis=0)
    bare = _surface(clothes.width, neck, bare_rows, np.zeros_like(bare_rows))
    share = np.linspace(0, 1, CLOTH_ROWS)[None] ** 1.5
    cloth_rows = begin[:, None] + (1 - begin[:, None]) * share
    offset = np.full_like(cloth_rows, _SLEEVE)
    offset[:, 0], offset[:, 1] = -0.030, 0.8 * _SLEEVE
    cloth_rows[:, 1] = cloth_rows[:, 0]  # the hem is a short step outwards
    if clothes.collar == "shirt":
        offset[:, 1:4] += np.array([0.006, 0.013, 0.005])
    cloth = _surface(clothes.width, neck, cloth_rows, offset)
    turn = np.linspace(0, 1, COLUMNS, endpoint=False)[:, None]
    local = np.concatenate(
        [
            np.stack(np.broadcast_arrays((turn + 0.5) % 1, rows, depth), axis=2).reshape(-1, 3)
            for rows, depth in ((bare_rows, 0.0), (cloth_rows, cloth_rows - begin[:, None]))
        ]
    )
    bare_faces, cloth_faces = _grid_faces(BODY_ROWS), _grid_faces(CLOTH_ROWS) + COLUMNS * BODY_ROWS
    is_cloth = torch.cat([torch.zeros(len(bare_faces), dtype=torch.bool), torch.ones(len(cloth_faces), dtype=torch.bool)])
    vertices = torch.from_numpy(np.concatenate([bare.reshape(-1, 3), cloth.reshape(-1, 3)])).float()
    return Body(vertices, torch.cat([bare_faces, cloth_faces]), is_cloth, torch.from_numpy(local).float())


def neckline(collar: Collar) -> Array:
    """Place [COLUMNS] on the body's profile where the cloth begins."""
    start, front, power = _NECKLINES[collar]
    facing = 0.5 + 0.5 * np.cos(np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False))
    return np.asarray(start + front * facing**power)


def _surface(width: float, neck: NeckRing, rows: Array, offset: Array) -> Array:
    """Points [COLUMNS, R, 3] of the body at places `rows` [COLUMNS, R], moved outwards by `offset` [COLUMNS, R]."""
    azimuth = np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False)[:, None]
    grow, height, deepen = (np.interp(rows, _PROFILE[:, 0], _PROFILE[:, column]) for column in (1, 2, 3))
    half_width = neck.half_width + (width - neck.half_width) * grow + offset
    half_depth = neck.half_depth + 0.11 * deepen + offset
    front = np.cos(azimuth)
    # The chest falls away faster than the shoulders, and the back is higher than the chest.
    sink = 0.10 * deepen * (0.5 + 0.5 * front) ** 1.5 - 0.02 * deepen * (1 - front)
    x = half_width * np.sin(azimuth)
    z = half_depth * front - 0.03 * deepen
    y = height - sink + 0.6 * offset
    return np.asarray(neck.center + np.stack([x, y, z], axis=2))


@lru_cache(maxsize=4)
def _grid_faces(rows: int) -> Tensor:
    """Triangles of a grid of COLUMNS x rows, closed around, counter-clockwise from outside."""
    column, row = torch.meshgrid(torch.arange(COLUMNS), torch.arange(rows - 1), indexing="ij")
    following = (column + 1) % COLUMNS
    a, b = column * rows + row, following * rows + row
    c, d = following * rows + row + 1, column * rows + row + 1
    return torch.cat([torch.stack([a, d, c], dim=2).reshape(-1, 3), torch.stack([a, c, b], dim=2).reshape(-1, 3)])
