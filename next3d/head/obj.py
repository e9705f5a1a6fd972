"""OBJ meshes: a complete reader for topologies, a fast one for vertices, a writer, and the topology of a data set's own mesh.

Read: `v`, `vt`, `f` with v, v/vt, v//vn or v/vt/vn, negative (relative) indices, polygons (split into a fan). All else is passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from dnnlib.errors import DatasetError
from dnnlib.files import atomic_write
from next3d.head.topology import Topology

Indices = NDArray[np.int64]

MASK_SIZE = 256
SMALL_PART = 0.2
"""Connected parts with fewer vertices than this share of the mesh (eyeballs, teeth) are painted in colours of their own."""


@dataclass(frozen=True)
class ObjMesh:
    """A triangle mesh with texture coordinates."""

    vertices: Tensor
    """[V, 3] float32."""
    faces: Tensor
    """[F, 3] int64."""
    uvs: Tensor
    """[T, 2] float32; empty where the file has none."""
    uv_faces: Tensor
    """[F, 3] int64; zeros where the file has no texture coordinates."""


def read_vertices(data: bytes, shown: str, expected: int | None = None) -> Tensor:
    """The vertices of an OBJ file, quickly.

    Args:
        data: the file's content.
        shown: how messages name the file.
        expected: refuse another number of vertices.

    Returns:
        [V, 3] float32.

    Raises:
        DatasetError: damaged, without vertices, not finite, or another number than expected.
    """
    vertices = torch.from_numpy(_records(data, b"v", 3, shown).astype(np.float32))
    if not torch.isfinite(vertices).all():
        row = int((~torch.isfinite(vertices)).any(dim=1).nonzero()[0])
        raise DatasetError(f"{shown}: vertex {row + 1} is NaN or infinite, expected finite numbers; export the mesh again or drop it.")
    if expected is not None and len(vertices) != expected:
        raise DatasetError(
            f"{shown}: {len(vertices)} vertices, expected {expected} like the data set's other meshes; "
            "export it with the same template or drop it."
        )
    return vertices


def read_obj(data: bytes, shown: str) -> ObjMesh:
    """Vertices, triangles and texture coordinates of an OBJ file.

    Raises:
        DatasetError: damaged, not finite, without triangles, or with indices that lead nowhere.
    """
    vertices = read_vertices(data, shown)
    uvs = _records(data, b"vt", 2, shown) if b"\nvt " in data or data.startswith(b"vt ") else np.zeros((0, 2))
    if not np.isfinite(uvs).all():
        raise DatasetError(f"{shown}: a texture coordinate is NaN or infinite, expected finite numbers; export the mesh again.")
    corners = _corners(data, shown)
    faces = _checked(corners[:, :, 0], len(vertices), "vertex", shown)
    uv_faces = _checked(corners[:, :, 1], len(uvs), "texture coordinate", shown) if len(uvs) else np.zeros_like(faces)
    return ObjMesh(vertices, torch.from_numpy(faces), torch.from_numpy(uvs.astype(np.float32)), torch.from_numpy(uv_faces))


def write_obj(path: Path, mesh: ObjMesh) -> None:
    """Write a mesh; numbers keep float32 precision."""
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vt {u:.9g} {v:.9g}" for u, v in mesh.uvs.tolist()]
    with_uv = len(mesh.uvs) > 0
    for face, uv_face in zip((mesh.faces + 1).tolist(), (mesh.uv_faces + 1).tolist(), strict=True):
        corners = [f"{v}/{t}" for v, t in zip(face, uv_face, strict=True)] if with_uv else [str(v) for v in face]
        lines.append("f " + " ".join(corners))
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_topology(data: bytes, shown: str, uv_mask: Path | None = None) -> Topology:
    """The topology of a data set that brings its own meshes, from one of them.

    Args:
        data: the content of an OBJ file with texture coordinates.
        shown: how messages name the file.
        uv_mask: a grey image, see Topology.uv_mask; None lets the neural texture own the whole atlas.

    Returns:
        Without landmarks, regions and mirror map.

    Raises:
        DatasetError: as read_obj; or no texture coordinates, or some outside [0, 1]; or a mask that is no square image.
    """
    mesh = read_obj(data, shown)
    if len(mesh.uvs) == 0:
        raise DatasetError(f"{shown}: has no texture coordinates (vt), which the neural texture needs; export the meshes with UVs.")
    if mesh.uvs.min() < -1e-4 or mesh.uvs.max() > 1 + 1e-4:
        raise DatasetError(f"{shown}: texture coordinates leave [0, 1]; expected a single atlas without tiling.")
    return Topology(
        faces=mesh.faces,
        uvs=mesh.uvs.clamp(0, 1),
        uv_faces=mesh.uv_faces,
        uv_mask=torch.ones(1, MASK_SIZE, MASK_SIZE) if uv_mask is None else read_uv_mask(uv_mask),
        guide_colors=mesh_guide_colors(mesh.vertices, mesh.faces),
    )


def read_uv_mask(path: Path) -> Tensor:
    """A UV mask [1, M, M] in [0, 1] from a square grey image; its top row is v = 1.

    Raises:
        DatasetError: not a readable image, or not square.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: is not a readable image ({error}); expected a square grey image in UV layout.") from error
    if pixels.shape[0] != pixels.shape[1]:
        raise DatasetError(f"{path}: is {pixels.shape[1]}x{pixels.shape[0]} pixels, expected a square image in UV layout.")
    return torch.from_numpy(pixels)[None]


