"""Style-UNet: an image-conditioned StyleGAN2 decoder, used to complete the mouth and to blend the front plane (Next3D, Sec. 3.3).

The encoder sees the condition at every scale; each decoder block's output is fused with the encoder's features of its resolution.
Only the blocks above the bottleneck exist.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from next3d.stylegan2.layers import Conv2d, Noise
from next3d.stylegan2.synthesis import SynthesisBlock, block_resolutions, block_styles
from torch_utils.ops.upfirdn2d import downsample2d


class EncoderBlock(nn.Module):
    """Adds the condition at this scale and halves the resolution: features [N, I, h, h] to [N, O, h/2, h/2]."""

    half_type: torch.dtype | None = None
    """As `SynthesisBlock.half_type`."""

    def __init__(self, condition_channels: int, in_channels: int, out_channels: int, *, clamp: float | None) -> None:
        super().__init__()
        self.fromrgb = Conv2d(condition_channels, in_channels, 1, bias=False, clamp=clamp)
        self.conv1 = Conv2d(in_channels, in_channels, 3, act="lrelu", clamp=clamp)
        self.conv2 = Conv2d(in_channels, out_channels, 3, act="lrelu", down=2, clamp=clamp)

    def forward(self, features: Tensor | None, condition: Tensor) -> Tensor:
        x = self.fromrgb(condition.to(self.half_type or self.conv1.weight.dtype))
        if features is not None:
            x = x + features.to(x.dtype)
        return self.conv2(self.conv1(x))


class ResidualBlock(nn.Module):
    """Two convolutions around an identity, variance kept: [N, C, h, h] to the same."""

    def __init__(self, channels: int, *, clamp: float | None) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, act="lrelu", clamp=clamp)
        self.conv2 = Conv2d(channels, channels, 3, act="lrelu", clamp=clamp)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.conv1(x))) * 0.5**0.5


class StyleUNet(nn.Module):
    """Condition [N, I, R, R] and style rows to an image [N, C, output, output].

    Args:
        condition_channels, condition_resolution: I and R.
        bottleneck: resolution at which the decoder starts; the encoder goes down to it.
        output_resolution: may exceed the condition's; blocks above R have no fusion.
        residual_blocks: blocks at the bottleneck (the paper's G_teeth has them; Next3D supplement, Fig. 4).
    """

    def __init__(
        self,
        *,
        condition_channels: int,
        condition_resolution: int,
        bottleneck: int,
        output_resolution: int,
        image_channels: int,
        style_size: int,
        channel_base: int,
        channel_max: int,
        residual_blocks: int = 0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        if not 4 <= bottleneck < condition_resolution <= output_resolution:
            raise ValueError(
                f"style-UNet: bottleneck {bottleneck}, condition {condition_resolution}, output {output_resolution}; "
                "need 4 <= bottleneck < condition <= output"
            )
        channels = {res: min(channel_base // res, channel_max) for res in block_resolutions(bottleneck, output_resolution)}
        encoded = block_resolutions(bottleneck * 2, condition_resolution)[::-1]
        self.encoder = nn.ModuleList(EncoderBlock(condition_channels, channels[res], channels[res // 2], clamp=clamp) for res in encoded)
        self.residual = nn.Sequential(*(ResidualBlock(channels[bottleneck], clamp=clamp) for _ in range(residual_blocks)))
        # fusion[0] prepares the bottleneck; fusion[k] joins decoder and encoder at bottleneck * 2**k, below the condition's resolution.
        self.fused = [res for res in encoded[::-1] if res < condition_resolution]
        # Both kinds are linear in the released network: they mix what comes from activations.
        self.fusion = nn.ModuleList([Conv2d(channels[bottleneck], channels[bottleneck], 3, clamp=clamp)])
        self.fusion.extend(Conv2d(2 * channels[res], channels[res], 3, clamp=clamp) for res in self.fused)
        self.decoded = block_resolutions(bottleneck * 2, output_resolution)
        for res in self.decoded:
            block = SynthesisBlock(
                channels[res // 2],
                channels[res],
                style_size=style_size,
                resolution=res,
                image_channels=image_channels,
                clamp=clamp,
            )
            setattr(self, f"b{res}", block)

    def compute_in(self, half: torch.dtype, count: int) -> None:
        """Let the `count` highest resolutions of encoder and decoder compute in this type; the bottleneck never does."""
        first = self.decoded[::-1][:count][-1:]  # the lowest of them
        for res in self.decoded[::-1][:count]:
            getattr(self, f"b{res}").half_type = half
        highest = self.decoded[0] // 2 * 2 ** len(self.encoder)
        for index, block in enumerate(self.encoder):
            assert isinstance(block, EncoderBlock)
            block.half_type = half if first and highest >> index >= first[0] else None

    def forward(self, condition: Tensor, rows: Tensor, noise: Noise = "const") -> Tensor:
        encoded = self._encode(condition)  # resolution -> features
        x = self.fusion[0](self.residual(encoded[self.decoded[0] // 2].to(condition.dtype)))
        image = None
        for res in self.decoded:
            x, image = getattr(self, f"b{res}")(x, image, block_styles(rows, res), noise)
            if res in self.fused:
                join = self.fusion[1 + self.fused.index(res)]
                x = join(torch.cat([x, encoded[res].to(x.dtype)], dim=1))
        assert image is not None
        return image

    def _encode(self, condition: Tensor) -> dict[int, Tensor]:
        features, found = None, {}
        for block in self.encoder:
            features = block(features, condition)
            found[features.shape[-1]] = features
            condition = downsample2d(condition)
        return found
