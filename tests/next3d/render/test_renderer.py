"""Two-pass rendering of planes whose contents are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from next3d.config import RenderConfig
from next3d.decoder import Decoder, Samples
from next3d.planes.frames import PLANE_AXES
from next3d.render.cameras import orbit_camera
from next3d.render.rays import camera_rays
from next3d.render.renderer import decode_points, render_rays
from next3d.types import Planes, RaySampling

BOX = 2.0
"""All samples of the portrait's rays lie inside."""
CONFIG = RenderConfig(resolution=9, coarse_samples=24, fine_samples=24, box_warp=BOX, feature_channels=3)


class Slab(nn.Module):
    """Reads three plane features that hold x, y and z: solid where z < 0.1, coloured by position."""

    def forward(self, features: Tensor) -> Samples:
        z = features[..., 2]
        return Samples(features + 0.5, torch.where(z < 0.1, 300.0, -20.0))


def position_planes(size: int = 64) -> Planes:
    """[1, 3, 3, size, size]: the mean over the planes of channel k is coordinate k."""
    steps = ((torch.arange(size) + 0.5) / size - 0.5) * BOX
    planes = torch.zeros(1, 3, 3, size, size)
    shared = [sum(axis in pair for pair in PLANE_AXES) for axis in range(3)]
    for index, (column, row) in enumerate(PLANE_AXES):
        planes[0, index, column] = steps * 3 / shared[column]
        planes[0, index, row] = steps[:, None] * 3 / shared[row]
    return Planes(planes)


def test_points_are_decoded_where_they_are(rng):
    points = torch.rand(1, 50, 3, generator=rng) * 1.8 - 0.9
    found = decode_points(position_planes(), points, Slab(), BOX)
    torch.testing.assert_close(found.features, points + 0.5, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampling", ["middle", "random"])
def test_a_slab_appears_at_its_depth_and_in_its_colours(sampling, rng):
    rays = camera_rays(orbit_camera(torch.tensor([0.2]), torch.tensor([0.1])), 9)
    drawn = RaySampling() if sampling == "middle" else RaySampling(generator=rng)
    sums = render_rays(position_planes(), rays, Slab(), CONFIG, drawn)
    distance = (0.1 - rays.origins[..., 2]) / rays.directions[..., 2]
    hit = rays.origins + distance[..., None] * rays.directions
    torch.testing.assert_close(sums.depth[..., 0], distance, rtol=0, atol=0.02)
    torch.testing.assert_close(sums.features, hit + 0.5, rtol=0, atol=0.03)


def test_the_second_pass_sharpens_the_depth():
    rays = camera_rays(orbit_camera(torch.zeros(1), torch.zeros(1)), 9)
    distance = (0.1 - rays.origins[..., 2]) / rays.directions[..., 2]
    error = {}
    for fine in (0, 24):
        config = replace(CONFIG, coarse_samples=12, fine_samples=fine)
        sums = render_rays(position_planes(), rays, Slab(), config, RaySampling())
        assert sums.weights.shape[-1] == 12 + fine - 1
        error[fine] = float((sums.depth[..., 0] - distance).abs().mean())
    assert error[24] < 0.5 * error[0]


def test_rays_that_miss_the_cube_are_what_the_decoder_says_of_nothing(rng):
    """Outside the planes features are zero."""
    decoder = Decoder(3, hidden=8, out_features=3)
    nothing = decoder(torch.zeros(1, 1, 3))
    far = torch.full((1, 4, 3), 7.0)
    found = decode_points(position_planes(), far, decoder, BOX)
    torch.testing.assert_close(found.features, nothing.features.expand_as(found.features))


def test_gradients_reach_planes_and_decoder_through_both_passes():
    planes = Planes(position_planes().features.requires_grad_())
    decoder = Decoder(3, hidden=8, out_features=3)
    rays = camera_rays(orbit_camera(torch.zeros(1), torch.zeros(1)), 5)
    sums = render_rays(planes, rays, decoder, CONFIG, RaySampling())
    (sums.features.sum() + sums.depth.sum()).backward()
    assert planes.features.grad is not None
    assert (planes.features.grad.abs().sum(dim=(0, 2, 3, 4)) > 0).all()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_decoder_ranges(rng):
    decoder = Decoder(4, hidden=8, out_features=5)
    found = decoder(torch.randn(2, 1000, 4, generator=rng) * 100)
    assert found.features.shape == (2, 1000, 5)
    assert found.density.shape == (2, 1000)
    assert found.features.min() >= -0.001 - 1e-6
    assert found.features.max() <= 1.001 + 1e-6
