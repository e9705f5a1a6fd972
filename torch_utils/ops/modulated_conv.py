"""Convolutions that resample, and convolutions whose weights are modulated by a style (StyleGAN2, Sec. 2.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.bias_act import Activation, bias_act
from torch_utils.ops.upfirdn2d import BINOMIAL, upfirdn2d

DEMODULATION_EPS = 1e-8


def conv2d_resample(x: Tensor, weight: Tensor, *, up: int = 1, down: int = 1, taps: tuple[float, ...] = BINOMIAL) -> Tensor:
    """A size-preserving convolution with optional filtered resampling by two.

    Upsampling convolves (the kernel is flipped), everything else correlates: that is how published weights are stored.

    Args:
        x: [N, C, H, W].
        weight: [O, C, k, k] with odd k.
        up: 1, or 2 to double the resolution before the convolution.
        down: 1, or 2 to halve it after the convolution.

    Returns:
        [N, O, H * up / down, W * up / down].
    """
    size, pad = weight.shape[-1], weight.shape[-1] // 2
    if x.device.type == "cpu":
        # CPUs convolve faster with the channels of a pixel side by side; all that follows keeps that order, so it is converted once.
        x = x.contiguous(memory_format=torch.channels_last)
    if up == 2:
        # Zero insertion and convolution are one transposed convolution; the filter follows at the high resolution.
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # [N, O, 2H + k - 2, ...]
        excess = len(taps) - size + 1
        return upfirdn2d(x, taps, padding=((excess + 1) // 2, excess // 2), gain=4.0)
    if down == 2:
        extra = len(taps) - down
        before, after = (extra + 1) // 2, extra // 2
        if size == 1:
            return F.conv2d(upfirdn2d(x, taps, down=2, padding=(before, after)), weight)
        x = upfirdn2d(x, taps, padding=(before + pad, after + pad))
        return F.conv2d(x, weight, stride=2)
    return F.conv2d(x, weight, padding=pad)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    noise: Tensor | None = None,
    up: int = 1,
    demodulate: bool = True,
    bias: Tensor | None = None,
    act: Activation = "linear",
    clamp: float | None = None,
) -> Tensor:
    """Convolve each sample with its own modulated (and demodulated) weights; then noise, bias and activation as in `bias_act`.

    Scales the activations before and after one shared convolution, which is the same sum as scaling the weights per sample
    (StyleGAN2, Sec. 2.2, Eq. 1 and 3) but keeps the batch in one dense convolution.

    Args:
        x: [N, C, H, W].
        weight: [O, C, k, k].
        styles: [N, C], scale of every input channel.
        noise: [N or 1, 1, H * up, W * up] or [H * up, W * up], added after demodulation.
        up: 1 or 2, see `conv2d_resample`.
        demodulate: scale every output channel to unit expected variance.
        bias: [O] or None.
        act: activation, with its default gain.
        clamp: limit of the absolute value; None does not limit.

    Returns:
        [N, O, H * up, W * up].
    """
    x = conv2d_resample(x * styles.to(x.dtype)[:, :, None, None], weight.to(x.dtype), up=up)
    scale = None
    if demodulate:
        power = weight.square().sum(dim=(2, 3))  # [O, C]
        scale = (styles.square() @ power.t() + DEMODULATION_EPS).rsqrt()  # [N, O]
    return bias_act(x, bias, scale=scale, noise=noise, act=act, clamp=clamp)
