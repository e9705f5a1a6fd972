"""Triangle rasterisation: which triangle shows in each pixel, where in it, and how far away.

Image frame: x right, y down, both in [-1, 1] across the image; pixel (row i, column j) of an H x W image has its centre at
x = (2j + 1) / W - 1, y = (2i + 1) / H - 1. z is depth, smaller is nearer.

A pixel belongs to a triangle if its centre lies inside or on the edge. The edge functions are taken relative to the pixel centre,
e_ab = (a - p) x (b - p), in double precision: e_ab = -e_ba exactly, and a rounded difference of products has the sign of the true one
or is zero, which counts as inside. So a closed mesh has no cracks, and all backends, which do the same operations in the same order,
find the same triangles bit by bit. Depth is compared after rounding to the points' dtype, as it is returned; ties go to the lowest
triangle index. Triangles without area, or with a coordinate that is not finite, show nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from torch_utils.custom_ops import Backend, resolve_backend

Cull = Literal["none", "back", "front"]

NEAR = 1e-6
"""Perspective triangles with a vertex at this depth or nearer are dropped: they reach behind the camera."""
BOX_MARGIN = 1e-6
"""Bounding boxes grow by this many pixels, so that their rounding never decides what the edge functions should."""
PAIRS_PER_CHUNK = 1 << 20
"""The reference tests about this many (triangle, pixel) pairs at a time."""


@dataclass(frozen=True)
class Fragments:
    """What shows in each pixel of B images of H x W pixels."""

    face: Tensor
    """[B, H, W] int64: triangle index, -1 for background."""
    barycentrics: Tensor
    """[B, H, W, 3]: weights of the triangle's corners, in [0, 1] and of sum 1; 0 on background."""
    depth: Tensor
    """[B, H, W]: depth, inf on background."""


def rasterize(
    points: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    *,
    perspective: bool = False,
    cull: Cull = "none",
    differentiable: bool = False,
    backend: Backend = "auto",
) -> Fragments:
    """Draw B meshes that share their triangles into B images.

    Args:
        points: [B, V, 3] float32 or float64: x, y in image coordinates, z depth. Orthographic depth may have any sign; with
            `perspective`, z is depth along the camera axis and triangles with a vertex at z <= 1e-6 are dropped, not clipped.
        faces: [F, 3] int64, in [0, V).
        size: (height, width) in pixels.
        perspective: x and y were divided by z: barycentrics and depth are corrected for it.
        cull: "back" drops triangles that are clockwise as seen in the image. A triangle that is counter-clockwise seen from outside
            its mesh faces the viewer when it is counter-clockwise in the picture, which, with y down, is a negative shoelace area
            (b - a) x (c - a). "front" drops those instead.
        differentiable: barycentrics and depth are functions of `points` that autograd sees. Which triangle shows never is.
        backend: "ref", "cpu" (C++), or "auto".

    Returns:
        Fragments; floating-point fields have the dtype of `points`.

    Raises:
        ValueError: wrong shapes, dtypes, devices, sizes or options; or triangle corners outside [0, V).
        BackendError: an explicit backend that is not there.
    """
    _check_inputs(points, faces, size, cull)
    fixed = points.detach()
    if _backend(backend, points.device.type) == "cpu":
        fragments = Fragments(*torch.ops.next3d.rasterize(fixed, faces, size[0], size[1], perspective, cull))
    else:
        fragments = _rasterize_ref(fixed, faces, size, perspective, cull)
    if differentiable:
        return Fragments(fragments.face, *_locate(points, faces, fragments.face, perspective))
    return fragments


