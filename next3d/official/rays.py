"""How released EG3D and Next3D networks sample rays."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.config import RenderConfig
from next3d.render.compositing import RaySums, composite
from next3d.render.renderer import RayScheme
from next3d.render.sampling import PDF_EPS, importance_draws, invert_cdf, smoothed_weights, stratum_jitter
from next3d.types import RaySampling


class ReleasedRays(RayScheme):
    """Next3D's; the axes are ours, but the planes behind them come in another order (`next3d.official.rasters`)."""

    def coarse_depths(self, shape: tuple[int, int], config: RenderConfig, sampling: RaySampling, device: torch.device) -> Tensor:
        """Evenly spaced depths from start to end, both included, each moved back by up to one spacing: the last may pass the end."""
        count = config.coarse_samples
        depths = torch.linspace(config.ray_start, config.ray_end, count, device=device)
        spacing = (config.ray_end - config.ray_start) / (count - 1)
        return depths + stratum_jitter(shape, count, sampling, device) * spacing

    def fine_depths(self, depths: Tensor, weights: Tensor, *, count: int, sampling: RaySampling) -> Tensor:
        """The weights of the inner intervals lie between the mid-points of the first pass's samples, one interval nearer than they are.

        The farthest interval is never drawn from.
        """
        inner = smoothed_weights(weights)[..., 1:-1] + PDF_EPS  # [N, R, S - 3]
        middles = 0.5 * (depths[..., 1:] + depths[..., :-1])  # [N, R, S - 1]
        return invert_cdf(inner / inner.sum(dim=-1, keepdim=True), middles[..., :-1], importance_draws(weights, count, sampling))

    def composite(self, features: Tensor, density: Tensor, depths: Tensor) -> RaySums:
        """Depth is limited by the nearest and the farthest sample of the whole batch."""
        return composite(features, density, depths, depth_limits="batch")


class ReleasedEG3DRays(ReleasedRays):
    """EG3D's: the third plane is read at column z, row x."""

    plane_axes = ((0, 1), (0, 2), (2, 0))
