"""Deformation-aware dual discriminator: image, upsampled raw image and a rendering of the mesh (EG3D, Sec. 4.3; Next3D, Sec. 3.4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from next3d.config import DiscriminatorConfig
from next3d.stylegan2.layers import Conv2d, FullyConnected
from next3d.stylegan2.mapping import MappingNetwork
from next3d.stylegan2.synthesis import BASE_RESOLUTION, block_resolutions
from torch_utils.ops.resize import resize

STD_EPS = 1e-8


def minibatch_std(x: Tensor, group_size: int, *, strided: bool = False) -> Tensor:
    """Append the standard deviation over groups of samples as a channel (ProGAN, Sec. 3): [N, C + 1, H, W].

    Args:
        x: [N, C, H, W].
        group_size: samples per group; a smaller batch is one group.
        strided: samples of a group lie N / group_size apart, as in released networks, instead of side by side.

    Raises:
        ValueError: the batch is larger than a group and not a multiple of it.
    """
    batch, channels, height, width = x.shape
    group = min(group_size, batch)
    if batch % group:
        raise ValueError(f"minibatch standard deviation: a batch of {batch} is not a multiple of the group size {group}")
    shape = (group, batch // group) if strided else (batch // group, group)
    members = 0 if strided else 1
    grouped = x.reshape(*shape, channels, height, width)
    spread = (grouped.var(dim=members, unbiased=False, keepdim=True) + STD_EPS).sqrt().mean(dim=(2, 3, 4), keepdim=True)
    spread = spread.expand(*shape, 1, height, width).reshape(batch, 1, height, width)
    return torch.cat([x, spread], dim=1)


class DiscriminatorBlock(nn.Module):
    """Residual block that halves the resolution (StyleGAN2, Sec. 4.1)."""

    half_type: torch.dtype | None = None
    """Type in which the block computes, if not in that of its weights (training in mixed precision)."""

    def __init__(self, in_channels: int, out_channels: int, *, image_channels: int = 0, clamp: float | None) -> None:
        super().__init__()
        self.fromrgb = Conv2d(image_channels, in_channels, 1, act="lrelu", clamp=clamp) if image_channels else None
        self.conv0 = Conv2d(in_channels, in_channels, 3, act="lrelu", clamp=clamp)
        self.conv1 = Conv2d(in_channels, out_channels, 3, act="lrelu", down=2, clamp=clamp)
        self.skip = Conv2d(in_channels, out_channels, 1, bias=False, down=2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.half_type or self.conv0.weight.dtype)
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        return self.skip(x, gain=0.5**0.5) + self.conv1(self.conv0(x), gain=0.5**0.5)


class Epilogue(nn.Module):
    """4x4 features to logits, projected onto the label's embedding (Miyato and Koyama 2018)."""

    def __init__(self, channels: int, *, label_features: int, group_size: int, strided_groups: bool, clamp: float | None) -> None:
        super().__init__()
        self.group_size, self.strided_groups, self.label_features = group_size, strided_groups, label_features
        self.conv = Conv2d(channels + 1, channels, 3, act="lrelu", clamp=clamp)
        self.fc = FullyConnected(channels * BASE_RESOLUTION**2, channels, act="lrelu")
        self.out = FullyConnected(channels, label_features or 1)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        x = x.to(self.conv.weight.dtype)
        x = self.conv(minibatch_std(x, self.group_size, strided=self.strided_groups))
        x = self.out(self.fc(x.flatten(1)))
        if label is not None:
            x = (x * label).sum(dim=1, keepdim=True) / np.sqrt(self.label_features)
        return x


class Discriminator(nn.Module):
    """Judges a final image together with its raw image, the mesh it should show, and the camera it is seen from."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.resolutions = block_resolutions(2 * BASE_RESOLUTION, config.image_resolution)[::-1]
        width = {res: min(config.channel_base // res, config.channel_max) for res in (*self.resolutions, BASE_RESOLUTION)}
        image_channels = 9 if config.mesh_image else 6
        for res in self.resolutions:
            first = image_channels if res == config.image_resolution else 0
            setattr(self, f"b{res}", DiscriminatorBlock(width[res], width[res // 2], image_channels=first, clamp=config.clamp))
        features = width[BASE_RESOLUTION]
        label_features = features if config.label_size else 0
        if config.label_size:
            self.mapping = MappingNetwork(0, config.label_size, features, layers=config.mapping_layers)
        self.b4 = Epilogue(
            features,
            label_features=label_features,
            group_size=config.group_size,
            strided_groups=config.strided_groups,
            clamp=config.clamp,
        )

    def compute_in(self, half: torch.dtype, count: int) -> None:
        """Let the `count` highest resolutions compute in this type; 4x4 never does."""
        for block in self.blocks()[:count]:
            block.half_type = half

    def blocks(self) -> list[DiscriminatorBlock]:
        """Its blocks, the one that sees the images first."""
        return [getattr(self, f"b{res}") for res in self.resolutions]

    def forward(self, image: Tensor, image_raw: Tensor, mesh_image: Tensor | None, c: Tensor) -> Tensor:
        """Logits [N, 1].

        Args:
            image: [N, 3, H, H] in [-1, 1].
            image_raw: [N, 3, r, r] in [-1, 1], resized to the image's size.
            mesh_image: [N, 3, H, H], what `render_mesh_image` gives; None when the configuration leaves it out.
            c: [N, 25] camera labels.

        Raises:
            ValueError: another image size than the configuration's, or a mesh image that is missing or not wanted.
        """
        resolution = self.config.image_resolution
        if image.shape[1:] != (3, resolution, resolution):
            raise ValueError(f"discriminator: image {tuple(image.shape)}, expected [N, 3, {resolution}, {resolution}]")
        if (mesh_image is not None) != self.config.mesh_image:
            raise ValueError(f"discriminator: mesh_image is {'given' if mesh_image is not None else 'missing'}, config says otherwise")
        raw = resize(image_raw, resolution)
        parts = [image, raw] if mesh_image is None else [image, raw, mesh_image]
        x = torch.cat(parts, dim=1)
        for block in self.blocks():
            x = block(x)
        label = self.mapping(None, c[:, : self.config.label_size]) if self.config.label_size else None
        return self.b4(x, label)
