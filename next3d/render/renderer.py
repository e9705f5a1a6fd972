"""Two-pass volume rendering of a tri-plane (EG3D, Sec. 3; NeRF, Sec. 5.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from next3d.config import RenderConfig
from next3d.decoder import Decoder, Samples
from next3d.planes.frames import PLANE_AXES
from next3d.render.compositing import RaySums, composite, interval_weights
from next3d.render.rays import camera_rays
from next3d.render.sampling import importance_depths, stratified_depths
from next3d.types import Camera, Planes, Rays, RaySampling
from torch_utils.ops.triplane import PlaneAxes, sample_planes


class RayScheme:
    """The choices that a volume renderer of tri-planes makes: which axes planes have, where rays are sampled, how samples add up.

    This one is ours; networks that were trained with other choices bring their own (`next3d.official`).
    """

    plane_axes: PlaneAxes = PLANE_AXES

    def rays(self, camera: Camera, resolution: int) -> Rays:
        """One ray per pixel, [N, resolution**2, 3]."""
        return camera_rays(camera, resolution)

    def coarse_depths(self, shape: tuple[int, int], config: RenderConfig, sampling: RaySampling, device: torch.device) -> Tensor:
        """Depths [N, R, S] of the first pass."""
        ends = {"start": config.ray_start, "end": config.ray_end}
        return stratified_depths(shape, **ends, count=config.coarse_samples, sampling=sampling, device=device)

    def fine_depths(self, depths: Tensor, weights: Tensor, *, count: int, sampling: RaySampling) -> Tensor:
        """Depths [N, R, count] where the first pass, at depths [N, R, S] with weights [N, R, S - 1], found matter."""
        return importance_depths(depths, weights, count=count, sampling=sampling)

    def composite(self, features: Tensor | Sequence[Tensor], density: Tensor, depths: Tensor) -> RaySums:
        """Samples of rays to what they see, as `next3d.render.compositing.composite`."""
        return composite(features, density, depths)


OWN_SCHEME = RayScheme()


def decode_points(planes: Planes, points: Tensor, decoder: Decoder, box_warp: float, axes: PlaneAxes = PLANE_AXES) -> Samples:
    """Plane features at world points [N, M, 3], averaged over the planes and decoded."""
    return decoder(sample_planes(planes.features, points, axes=axes, box_warp=box_warp))


def render_rays(
    planes: Planes, rays: Rays, decoder: Decoder, config: RenderConfig, sampling: RaySampling, scheme: RayScheme = OWN_SCHEME
) -> RaySums:
    """Features, depth and weights of N x R rays; the second pass is skipped when `config.fine_samples` is 0."""
    batch, count = rays.origins.shape[:2]

    def decode(depths: Tensor) -> tuple[Tensor, Tensor]:
        """Samples at depths [N, R, S]: features [N, R, S, C] and density [N, R, S]."""
        points = rays.origins[:, :, None] + depths[..., None] * rays.directions[:, :, None]  # [N, R, S, 3]
        samples = decode_points(planes, points.flatten(1, 2), decoder, config.box_warp, scheme.plane_axes)
        return samples.features.unflatten(1, depths.shape[1:]), samples.density.unflatten(1, depths.shape[1:])

    coarse = scheme.coarse_depths((batch, count), config, sampling, rays.origins.device)
    features, density = decode(coarse)
    if config.fine_samples == 0:
        return scheme.composite(features, density, coarse)
    with torch.no_grad():  # where to look again is a decision, not a function to differentiate
        fine = scheme.fine_depths(coarse, interval_weights(density, coarse), count=config.fine_samples, sampling=sampling)
    fine_features, fine_density = decode(fine)
    return scheme.composite([features, fine_features], torch.cat([density, fine_density], dim=2), torch.cat([coarse, fine], dim=2))
