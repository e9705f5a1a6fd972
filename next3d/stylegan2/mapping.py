"""Mapping network: latent and camera label to intermediate latents (StyleGAN2, Sec. 2; pose conditioning: EG3D, Sec. 4.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from next3d.stylegan2.layers import FullyConnected, normalize_second_moment


class MappingNetwork(nn.Module):
    """z [N, Z] and label [N, L] to w [N, W]; either size may be 0. Keeps the running mean of w for truncation."""

    w_avg: Tensor

    def __init__(self, latent_size: int, label_size: int, style_size: int, *, layers: int, lr_multiplier: float = 0.01) -> None:
        super().__init__()
        self.latent_size, self.label_size, self.layers = latent_size, label_size, layers
        if label_size:
            self.embed = FullyConnected(label_size, style_size)
        width = latent_size + (style_size if label_size else 0)
        for index in range(layers):
            setattr(self, f"fc{index}", FullyConnected(width, style_size, act="lrelu", lr_multiplier=lr_multiplier))
            width = style_size
        self.register_buffer("w_avg", torch.zeros(style_size))

    def forward(self, z: Tensor | None, label: Tensor | None) -> Tensor:
        parts = []
        if self.latent_size:
            assert z is not None
            parts.append(normalize_second_moment(z))
        if self.label_size:
            assert label is not None
            parts.append(normalize_second_moment(self.embed(label)))
        x = torch.cat(parts, dim=1)
        for index in range(self.layers):
            x = getattr(self, f"fc{index}")(x)
        return x

    @torch.no_grad()
    def move_average(self, mean: Tensor, skipped: Tensor, decay: float = 0.998) -> None:
        """Move the running mean towards a batch's mean w [W], unless `skipped` [] is 1 instead of 0; does not wait for the device."""
        weight = (1 - skipped).to(mean.dtype) * (1 - decay)
        self.w_avg.lerp_(torch.where(skipped > 0, self.w_avg, mean), weight)

    def truncate(self, rows: Tensor, truncation: float, cutoff: int | None) -> Tensor:
        """Pull the first `cutoff` rows of [N, R, W] (all if None) towards the mean; 1 leaves them, 0 gives the mean face."""
        if truncation == 1:
            return rows
        cutoff = rows.shape[1] if cutoff is None else cutoff
        return torch.cat([self.w_avg.lerp(rows[:, :cutoff], truncation), rows[:, cutoff:]], dim=1)