def mesh_guide_colors(vertices: Tensor, faces: Tensor) -> Tensor:
    """Colours [V, 3] in [-1, 1] by position; small separate parts, such as eyeballs, get the full range for themselves.

    So the turn of an eyeball shows in a rendering, although nothing is known about the mesh but its shape.
    """
    colors = 0.6 * _spread(vertices)
    for part in _parts(len(vertices), faces):
        if 8 <= len(part) < SMALL_PART * len(vertices):
            colors[part] = torch.sin(1.5 * np.pi * _spread(vertices[part]))
    return colors


def _spread(points: Tensor) -> Tensor:
    """Positions scaled to [-1, 1] per axis."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    return 2 * (points - low) / (high - low).clamp_min(1e-8) - 1


def _parts(count: int, faces: Tensor) -> list[Tensor]:
    """Vertices of each connected part."""
    edges = np.concatenate([faces[:, [0, 1]].numpy(), faces[:, [1, 2]].numpy()])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    number, label = connected_components(graph, directed=False)
    return [torch.from_numpy(np.flatnonzero(label == part)) for part in range(number)]


def _records(data: bytes, key: bytes, width: int, shown: str) -> NDArray[np.float64]:
    """The first `width` numbers of every line that starts with `key` [count, width]."""
    numbers = _block(data, key + b" ", width)
    if numbers is not None:
        return numbers
    rows = [line.split()[1:] for line in data.splitlines() if line.startswith(key + b" ")]
    if not rows:
        raise DatasetError(f'{shown}: has no lines that start with "{key.decode()} "; expected an OBJ mesh.')
    try:
        return np.array([[float(word) for word in row[:width]] for row in rows], dtype=np.float64).reshape(len(rows), width)
    except ValueError as error:
        raise DatasetError(
            f'{shown}: a line that starts with "{key.decode()} " does not hold {width} numbers; the file is damaged, export it again.'
        ) from error


def _block(data: bytes, key: bytes, width: int) -> NDArray[np.float64] | None:
    """All lines that start with `key`, parsed at once; None where they are scattered or do not hold `width` numbers each."""
    start = 0 if data.startswith(key) else data.find(b"\n" + key) + 1
    last = data.rfind(b"\n" + key) + 1
    end = data.find(b"\n", last)
    block = data[start:] if end < 0 else data[start:end]
    rows = block.count(b"\n") + 1
    if not block.startswith(key) or block.count(b"\n" + key) + 1 != rows or len(block[: block.find(b"\n")].split()) != width + 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what numpy cannot read ends the numbers early, and is noticed below
        numbers = np.fromstring(block.replace(key, b" "), dtype=np.float64, sep=" ")
    return numbers.reshape(rows, width) if len(numbers) == rows * width else None


def _corners(data: bytes, shown: str) -> Indices:
    """Triangle corners [F, 3, 2]: one-based vertex and texture indices as written, 0 for none."""
    triangles: list[list[tuple[int, int]]] = []
    for line in data.splitlines():
        if not line.startswith(b"f "):
            continue
        try:
            corners = [_corner(word) for word in line.split()[1:]]
        except ValueError as error:
            raise DatasetError(f"{shown}: cannot read the face {line[:60]!r}; the file is damaged, export it again.") from error
        if len(corners) < 3:
            raise DatasetError(f"{shown}: the face {line[:60]!r} has fewer than three corners; the file is damaged, export it again.")
        triangles.extend(_fan(corners))
    if not triangles:
        raise DatasetError(f"{shown}: has no faces; expected a triangle mesh.")
    return np.array(triangles, dtype=np.int64)


def _corner(word: bytes) -> tuple[int, int]:
    fields = word.split(b"/")
    return int(fields[0]), int(fields[1]) if len(fields) > 1 and fields[1] else 0


def _fan(corners: list[tuple[int, int]]) -> Iterable[list[tuple[int, int]]]:
    return ([corners[0], corners[k], corners[k + 1]] for k in range(1, len(corners) - 1))


def _checked(index: Indices, count: int, what: str, shown: str) -> Indices:
    """Zero-based indices in [0, count); negative ones count from the end."""
    zero_based = np.where(index < 0, index + count, index - 1)
    if (zero_based < 0).any() or (zero_based >= count).any():
        wrong = index[(zero_based < 0) | (zero_based >= count)].flat[0]
        raise DatasetError(f"{shown}: a face names {what} {wrong}, but there are {count}; the file is damaged, export it again.")
    return zero_based
