"""Resampling with a separable FIR filter: pad, insert zeros, filter, drop samples (StyleGAN2, App. B; Karras et al. 2019)."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

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
) -> Tensor:
    """Resample images with a symmetric separable filter.

    1. Insert `up - 1` zeros after every sample of both axes.
    2. Pad both axes with `padding` = (before, after) zeros; negative numbers crop.
    3. Convolve with `taps`, normalised to sum 1, along both axes; multiply by `gain`.
    4. Keep every `down`-th sample.

    Args:
        x: [N, C, H, W] float.
        taps: filter taps, the same for both axes.

    Returns:
        [N, C, (H * up + sum(padding) - len(taps)) // down + 1, same for W].
    """
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


def upsample2d(x: Tensor, taps: tuple[float, ...] = BINOMIAL, *, up: int = 2) -> Tensor:
    """[N, C, H, W] to [N, C, H * up, W * up], aligned at the image's edges; keeps the mean."""
    pad = len(taps) - up
    return upfirdn2d(x, taps, up=up, padding=((pad + 1) // 2 + up - 1, pad // 2), gain=float(up * up))


def downsample2d(x: Tensor, taps: tuple[float, ...] = BINOMIAL, *, down: int = 2) -> Tensor:
    """[N, C, H, W] to [N, C, H / down, W / down]."""
    pad = len(taps) - down
    return upfirdn2d(x, taps, down=down, padding=((pad + 1) // 2, pad // 2))
