"""How many pairs of triangles cross: exact up to a tolerance, for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def crossing_pairs(vertices: Array, first: Indices, second: Indices | None = None, *, tolerance: float = 0.0) -> Indices:
    """Pairs of triangles that go through each other.

    Two triangles cross if an edge of one pierces the inside of the other. Triangles that share a vertex, or only touch, do not.

    Args:
        vertices: [V, 3].
        first, second: [A, 3] and [B, 3], corners; without `second`, pairs within `first`, each once.
        tolerance: an edge whose end is this close to the other triangle's plane does not pierce it; unit of the vertices.

    Returns:
        [P, 2]: rows of `first` and of `second`.
    """
    other = first if second is None else second
    pairs = _boxes_that_meet(vertices[first], vertices[other])
    if second is None:
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    a, b = first[pairs[:, 0]], other[pairs[:, 1]]
    pairs = pairs[~(a[:, :, None] == b[:, None, :]).any(axis=(1, 2))]
    a, b = vertices[first[pairs[:, 0]]], vertices[other[pairs[:, 1]]]
    return pairs[_pierces(a, b, tolerance) | _pierces(b, a, tolerance)]


def _boxes_that_meet(a: Array, b: Array, rows: int = 256) -> Indices:
    """Pairs [P, 2] of triangles [A, 3, 3] and [B, 3, 3] whose axis-aligned boxes overlap."""
    low, high = b.min(1), b.max(1)
    found = []
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        meet = ((part.min(1)[:, None] <= high) & (part.max(1)[:, None] >= low)).all(2)
        found.append(np.argwhere(meet) + np.array([start, 0]))
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)


def _pierces(edges_of: Array, triangle: Array, tolerance: float) -> NDArray[np.bool_]:
    """Whether an edge of each triangle [P, 3, 3] goes through the inside of the other one [P, 3, 3]."""
    origin, u, v = triangle[:, 0], triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]
    normal = np.cross(u, v)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    height = np.einsum("pkc,pc->pk", edges_of - origin[:, None], normal)  # of each corner over the plane
    found = np.zeros(len(triangle), dtype=bool)
    for corner in range(3):
        start, end = height[:, corner], height[:, (corner + 1) % 3]
        through = (start * end < 0) & (np.minimum(np.abs(start), np.abs(end)) > tolerance)
        share = start / np.where(through, start - end, 1.0)
        point = edges_of[:, corner] + share[:, None] * (edges_of[:, (corner + 1) % 3] - edges_of[:, corner])
        found |= through & _inside(point - origin, u, v)
    return found


def _inside(point: Array, u: Array, v: Array) -> NDArray[np.bool_]:
    """Whether points [P, 3] of the planes spanned by u and v lie strictly inside the triangles 0, u, v."""
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    pu, pv = (point * u).sum(1), (point * v).sum(1)
    area = np.maximum(uu * vv - uv * uv, 1e-30)
    s, t = (vv * pu - uv * pv) / area, (uu * pv - uv * pu) / area
    return (s > 0) & (t > 0) & (s + t < 1)
