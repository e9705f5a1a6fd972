"""Resampling with a separable FIR filter: pad, insert zeros, filter, drop samples (StyleGAN2, App. B; Karras et al. 2019)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from torch_utils.custom_ops import Backend, resolve_backend

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
"""The filter of StyleGAN2's up- and downsampling."""


@lru_cache(maxsize=32)
def _normalized(taps: tuple[float, ...], device: torch.device) -> Tensor:
    """Kept per device: copying it there with every call would wait for the device, and a `torch.device` context must not decide."""
    kernel = torch.tensor(taps, dtype=torch.float32, device=device)
    return kernel / kernel.sum()


def upfirdn2d(
    x: Tensor,
    taps: tuple[float, ...] = BINOMIAL,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Resample images with a symmetric separable filter.

    1. Insert `up - 1` zeros after every sample of both axes.
    2. Pad both axes with `padding` = (before, after) zeros; negative numbers crop.
    3. Convolve with `taps`, normalised to sum 1, along both axes; multiply by `gain`.
    4. Keep every `down`-th sample.

    Args:
        x: [N, C, H, W] float.
        taps: filter taps, the same for both axes.
        backend: "ref", "cpu" (C++, float32 and float64), or "auto". All derivatives exist with each.

    Returns:
        [N, C, (H * up + sum(padding) - len(taps)) // down + 1, same for W].

    Raises:
        BackendError: an explicit backend that is not there.
    """
    if backend == "auto" and x.dtype not in (torch.float32, torch.float64):
        backend = "ref"
    if _backend(backend, x.device.type) == "cpu":
        scale = gain**0.5 / sum(taps)
        height, width = ((side * up + sum(padding) - len(taps)) // down + 1 for side in x.shape[2:])
        correlated = [tap * scale for tap in reversed(taps)]
        return torch.ops.next3d.upfirdn2d(x, correlated, up, down, padding[0], height, width)
    return _upfirdn2d_ref(x, taps, up, down, padding, gain)


def _upfirdn2d_ref(x: Tensor, taps: tuple[float, ...], up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    channels = x.shape[1]
    if up > 1:
        x = _insert_zeros(x, up)
    x = F.pad(x, (*padding, *padding))
    kernel = (_normalized(taps, x.device) * gain**0.5).to(x.dtype)  # the gain is split over the two passes
    kernel = kernel.flip(0).expand(channels, 1, -1)
    x = F.conv2d(x, kernel[:, :, None, :], stride=(1, down), groups=channels)
    return F.conv2d(x, kernel[:, :, :, None], stride=(down, 1), groups=channels)


def _insert_zeros(x: Tensor, up: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
    return x.reshape(batch, channels, height * up, width * up)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "upfirdn2d", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ op. Its gradient is the same op, so derivatives of any order exist."""

    def fake(x: Tensor, taps: list[float], up: int, down: int, pad: int, height: int, width: int) -> Tensor:
        last = x.shape[1] > 1 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, device=x.device, memory_format=order)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.taps, ctx.up, ctx.down, ctx.pad, *_ = inputs
        ctx.size = x.shape[2:]

    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pad = len(ctx.taps) - 1 - ctx.pad
        return torch.ops.next3d.upfirdn2d(gradient, ctx.taps[::-1], ctx.down, ctx.up, pad, *ctx.size), *(None,) * 6

    torch.library.register_fake("next3d::upfirdn2d", fake)
    torch.library.register_autograd("next3d::upfirdn2d", backward, setup_context=setup)
    register_flop_formula(torch.ops.next3d.upfirdn2d)(_flops)


def _flops(x: list[int], taps: list[float], up: int, down: int, pad: int, height: int, width: int, **options: Any) -> int:
    """Multiplications and additions of two passes over the padded image; as PyTorch counts the reference."""
    padded_height = (height - 1) * down + len(taps)
    return 2 * x[0] * x[1] * len(taps) * width * (padded_height + height)


def upsample2d(x: Tensor, taps: tuple[float, ...] = BINOMIAL, *, up: int = 2) -> Tensor:
    """[N, C, H, W] to [N, C, H * up, W * up], aligned at the image's edges; keeps the mean."""
    pad = len(taps) - up
    return upfirdn2d(x, taps, up=up, padding=((pad + 1) // 2 + up - 1, pad // 2), gain=float(up * up))


def downsample2d(x: Tensor, taps: tuple[float, ...] = BINOMIAL, *, down: int = 2) -> Tensor:
    """[N, C, H, W] to [N, C, H / down, W / down]."""
    pad = len(taps) - down
    return upfirdn2d(x, taps, down=down, padding=((pad + 1) // 2, pad // 2))