def interpolate(attributes: Tensor, corner_index: Tensor, fragments: Fragments) -> Tensor:
    """Blend per-corner attributes at each pixel; differentiable in the attributes and, where they have a gradient, the barycentrics.

    Args:
        attributes: [B, A, C], or [1, A, C] for attributes that all meshes share.
        corner_index: [F, 3] int64: the attribute of every triangle corner; `faces` for vertex attributes, `uv_faces` for UVs.
        fragments: B images of H x W pixels.

    Returns:
        [B, H, W, C], 0 on background.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    face = fragments.face
    batch, channels = face.shape[0], attributes.shape[-1]
    if attributes.ndim != 3 or attributes.shape[0] not in (1, batch):
        raise ValueError(f"attributes: shape {tuple(attributes.shape)}, expected [{batch} or 1, A, C]")
    _check_triangles("corner_index", corner_index)
    if face.numel() == 0 or corner_index.shape[0] == 0:
        return attributes.new_zeros(*face.shape, channels)
    corners = corner_index[face.clamp_min(0)].flatten(1)  # [B, H*W*3]
    corners = corners.unsqueeze(2).expand(-1, -1, channels)
    values = attributes.expand(batch, -1, -1).gather(1, corners).reshape(*face.shape, 3, channels)
    weights = fragments.barycentrics.to(attributes.dtype).unsqueeze(-1)
    return torch.where((face >= 0).unsqueeze(-1), (values * weights).sum(dim=3), 0)


def pixel_centers(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Centres [count] of a row of pixels across [-1, 1], float64."""
    return (2 * torch.arange(count, device=device, dtype=torch.float64) + 1) / count - 1


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "rasterize", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ op."""

    def fake(points: Tensor, faces: Tensor, height: int, width: int, perspective: bool, cull: str) -> tuple[Tensor, Tensor, Tensor]:
        shape = (points.shape[0], height, width)
        return faces.new_empty(shape), points.new_empty(*shape, 3), points.new_empty(shape)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)  # `differentiable=True` works outside of the op

    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        return (None,) * 6

    torch.library.register_fake("next3d::rasterize", fake)
    torch.library.register_autograd("next3d::rasterize", backward, setup_context=setup)


def _check_inputs(points: Tensor, faces: Tensor, size: tuple[int, int], cull: str) -> None:
    if points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(f"points: shape {tuple(points.shape)}, expected [B, V, 3]")
    if points.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"points: dtype {points.dtype}, expected float32 or float64")
    _check_triangles("faces", faces)
    if faces.device != points.device:
        raise ValueError(f"faces are on {faces.device}, points on {points.device}; expected one device")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: {tuple(size)}, expected (height, width), both at least 1")
    if cull not in ("none", "back", "front"):
        raise ValueError(f"cull: {cull!r}, expected 'none', 'back' or 'front'")


def _check_triangles(name: str, index: Tensor) -> None:
    if index.ndim != 2 or index.shape[1] != 3 or index.dtype != torch.int64:
        raise ValueError(f"{name}: {index.dtype} of shape {tuple(index.shape)}, expected int64 [F, 3]")


def _rasterize_ref(points: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool, cull: Cull) -> Fragments:
    """Test every triangle against the pixels of its bounding box, nearest wins."""
    if faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= points.shape[1]):
        raise ValueError(f"faces: corners from {int(faces.min())} to {int(faces.max())}, expected [0, {points.shape[1]})")
    batch, count, pixels = points.shape[0], faces.shape[0], size[0] * size[1]
    depth = points.new_full((batch * pixels,), torch.inf)
    face = faces.new_full((batch * pixels,), -1)
    if batch and count:
        corners = points[:, faces].flatten(0, 1)  # [B*F, 3 corners, 3]
        left, top, width, height = _boxes(corners, size, perspective)
        for part in _chunks(width * height):
            triangle, column, row = _pairs(left, top, width, height, part)
            weights, z = _barycentrics(corners[triangle], column, row, size, perspective, cull)
            z = z.to(points.dtype)
            pixel = (triangle // count) * pixels + row * size[1] + column
            hit = weights.isfinite().all(dim=1) & (z < depth[pixel])  # triangles of earlier chunks win ties
            triangle, pixel, z = triangle[hit], pixel[hit], z[hit]
            depth.scatter_reduce_(0, pixel, z, "amin")
            nearest = z == depth[pixel]
            face[pixel[nearest]] = count
            face.scatter_reduce_(0, pixel[nearest], triangle[nearest] % count, "amin")
    face = face.reshape(batch, *size)
    return Fragments(face, *_locate(points, faces, face, perspective))


def _boxes(corners: Tensor, size: tuple[int, int], perspective: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First column, first row, width and height [T] of the pixels in the bounding boxes of triangles [T, 3, 3]; empty where dropped."""
    usable = corners.isfinite().flatten(1).all(dim=1)
    if perspective:
        usable &= (corners[:, :, 2] > NEAR).all(dim=1)
    firsts, counts = [], []
    for axis, pixels in ((0, size[1]), (1, size[0])):
        position = ((corners[:, :, axis].double().nan_to_num(0.0) + 1) * pixels - 1) / 2  # in pixels; 0 is the first centre
        position = position.clamp(-1, pixels)
        first = (position.amin(dim=1) - BOX_MARGIN).ceil().long().clamp_min(0)
        last = (position.amax(dim=1) + BOX_MARGIN).floor().long().clamp_max(pixels - 1)
        firsts.append(first)
        counts.append((last - first + 1).clamp_min(0) * usable)
    return firsts[0], firsts[1], counts[0], counts[1]


