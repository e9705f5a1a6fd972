"""Layers of StyleGAN2: equalised learning rate, modulation, noise (Karras et al. 2020).

Parameter names and shapes are those of published checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_utils.ops.bias_act import Activation, bias_act
from torch_utils.ops.modulated_conv import conv2d_resample, modulated_conv2d

Noise = Literal["const", "none"] | torch.Generator | Callable[[tuple[int, ...]], Tensor]
"""Per-pixel noise: the layer's fixed map, none, fresh draws from a generator, or a function from shape to draws on the right device."""

NORM_EPS = 1e-8


def normalize_second_moment(x: Tensor, *, dim: int = 1, eps: float = NORM_EPS) -> Tensor:
    """Scale each row of [N, D], or each line along another `dim`, to a mean square of one."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate (ProGAN, Sec. 4.1): [..., I] to [..., O]."""

    def __init__(
        self, in_features: int, out_features: int, *, act: Activation = "linear", lr_multiplier: float = 1.0, bias_init: float = 0.0
    ) -> None:
        super().__init__()
        self.act = act
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([out_features], bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / np.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return bias_act(F.linear(x, *self.scaled(x.dtype)), act=self.act)

    def scaled(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight [O, I] and bias [O] as they are applied."""
        return self.weight.to(dtype) * self.weight_gain, self.bias.to(dtype) * self.bias_gain


class Conv2d(nn.Module):
    """Convolution with equalised learning rate and optional resampling by two: [N, I, H, W] to [N, O, H', W']."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
        act: Activation = "linear",
        up: int = 1,
        down: int = 1,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.act, self.up, self.down, self.clamp = act, up, down, clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.weight_gain = 1 / np.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        weight = self.weight.to(x.dtype) * self.weight_gain
        # Published weights are stored for convolving where a layer upsamples and for correlating elsewhere.
        x = conv2d_resample(x, weight, up=self.up, down=self.down, padding=weight.shape[-1] // 2, flip_weight=self.up == 1)
        clamp = None if self.clamp is None else self.clamp * gain
        return bias_act(x, self.bias, act=self.act, gain=gain * 2**0.5 if self.act == "lrelu" else gain, clamp=clamp)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU: [N, I, H, W] and styles [N, W] to [N, O, H * up, W * up]."""

    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        style_size: int,
        resolution: int,
        up: int = 1,
        clamp: float | None = None,
        use_noise: bool = True,
    ) -> None:
        super().__init__()
        self.up, self.clamp, self.resolution, self.use_noise = up, clamp, resolution, use_noise
        self.affine = FullyConnected(style_size, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, style: Tensor, noise: Noise) -> Tensor:
        drawn = self._noise(len(x), noise)
        styles = self.affine(style)
        return modulated_conv2d(
            x,
            self.weight,
            styles,
            noise=drawn,
            up=self.up,
            padding=1,
            flip_weight=self.up == 1,  # as `Conv2d`
            bias=self.bias,
            act="lrelu",
            clamp=self.clamp,
        )

    def _noise(self, batch: int, noise: Noise) -> Tensor | None:
        if noise == "none" or not self.use_noise:
            return None
        if noise == "const":
            return self.noise_const * self.noise_strength
        shape = (batch, 1, self.resolution, self.resolution)
        if callable(noise):
            return noise(shape) * self.noise_strength
        assert isinstance(noise, torch.Generator)
        return torch.randn(shape, generator=noise, device=self.noise_const.device) * self.noise_strength


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, to feature "RGB": [N, I, H, W] to [N, O, H, W]."""

    def __init__(self, in_channels: int, out_channels: int, *, style_size: int, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = FullyConnected(style_size, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / np.sqrt(in_channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        styles = self.affine(style) * self.weight_gain
        return modulated_conv2d(x, self.weight, styles, demodulate=False, bias=self.bias, clamp=self.clamp)
