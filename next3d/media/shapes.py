"""Surfaces of generated heads: density on a grid → marching cubes → a `.ply` that MeshLab and Blender open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import UserError
from dnnlib.files import atomic_write

DensityField = Callable[[Tensor], Tensor]
"""World points [1, M, 3] to densities [1, M, 1]."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh in world units, counter-clockwise seen from outside."""

    vertices: NDArray[np.float32]
    """[V, 3]."""
    faces: NDArray[np.int64]
    """[F, 3]."""


def grid_axis(resolution: int, box: float) -> Tensor:
    """Coordinates [resolution] of the grid points along one axis: both faces of the cube [-box/2, box/2] included."""
    return torch.linspace(-box / 2, box / 2, resolution)


@torch.no_grad()
def density_grid(field: DensityField, resolution: int, box: float, *, chunk: int = 1 << 17, device: torch.device | str = "cpu") -> Tensor:
    """Sample a density field on a regular grid.

    Args:
        field: called with at most `chunk` points at a time, so memory stays bounded at any resolution.
        resolution: grid points per axis, at least 2.
        box: edge of the cube around the world origin, world units.
        chunk: points per call.
        device: where the field's points are made.

    Returns:
        [resolution, resolution, resolution] float32 on the CPU, indexed x, y, z.
    """
    axis = grid_axis(resolution, box).to(device)
    total = resolution**3
    values = torch.empty(total)
    for start in range(0, total, chunk):
        index = torch.arange(start, min(start + chunk, total), device=device)
        x, y, z = index // resolution**2, index // resolution % resolution, index % resolution
        points = torch.stack([axis[x], axis[y], axis[z]], dim=1)  # [M, 3]
        values[start : start + len(index)] = field(points[None])[0, :, 0].float().cpu()
    return values.reshape(resolution, resolution, resolution)


def extract_surface(density: Tensor, level: float, box: float) -> Surface:
    """Marching cubes on a grid from `density_grid`.

    The grid is wrapped in one layer of emptiness first, so a shape that reaches the border of the cube is closed there.

    Args:
        density: [R, R, R], indexed x, y, z.
        level: density at which the surface lies.
        box: edge of the cube, world units.

    Raises:
        UserError: nothing crosses the level.
    """
    from skimage.measure import marching_cubes

    values = density.float().numpy()
    low, high = float(values.min()), float(values.max())
    if not high > level or not np.isfinite(values).all():
        raise UserError(
            f"no surface at density {level:g}: the densities found lie between {low:g} and {high:g}. "
            "Choose a level between them, or train longer."
        )
    # Far below the level on the outside: the surface closes within a thousandth of a cell of the cube's faces.
    outside = level - 1000 * (high - level)
    padded = np.pad(values, 1, constant_values=outside)
    spacing = box / (len(values) - 1)
    vertices, faces, _, _ = marching_cubes(padded, level=level, spacing=(spacing,) * 3, gradient_direction="ascent")
    vertices = vertices - spacing - box / 2
    return Surface(vertices.astype(np.float32), faces.astype(np.int64))


def largest_part(surface: Surface) -> Surface:
    """The connected part with the most triangles: drops the crumbs that a young density field leaves in the air."""
    part = _connected_parts(surface)
    return _only(surface, part == np.bincount(part[surface.faces[:, 0]]).argmax())


def part_at(surface: Surface, points: NDArray[np.float32]) -> Surface:
    """The connected part that lies next to most of the points [n, 3]: the head, given its mesh, even where a background is larger."""
    from scipy.spatial import KDTree

    part = _connected_parts(surface)
    _, nearest = KDTree(surface.vertices).query(points)
    return _only(surface, part == np.bincount(part[nearest]).argmax())


def _connected_parts(surface: Surface) -> NDArray[np.int32]:
    """[V]: number of the connected part that each vertex belongs to."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second = surface.faces[:, [0, 1]].T, surface.faces[:, [1, 2]].T
    rows, columns = np.concatenate([first, second], axis=1)
    count = len(surface.vertices)
    _, part = connected_components(coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count)), directed=False)
    return part


def _only(surface: Surface, keep: NDArray[np.bool_]) -> Surface:
    """The vertices [V] that `keep` names, and the triangles between them."""
    renumber = np.cumsum(keep) - 1
    return Surface(surface.vertices[keep], renumber[surface.faces[keep[surface.faces[:, 0]]]])


def save_ply(path: str | Path, surface: Surface) -> None:
    """Write a surface as binary PLY, whole or absent."""
    import trimesh

    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    with atomic_write(path) as temporary:
        mesh.export(temporary, file_type="ply")
