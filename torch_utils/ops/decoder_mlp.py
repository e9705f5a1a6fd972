"""A small network that is evaluated at millions of points: linear, softplus, linear; one density and some colours (EG3D, Sec. 3)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from torch_utils.custom_ops import Backend, resolve_backend


def decoder_mlp(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, margin: float, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """softplus(x w1' + b1) w2' + b2; the first output is a density as it is, the others go through a widened sigmoid.

    Differentiable in all tensors, the C++ version once.

    Args:
        x: [..., I].
        w1, b1: [H, I] and [H].
        w2, b2: [1 + C, H] and [1 + C].
        margin: colours are sigmoid(.) * (1 + 2 * margin) - margin.
        backend: "ref", "cpu" (C++, float32), or "auto".

    Returns:
        Colours [..., C] and densities [...].

    Raises:
        ValueError: shapes that do not fit.
        BackendError: an explicit backend that is not there.
    """
    if w1.ndim != 2 or x.shape[-1] != w1.shape[1]:
        raise ValueError(f"decoder_mlp: x {tuple(x.shape)} and w1 {tuple(w1.shape)} do not fit; expected [..., I] and [H, I]")
    if w2.ndim != 2 or w2.shape[1] != w1.shape[0] or w2.shape[0] < 2:
        raise ValueError(f"decoder_mlp: w2 {tuple(w2.shape)}, expected [1 + C, {w1.shape[0]}]")
    if b1.shape != w1.shape[:1] or b2.shape != w2.shape[:1]:
        raise ValueError(f"decoder_mlp: biases {tuple(b1.shape)} and {tuple(b2.shape)}, expected one per row of the weights")
    if backend == "auto" and any(tensor.dtype != torch.float32 for tensor in (x, w1, b1, w2, b2)):
        backend = "ref"
    if _backend(backend, x.device.type) == "cpu":
        colors, density = torch.ops.next3d.decoder_mlp(x.flatten(0, -2), w1, b1, w2, b2, margin)
        return colors.reshape(*x.shape[:-1], colors.shape[1]), density.reshape(x.shape[:-1])
    return _decoder_mlp_ref(x, w1, b1, w2, b2, margin)


def _decoder_mlp_ref(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    raw = F.linear(F.softplus(F.linear(x, w1, b1)), w2, b2)
    return torch.sigmoid(raw[..., 1:]) * (1 + 2 * margin) - margin, raw[..., 0]


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "decoder_mlp", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ ops."""

    def fake(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape[0], w2.shape[0] - 1), x.new_empty(x.shape[0])

    def fake_backward(to_features: Tensor, to_density: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:5])

    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.margin = inputs
        ctx.save_for_backward(*tensors, output[0])

    def backward(ctx: Any, to_features: Tensor, to_density: Tensor) -> tuple[Tensor | None, ...]:
        return *torch.ops.next3d.decoder_mlp_backward(to_features, to_density, *ctx.saved_tensors, ctx.margin), None

    def second_backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("decoder_mlp has no second derivatives in C++; use backend='ref'")

    torch.library.register_fake("next3d::decoder_mlp", fake)
    torch.library.register_fake("next3d::decoder_mlp_backward", fake_backward)
    torch.library.register_autograd("next3d::decoder_mlp", backward, setup_context=setup)
    torch.library.register_autograd("next3d::decoder_mlp_backward", second_backward)
    register_flop_formula(torch.ops.next3d.decoder_mlp)(_flops)
    register_flop_formula(torch.ops.next3d.decoder_mlp_backward)(lambda features, density, *shapes, **options: 2 * _flops(*shapes))


def _flops(x: list[int], w1: list[int], b1: list[int], w2: list[int], *rest: Any, **options: Any) -> int:
    """Multiplications and additions of the two layers, from the shapes; as PyTorch counts the reference."""
    return 2 * x[0] * (w1[0] * w1[1] + w2[0] * w2[1])
