"""Tri-plane lookups: the mean of three bilinear plane samples at 3D points (EG3D, Sec. 3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from torch_utils.custom_ops import Backend, resolve_backend

PlaneAxes = tuple[tuple[int, int], ...]


def sample_planes(features: Tensor, points: Tensor, *, axes: PlaneAxes, box_warp: float, backend: Backend = "auto") -> Tensor:
    """Mean over the planes of bilinear lookups; zero outside the planes. Differentiable once, in features and points.

    Args:
        features: [N, 3, C, P, P], floating point.
        points: [N, M, 3], same dtype, world units; [-box_warp / 2, box_warp / 2] spans the planes.
        axes: for each plane the coordinates that give column and row, both growing with the coordinate.
        box_warp: side of the cube, world units.
        backend: "ref", "cpu" (C++, float32 and float64), or "auto".

    Returns:
        [N, M, C].

    Raises:
        ValueError: shapes or dtypes that do not fit.
        BackendError: an explicit backend that is not there.
    """
    if features.ndim != 5 or features.shape[1] != len(axes):
        raise ValueError(f"features: shape {tuple(features.shape)}, expected [N, {len(axes)}, C, P, P]")
    if points.ndim != 3 or points.shape[2] != 3 or len(points) != len(features):
        raise ValueError(f"points: shape {tuple(points.shape)}, expected [{len(features)}, M, 3]")
    if points.dtype != features.dtype:
        raise ValueError(f"points are {points.dtype}, features {features.dtype}; expected one dtype")
    if backend == "auto" and features.dtype not in (torch.float32, torch.float64):
        backend = "ref"
    if _backend(backend, features.device.type) == "cpu":
        return torch.ops.next3d.sample_planes(features, points, [axis for pair in axes for axis in pair], 2 / box_warp)
    return _sample_planes_ref(features, points, axes, box_warp)


def _sample_planes_ref(features: Tensor, points: Tensor, axes: PlaneAxes, box_warp: float) -> Tensor:
    batch, planes, channels = features.shape[:3]
    scaled = points * (2 / box_warp)
    grid = torch.stack([scaled[..., list(pair)] for pair in axes], dim=1).flatten(0, 1)[:, None]  # [N * 3, 1, M, 2]
    found = F.grid_sample(features.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # [N * 3, C, 1, M]
    return found.reshape(batch, planes, channels, -1).mean(dim=1).transpose(1, 2)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "triplane", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ ops."""

    def fake(features: Tensor, points: Tensor, axes: list[int], scale: float) -> Tensor:
        return features.new_empty(points.shape[0], points.shape[1], features.shape[2])

    def fake_backward(
        gradient: Tensor, features: Tensor, points: Tensor, axes: list[int], scale: float, to_features: bool, to_points: bool
    ) -> tuple[Tensor, Tensor]:
        empty = features.new_empty(0)
        batch, planes, channels, height, width = features.shape
        moved = features.new_empty(batch, height, width, planes, channels).permute(0, 3, 4, 1, 2)
        return moved if to_features else empty, points.new_empty(points.shape) if to_points else empty.clone()

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, points, ctx.axes, ctx.scale = inputs
        ctx.save_for_backward(features, points)

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        wanted = ctx.needs_input_grad[:2]
        found = torch.ops.next3d.sample_planes_backward(gradient, *ctx.saved_tensors, ctx.axes, ctx.scale, *wanted)
        return (found[0] if wanted[0] else None), (found[1] if wanted[1] else None), None, None

    def second_backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("sample_planes has no second derivatives, neither here nor in PyTorch's grid_sample")

    torch.library.register_fake("next3d::sample_planes", fake)
    torch.library.register_fake("next3d::sample_planes_backward", fake_backward)
    torch.library.register_autograd("next3d::sample_planes", backward, setup_context=setup)
    torch.library.register_autograd("next3d::sample_planes_backward", second_backward)
    register_flop_formula(torch.ops.next3d.sample_planes)(_flops)
    register_flop_formula(torch.ops.next3d.sample_planes_backward)(lambda to, *shapes, **options: _flops(*shapes))


def _flops(features: list[int], points: list[int], *rest: Any, **options: Any) -> int:
    """Multiplications and additions of four corners per plane, from the shapes."""
    return 2 * 4 * features[1] * features[2] * points[0] * points[1]
