"""How released EG3D and Next3D networks sample rays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.config import RenderConfig
from next3d.render.compositing import RaySums, composite
from next3d.render.renderer import RayScheme
from next3d.render.sampling import PDF_EPS, importance_draws, invert_cdf, smoothed_weights, stratum_jitter
from next3d.types import Camera, Rays, RaySampling


class ReleasedRays(RayScheme):
    """Next3D's; the axes are ours, but the planes behind them come in another order (`next3d.official.rasters`)."""

    def rays(self, camera: Camera, resolution: int) -> Rays:
        """Directions are differences of world points: a rounding apart from ours, which high frequencies of the planes make visible."""
        focal, center, skew = camera.intrinsics.diagonal(dim1=1, dim2=2)[:, :2], camera.intrinsics[:, :2, 2], camera.intrinsics[:, :1, 1]
        steps = torch.arange(resolution, device=focal.device, dtype=focal.dtype) * (1 / resolution) + 0.5 / resolution
        rows, columns = (axis.reshape(1, -1) for axis in torch.meshgrid(steps, steps, indexing="ij"))
        y = (rows - center[:, 1:]) / focal[:, 1:]
        x = (columns - center[:, :1] - skew * y) / focal[:, :1]
        local = torch.stack([x, y, torch.ones_like(x), torch.ones_like(x)], dim=-1)  # [N, R, 4]
        world = (camera.cam2world @ local.mT).mT[..., :3]
        origins = camera.cam2world[:, None, :3, 3].expand_as(world)
        return Rays(origins, F.normalize(world - origins, dim=-1))

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

    def composite(self, features: Tensor | Sequence[Tensor], density: Tensor, depths: Tensor) -> RaySums:
        """Depth is limited by the nearest and the farthest sample of the whole batch."""
        return composite(features, density, depths, depth_limits="batch")


class ReleasedEG3DRays(ReleasedRays):
    """EG3D's: the third plane is read at column z, row x."""

    plane_axes = ((0, 1), (0, 2), (2, 0))
