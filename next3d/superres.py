"""Super-resolution: rendered features to the final image with two style-modulated blocks (EG3D, Sec. 4.2)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from next3d.config import SuperresConfig
from next3d.stylegan2.layers import Noise
from next3d.stylegan2.synthesis import SynthesisBlock
from torch_utils.ops.resize import resize

BLOCK_ROWS = 3


class Superresolution(nn.Module):
    """Features [N, C, r, r] to an image [N, 3, H, H].

    Features that are not `config.input_resolution` wide are resized to it first, so every neural rendering resolution works. The
    blocks read the last static style row: hair, skin and background share one look.
    """

    def __init__(self, config: SuperresConfig, *, in_channels: int, image_resolution: int, style_size: int) -> None:
        super().__init__()
        factor = image_resolution // config.input_resolution
        if factor not in (2, 4) or factor * config.input_resolution != image_resolution:
            raise ValueError(
                f"super-resolution: from {config.input_resolution} to {image_resolution}; the two blocks can only give a factor of 2 or 4"
            )
        self.input_resolution, self.antialias = config.input_resolution, config.antialias
        first, second = config.channels
        middle = image_resolution // 2
        block = partial(SynthesisBlock, style_size=style_size, image_channels=3, clamp=config.clamp, use_noise=config.noise)
        self.block0 = block(in_channels, first, resolution=middle, up=factor // 2)
        self.block1 = block(first, second, resolution=image_resolution)

    def compute_in(self, half: torch.dtype, count: int) -> None:
        """Let the last `count` of the two blocks compute in this type."""
        for block in (self.block1, self.block0)[:count]:
            block.half_type = half

    def forward(self, features: Tensor, rows: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The final image [N, 3, H, H] and the one after the first block [N, 3, H / 2, H / 2].

        Args:
            features: [N, C, r, r] in [-1, 1]; their first three channels are the raw image.
            rows: [N, L, W].
        """
        rows = rows[:, -1:].expand(-1, BLOCK_ROWS, -1)
        if features.shape[-1] != self.input_resolution:
            features = resize(features, self.input_resolution, mode="antialiased" if self.antialias else "none")
        x, first = self.block0(features, features[:, :3], rows, noise)
        _, image = self.block1(x, first, rows, noise)
        return image, first
