"""Two-pass volume rendering of a tri-plane (EG3D, Sec. 3; NeRF, Sec. 5.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.config import RenderConfig
from next3d.decoder import Decoder, Samples
from next3d.planes.frames import PLANE_AXES
from next3d.render.compositing import RaySums, composite, interval_weights
from next3d.render.sampling import importance_depths, stratified_depths
from next3d.types import Planes, Rays, RaySampling
from torch_utils.ops.triplane import sample_planes


def decode_points(planes: Planes, points: Tensor, decoder: Decoder, box_warp: float) -> Samples:
    """Plane features at world points [N, M, 3], averaged over the planes and decoded."""
    return decoder(sample_planes(planes.features, points, axes=PLANE_AXES, box_warp=box_warp))


def render_rays(planes: Planes, rays: Rays, decoder: Decoder, config: RenderConfig, sampling: RaySampling) -> RaySums:
    """Features, depth and weights of N x R rays; the second pass is skipped when `config.fine_samples` is 0."""
    batch, count = rays.origins.shape[:2]
    coarse = stratified_depths(
        (batch, count),
        start=config.ray_start,
        end=config.ray_end,
        count=config.coarse_samples,
        sampling=sampling,
        device=rays.origins.device,
    )
    features, density = _decode_rays(planes, rays, coarse, decoder, config.box_warp)
    if config.fine_samples == 0:
        return composite(features, density, coarse)
    with torch.no_grad():  # where to look again is a decision, not a function to differentiate
        fine = importance_depths(coarse, interval_weights(density, coarse), count=config.fine_samples, sampling=sampling)
    fine_features, fine_density = _decode_rays(planes, rays, fine, decoder, config.box_warp)
    return composite(
        torch.cat([features, fine_features], dim=2), torch.cat([density, fine_density], dim=2), torch.cat([coarse, fine], dim=2)
    )


def _decode_rays(planes: Planes, rays: Rays, depths: Tensor, decoder: Decoder, box_warp: float) -> tuple[Tensor, Tensor]:
    """Decode samples at depths [N, R, S]: features [N, R, S, C] and density [N, R, S]."""
    points = rays.origins[:, :, None] + depths[..., None] * rays.directions[:, :, None]  # [N, R, S, 3]
    samples = decode_points(planes, points.flatten(1, 2), decoder, box_warp)
    return samples.features.unflatten(1, depths.shape[1:]), samples.density.unflatten(1, depths.shape[1:])
