"""Synthesis network: styles to a feature image, with skip connections of the "RGB" output (StyleGAN2, Sec. 4.1)."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from next3d.stylegan2.layers import Noise, SynthesisLayer, ToRGB
from torch_utils.ops.upfirdn2d import upsample2d

BASE_RESOLUTION = 4


def block_resolutions(first: int, last: int) -> list[int]:
    """Powers of two from `first` to `last`, both included."""
    return [2**power for power in range(int(np.log2(first)), int(np.log2(last)) + 1)]


def style_rows(resolution: int) -> int:
    """Rows of styles that a network from 4x4 up to `resolution` reads: two per block, and one for the last output."""
    return 2 * (int(np.log2(resolution)) - 1)


class SynthesisBlock(nn.Module):
    """One resolution: upsample (unless it is the first), two modulated convolutions, output added to the upsampled skip."""

    half_type: torch.dtype | None = None
    """Type in which the convolutions compute, if not in that of the weights (training in mixed precision)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        style_size: int,
        resolution: int,
        image_channels: int,
        up: int = 2,
        clamp: float | None = None,
        use_noise: bool = True,
    ) -> None:
        super().__init__()
        layer = partial(SynthesisLayer, style_size=style_size, resolution=resolution, clamp=clamp, use_noise=use_noise)
        self.conv0 = layer(in_channels, out_channels, up=up)
        self.conv1 = layer(out_channels, out_channels)
        self.torgb = ToRGB(out_channels, image_channels, style_size=style_size, clamp=clamp)
        self.up = up

    def forward(self, x: Tensor, image: Tensor | None, styles: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """x [N, I, h, h], image [N, C, h, h] or None, styles [N, 3, W]; returns both at h * up."""
        x = self.conv0(x.to(self.half_type or self.conv0.weight.dtype), styles[:, 0], noise)
        x = self.conv1(x, styles[:, 1], noise)
        rgb = self.torgb(x, styles[:, 2]).to(self.conv0.weight.dtype)  # outputs of all resolutions add up in full precision
        if image is not None:
            rgb = rgb + (upsample2d(image) if self.up == 2 else image)
        return x, rgb


class ConstantBlock(nn.Module):
    """The first, 4x4 block: a learned constant, one convolution, one output."""

    def __init__(self, channels: int, *, style_size: int, image_channels: int, clamp: float | None) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(channels, BASE_RESOLUTION, BASE_RESOLUTION))
        self.conv1 = SynthesisLayer(channels, channels, style_size=style_size, resolution=BASE_RESOLUTION, clamp=clamp)
        self.torgb = ToRGB(channels, image_channels, style_size=style_size, clamp=clamp)

    def forward(self, styles: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        x = self.const.expand(len(styles), -1, -1, -1)
        x = self.conv1(x, styles[:, 0], noise)
        return x, self.torgb(x, styles[:, 1])


def block_styles(rows: Tensor, resolution: int) -> Tensor:
    """The rows [N, 3, W] that the block of `resolution` (8 or more) reads: two convolutions and the output."""
    start = 2 * int(np.log2(resolution)) - 5
    return rows[:, start : start + 3]


class SynthesisNetwork(nn.Module):
    """Style rows [N, style_rows(resolution), W] to an image [N, C, resolution, resolution]."""

    def __init__(
        self, *, style_size: int, resolution: int, image_channels: int, channel_base: int, channel_max: int, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.resolutions = block_resolutions(BASE_RESOLUTION, resolution)
        channels = {res: min(channel_base // res, channel_max) for res in self.resolutions}
        self.b4 = ConstantBlock(channels[BASE_RESOLUTION], style_size=style_size, image_channels=image_channels, clamp=clamp)
        for res in self.resolutions[1:]:
            block = SynthesisBlock(
                channels[res // 2],
                channels[res],
                style_size=style_size,
                resolution=res,
                image_channels=image_channels,
                clamp=clamp,
            )
            setattr(self, f"b{res}", block)

    @property
    def last_torgb(self) -> ToRGB:
        """The layer that makes the finest part of the output."""
        return getattr(self, f"b{self.resolutions[-1]}").torgb

    def compute_in(self, half: torch.dtype, count: int) -> None:
        """Let the `count` highest resolutions compute in this type; 4x4 never does."""
        for res in self.resolutions[1:][::-1][:count]:
            getattr(self, f"b{res}").half_type = half

    def forward(self, rows: Tensor, noise: Noise = "const") -> Tensor:
        x, image = self.b4(rows[:, :2], noise)
        for res in self.resolutions[1:]:
            x, image = getattr(self, f"b{res}")(x, image, block_styles(rows, res), noise)
        return image
