"""Weighted sums of the samples along many rays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from torch_utils.custom_ops import Backend, resolve_backend


def weighted_sum(weights: Tensor, values: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Sum of `values` over their samples, each times its weight; differentiable in both, the C++ version once.

    Args:
        weights: [..., S].
        values: [..., S, C], same dtype.
        backend: "ref", "cpu" (C++, float32 and float64), or "auto".

    Returns:
        [..., C].

    Raises:
        ValueError: shapes or dtypes that do not fit.
        BackendError: an explicit backend that is not there.
    """
    if values.shape[:-1] != weights.shape or weights.dtype != values.dtype:
        raise ValueError(
            f"weighted_sum: weights {weights.dtype} {tuple(weights.shape)} and values {values.dtype} {tuple(values.shape)}; "
            "expected [..., S] and [..., S, C] of one dtype"
        )
    if backend == "auto" and values.dtype not in (torch.float32, torch.float64):
        backend = "ref"
    if _backend(backend, values.device.type) == "cpu":
        summed = torch.ops.next3d.weighted_sum(weights.flatten(0, -2), values.flatten(0, -3))
        return summed.reshape(*weights.shape[:-1], values.shape[-1])
    return (weights[..., None, :] @ values).squeeze(-2)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "weighted_sum", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ ops."""

    def fake_backward(gradient: Tensor, weights: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return weights.new_empty(weights.shape), values.new_empty(values.shape)

    def setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ops.next3d.weighted_sum_backward(gradient, *ctx.saved_tensors)

    def second_backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("weighted_sum has no second derivatives in C++; use backend='ref'")

    torch.library.register_fake("next3d::weighted_sum", lambda weights, values: values.new_empty(values.shape[0], values.shape[2]))
    torch.library.register_fake("next3d::weighted_sum_backward", fake_backward)
    torch.library.register_autograd("next3d::weighted_sum", backward, setup_context=setup)
    torch.library.register_autograd("next3d::weighted_sum_backward", second_backward)
    register_flop_formula(torch.ops.next3d.weighted_sum)(lambda weights, values, **options: _flops(values))
    register_flop_formula(torch.ops.next3d.weighted_sum_backward)(lambda to, weights, values, **options: 2 * _flops(values))


def _flops(values: list[int]) -> int:
    """Multiplications and additions, from the shape [R, S, C]; as PyTorch counts the reference."""
    return 2 * values[0] * values[1] * values[2]