def _chunks(pairs: Tensor) -> list[Tensor]:
    """Split triangles [T] with so many pixels each into index ranges of about PAIRS_PER_CHUNK pixels, without the empty ones."""
    triangles = pairs.nonzero()[:, 0]
    if not len(triangles):
        return []
    chunk = (pairs[triangles].cumsum(0) - 1) // PAIRS_PER_CHUNK
    return list(triangles.split(chunk.unique_consecutive(return_counts=True)[1].tolist()))


def _pairs(left: Tensor, top: Tensor, width: Tensor, height: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every (triangle, column, row) in the boxes of the triangles `part`."""
    pairs = (width * height)[part]
    triangle = part.repeat_interleave(pairs)
    start = (pairs.cumsum(0) - pairs).repeat_interleave(pairs)
    place = torch.arange(len(triangle), device=part.device) - start
    return triangle, left[triangle] + place % width[triangle], top[triangle] + place // width[triangle]


def _barycentrics(
    corners: Tensor, column: Tensor, row: Tensor, size: tuple[int, int], perspective: bool, cull: Cull
) -> tuple[Tensor, Tensor]:
    """Barycentrics [..., 3] and depth [...], float64, of pixels in triangles [..., 3, 3]; not finite where the pixel is outside."""
    x = corners[..., 0].double() - pixel_centers(size[1], corners.device)[column].unsqueeze(-1)
    y = corners[..., 1].double() - pixel_centers(size[0], corners.device)[row].unsqueeze(-1)
    x0, x1, x2 = x.unbind(-1)
    y0, y1, y2 = y.unbind(-1)
    edges = torch.stack([x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1], dim=-1)
    area = (edges[..., 0] + edges[..., 1]) + edges[..., 2]
    front = (edges <= 0).all(dim=-1) & (area < 0)
    back = (edges >= 0).all(dim=-1) & (area > 0)
    inside = {"none": front | back, "back": front, "front": back}[cull]
    weights = edges / torch.where(inside, area, 0).unsqueeze(-1)
    return _depth(weights, corners[..., 2].double(), perspective)


def _depth(weights: Tensor, z: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Image-space barycentrics [..., 3] and corner depths [..., 3] to barycentrics on the triangle and depth [...]."""
    if not perspective:
        near = weights * z
        return weights, (near[..., 0] + near[..., 1]) + near[..., 2]
    scaled = weights / z
    depth = 1 / ((scaled[..., 0] + scaled[..., 1]) + scaled[..., 2])
    return scaled * depth.unsqueeze(-1), depth


def _locate(points: Tensor, faces: Tensor, face: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics [B, H, W, 3] and depth [B, H, W] of the triangles `face` [B, H, W], as functions of `points` [B, V, 3]."""
    batch, height, width = face.shape
    shown = face >= 0
    if face.numel() == 0 or faces.shape[0] == 0:
        return points.new_zeros(*face.shape, 3), points.new_full(face.shape, torch.inf)
    index = faces[face.clamp_min(0)].flatten(1).unsqueeze(2).expand(-1, -1, 3)  # [B, H*W*3, 3]
    corners = points.gather(1, index).reshape(batch, height, width, 3, 3)
    # On background, a triangle that holds every pixel stands in, so that neither values nor gradients become NaN there.
    stand_in = points.new_tensor([[-9.0, -9.0, 1.0], [9.0, -9.0, 1.0], [0.0, 9.0, 1.0]])
    corners = torch.where(shown[..., None, None], corners, stand_in)
    column = torch.arange(width, device=face.device).expand_as(face)
    row = torch.arange(height, device=face.device).unsqueeze(1).expand_as(face)
    weights, depth = _barycentrics(corners, column, row, (height, width), perspective, "none")
    return torch.where(shown.unsqueeze(-1), weights, 0).to(points.dtype), torch.where(shown, depth, torch.inf).to(points.dtype)
