"""Textures looked up in several views, weighted, and joined into planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from torch_utils.custom_ops import Backend, resolve_backend
from torch_utils.ops.grid_sample import sample_uv


def texture_views(texture: Tensor, uv: Tensor, weights: Tensor, planes: Sequence[int], *, backend: Backend = "auto") -> Tensor:
    """For every plane the weighted sum of what its views show of a texture; bilinear, edges repeated. Differentiable once.

    The C++ version gives gradients of the texture alone, "auto" takes the reference where others are wanted. Its result has the channels
    of all planes of a pixel side by side in memory: strides differ between the two, values do not.

    Args:
        texture: [N, C, T, T], floating point; row 0 is v = 1.
        uv: [N, V, P, P, 2] in [0, 1], same dtype.
        weights: [N, V, P, P], same dtype.
        planes: for each of the V views the plane that it is added to; all from 0 on are named.
        backend: "ref", "cpu" (C++, float32 and float64), or "auto".

    Returns:
        [N, planes, C, P, P].

    Raises:
        ValueError: shapes or dtypes that do not fit.
        BackendError: an explicit backend that is not there.
    """
    if texture.ndim != 4 or uv.ndim != 5 or uv.shape[4] != 2 or len(uv) != len(texture) or weights.shape != uv.shape[:4]:
        raise ValueError(
            f"texture_views: texture {tuple(texture.shape)}, uv {tuple(uv.shape)}, weights {tuple(weights.shape)}; "
            "expected [N, C, T, T], [N, V, P, P, 2] and [N, V, P, P]"
        )
    if len(planes) != uv.shape[1] or set(planes) != set(range(max(planes) + 1)):
        raise ValueError(f"texture_views: planes={tuple(planes)} for {uv.shape[1]} views; expected one each, all from 0 on")
    if not texture.dtype == uv.dtype == weights.dtype:
        raise ValueError(f"texture_views: texture {texture.dtype}, uv {uv.dtype}, weights {weights.dtype}; expected one dtype")
    unusual = texture.dtype not in (torch.float32, torch.float64) or uv.requires_grad or weights.requires_grad
    if backend == "auto" and unusual:
        backend = "ref"
    if _backend(backend, texture.device.type) == "cpu":
        return torch.ops.next3d.texture_views(texture, uv, weights, list(planes))
    return _texture_views_ref(texture, uv, weights, planes)


def _texture_views_ref(texture: Tensor, uv: Tensor, weights: Tensor, planes: Sequence[int]) -> Tensor:
    views, rows = uv.shape[1:3]
    looked_up = sample_uv(texture, uv.flatten(1, 2)).unflatten(2, (views, rows))  # [N, C, V, P, P]
    shown = (looked_up * weights[:, None]).unbind(dim=2)  # its gradient is one stack; indexing would add up images of zeros
    of_plane = [[view for view, plane in zip(shown, planes, strict=True) if plane == wanted] for wanted in range(max(planes) + 1)]
    return torch.stack([sum(views[1:], start=views[0]) for views in of_plane], dim=1)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "texture_views", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ ops."""

    def fake(texture: Tensor, uv: Tensor, weights: Tensor, planes: list[int]) -> Tensor:
        batch, _, rows, columns, _ = uv.shape
        return texture.new_empty(batch, rows, columns, max(planes) + 1, texture.shape[1]).permute(0, 3, 4, 1, 2)

    def fake_backward(gradient: Tensor, texture: Tensor, uv: Tensor, weights: Tensor, planes: list[int]) -> Tensor:
        batch, channels, rows, columns = texture.shape
        return texture.new_empty(batch, rows, columns, channels).permute(0, 3, 1, 2)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.planes = inputs
        ctx.save_for_backward(*tensors)

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if any(ctx.needs_input_grad[1:3]):
            raise NotImplementedError("texture_views has no gradients of uv and weights in C++; use backend='ref'")
        return torch.ops.next3d.texture_views_backward(gradient, *ctx.saved_tensors, ctx.planes), None, None, None

    def second_backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("texture_views has no second derivatives, neither here nor in PyTorch's grid_sample")

    torch.library.register_fake("next3d::texture_views", fake)
    torch.library.register_fake("next3d::texture_views_backward", fake_backward)
    torch.library.register_autograd("next3d::texture_views", backward, setup_context=setup)
    torch.library.register_autograd("next3d::texture_views_backward", second_backward)
    register_flop_formula(torch.ops.next3d.texture_views)(lambda texture, uv, *rest, **options: _flops(texture, uv))
    register_flop_formula(torch.ops.next3d.texture_views_backward)(lambda to, texture, uv, *rest, **options: _flops(texture, uv))


def _flops(texture: list[int], uv: list[int]) -> int:
    """Multiplications and additions of four corners per pixel of every view, from the shapes."""
    return 2 * 4 * texture[1] * uv[0] * uv[1] * uv[2] * uv[3]
