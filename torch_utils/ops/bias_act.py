"""Bias, activation, gain and clamp in one step (StyleGAN2, Sec. 2 and App. B), after the scale and noise of a modulated layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.custom_ops import Backend, resolve_backend

Activation = Literal["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]

LRELU_SLOPE = 0.2
DEFAULT_GAIN: dict[str, float] = {
    "linear": 1.0,
    "relu": 2.0**0.5,
    "lrelu": 2.0**0.5,
    "tanh": 1.0,
    "sigmoid": 1.0,
    "elu": 1.0,
    "selu": 1.0,
    "softplus": 1.0,
    "swish": 2.0**0.5,
}
"""Gains of published networks: 2**0.5 gives back the second moment that halving activations take from symmetric input."""
CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "swish": F.silu,
}
"""Activations without a parameter."""


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    dim: int = 1,
    act: Activation = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """`clamp(act(x * scale + noise + bias) * gain)`. All derivatives exist.

    Args:
        x: any shape; [N, C, H, W] with `scale` or `noise`.
        bias: [x.shape[dim]] or None.
        scale: [N, C] or None.
        noise: [N or 1, 1, H, W], [H, W] or None.
        dim: the dimension that `bias` belongs to.
        act: activation; "swish" is x * sigmoid(x).
        alpha: slope of "lrelu" below zero; None takes 0.2. The other activations have no parameter and do not look at it.
        gain: output scale; None takes the activation's `DEFAULT_GAIN`.
        clamp: limit of the absolute value after the gain, >= 0; None does not limit.
        backend: "ref", "cpu" (C++: "linear" and "lrelu", dim 1, positive gain and slope, float32 and float64), or "auto".

    Raises:
        ValueError: unknown activation, a negative clamp, or tensors that do not fit.
        BackendError: an explicit backend that is not there.
    """
    _check(x, bias, scale, noise, dim, act)
    if clamp is not None and clamp < 0:
        raise ValueError(f"bias_act: clamp={clamp}, expected a limit >= 0, or None")
    gain = DEFAULT_GAIN[act] if gain is None else gain
    slope = {"linear": 1.0, "lrelu": LRELU_SLOPE if alpha is None else alpha}.get(act, 0.0)
    simple = slope > 0 and gain > 0 and x.ndim > 1 and dim % x.ndim == 1 and x.dtype in (torch.float32, torch.float64)
    if backend == "auto" and not simple:
        backend = "ref"
    bias, scale, noise = (None if extra is None else extra.to(x.dtype) for extra in (bias, scale, noise))
    if _backend(backend, x.device.type) == "cpu":
        if not simple:
            found = f"act={act!r}, alpha={alpha}, gain={gain}, dim={dim} for {x.dtype} {tuple(x.shape)}"
            raise ValueError(f"bias_act: backend='cpu' cannot do {found}; use 'auto' or 'ref'")
        noise = None if noise is None else noise.reshape(-1, noise.shape[-2] * noise.shape[-1])
        limit = math.inf if clamp is None else clamp
        y = torch.ops.next3d.bias_act(x.reshape(*x.shape[:2], x.shape[2:].numel()), bias, scale, noise, slope, gain, limit)
        return y.reshape(x.shape)
    return _bias_act_ref(x, bias, scale, noise, dim, act, slope, gain, clamp)


def _check(x: Tensor, bias: Tensor | None, scale: Tensor | None, noise: Tensor | None, dim: int, act: str) -> None:
    if act not in DEFAULT_GAIN:
        raise ValueError(f"bias_act: act={act!r}, expected one of {', '.join(DEFAULT_GAIN)}")
    if bias is not None and bias.shape != (x.shape[dim],):
        raise ValueError(f"bias_act: bias {tuple(bias.shape)}, expected ({x.shape[dim]},)")
    if scale is not None and (x.ndim != 4 or scale.shape != x.shape[:2]):
        raise ValueError(f"bias_act: scale {tuple(scale.shape)}, expected [N, C] of x {tuple(x.shape)}")
    if noise is not None:
        fits = x.ndim == 4 and (noise.shape == x.shape[2:] or noise.shape in ((len(x), 1, *x.shape[2:]), (1, 1, *x.shape[2:])))
        if not fits:
            raise ValueError(f"bias_act: noise {tuple(noise.shape)}, expected [N or 1, 1, H, W] or [H, W] of x {tuple(x.shape)}")


def _bias_act_ref(
    x: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
    dim: int,
    act: Activation,
    slope: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    if scale is not None:
        x = x * scale[:, :, None, None]
    if noise is not None:
        x = x + noise
    if bias is not None:
        x = x + bias.reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    if act in CURVES:
        x = CURVES[act](x)
    elif slope != 1:
        x = F.leaky_relu(x, slope)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "bias_act", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ ops."""

    def fake_backward(
        gradient: Tensor, y: Tensor, x: Tensor | None, scale: Tensor | None, noise: bool, *curve: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sums = y.new_empty(y.shape[:2])
        to_scale = y.new_empty(y.shape[:2] if scale is not None else (0, 0))
        return _empty_like(y), sums, to_scale, y.new_empty((y.shape[0], y.shape[2]) if noise else (0, 0))

    def setup_mask(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, y, *ctx.curve = inputs
        ctx.save_for_backward(y)

    def mask_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ops.next3d.bias_act_mask(gradient, *ctx.saved_tensors, *ctx.curve), *(None,) * 4

    def no_backward(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError("bias_act_backward is not differentiable; bias_act does without it when a graph is asked for")

    torch.library.register_fake("next3d::bias_act", lambda x, *rest: _empty_like(x))
    torch.library.register_fake("next3d::bias_act_mask", lambda gradient, y, *curve: _empty_like(y))
    torch.library.register_fake("next3d::bias_act_backward", fake_backward)
    torch.library.register_autograd("next3d::bias_act", _backward, setup_context=_setup)
    torch.library.register_autograd("next3d::bias_act_mask", mask_backward, setup_context=setup_mask)
    torch.library.register_autograd("next3d::bias_act_backward", no_backward)


def _empty_like(x: Tensor) -> Tensor:
    """As the C++ ops give it: [N, C, P] dense in this order, or channels last where x is."""
    batch, channels, pixels = x.shape
    if channels > 1 and pixels > 1 and x.stride() == (channels * pixels, 1, channels):
        return x.new_empty(batch, pixels, channels).transpose(1, 2)
    return x.new_empty(x.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, scale, noise, *ctx.curve = inputs
    ctx.has_bias, ctx.noise_rows = bias is not None, 0 if noise is None else len(noise)
    ctx.save_for_backward(output, None if scale is None else x, scale)  # x [N, C, P] matters only where it is scaled


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of x, bias, scale and noise: of differentiable operations when a graph is asked for, else in one pass."""
    y, x, scale = ctx.saved_tensors
    if torch.is_grad_enabled():
        flow = torch.ops.next3d.bias_act_mask(gradient, y, *ctx.curve)
        to_x = flow if scale is None else flow * scale[:, :, None]
        to_bias = flow.sum(dim=2)
        to_scale = None if scale is None else (flow * x).sum(dim=2)
        to_noise = flow.sum(dim=1)
    else:
        to_x, to_bias, to_scale, to_noise = torch.ops.next3d.bias_act_backward(gradient, y, x, scale, ctx.noise_rows > 0, *ctx.curve)
    bias_gradient = to_bias.sum(dim=0) if ctx.has_bias else None
    noise_gradient = None
    if ctx.noise_rows:
        noise_gradient = to_noise.sum(dim=0, keepdim=True) if ctx.noise_rows == 1 else to_noise
    return to_x, bias_gradient, (None if scale is None else to_scale), noise_gradient, None, None, None
