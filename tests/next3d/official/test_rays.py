"""How released networks sample rays."""

from __future__ import annotations

import pytest
import torch

from next3d.config import RenderConfig
from next3d.official.rays import ReleasedEG3DRays, ReleasedRays
from next3d.render.rays import camera_rays
from next3d.render.renderer import OWN_SCHEME
from next3d.types import Camera, RaySampling
from tests.models import labels

CONFIG = RenderConfig(coarse_samples=5, fine_samples=4, ray_start=2.0, ray_end=3.0)
CPU = torch.device("cpu")
SCHEME = ReleasedRays()


def coarse(jitter: float | None = None) -> torch.Tensor:
    sampling = RaySampling() if jitter is None else RaySampling(jitter=torch.full((1, 1, 5), jitter))
    return SCHEME.coarse_depths((1, 1), CONFIG, sampling, CPU)[0, 0]


def test_coarse_depths_start_on_a_grid_with_both_ends():
    torch.testing.assert_close(coarse(0.0), torch.tensor([2.0, 2.25, 2.5, 2.75, 3.0]))


def test_coarse_depths_may_pass_the_end():
    torch.testing.assert_close(coarse(), torch.tensor([2.125, 2.375, 2.625, 2.875, 3.125]))
    assert float(coarse(0.999)[-1]) > 3.24
    assert float(OWN_SCHEME.coarse_depths((1, 1), CONFIG, RaySampling(), CPU).max()) < 3, "ours do not"


def test_fine_depths_never_reach_the_farthest_interval(rng):
    """Even where all the matter is there; weights of an interval are taken for those of the one before."""
    depths = coarse(0.0)[None, None]
    draws = RaySampling(importance=torch.rand(1, 1, 4000, generator=rng))
    middles = (depths[..., 1:] + depths[..., :-1])[0, 0] / 2
    for matter in range(4):
        weights = torch.zeros(1, 1, 4)
        weights[..., matter] = 1
        fine = SCHEME.fine_depths(depths, weights, count=4000, sampling=draws)[0, 0]
        assert fine.min() >= middles[0]
        assert fine.max() <= middles[2]
        shares = torch.histogram(fine, middles[:3]).hist / fine.numel()
        # Smoothed, the weights of the two inner intervals are 1/2 beside the matter, 1 in it, plus 0.01.
        smooth = torch.tensor([0.5 if abs(matter - inner) == 1 else 1.0 if matter == inner else 0.0 for inner in (1, 2)])
        smooth = torch.where(torch.tensor([matter == 0, matter == 3]), torch.tensor([0.5, 0.5]), smooth) + 0.01
        torch.testing.assert_close(shares, smooth / smooth.sum(), atol=0.03, rtol=0)


def test_depth_is_limited_by_the_whole_batch():
    """An empty ray gets the farthest depth of the batch, and a ray's depth may leave its own samples' interval; ours depends on the ray."""
    depths = torch.tensor([[[2.0, 2.1, 2.2]], [[2.5, 2.6, 2.9]]])
    density, features = torch.full((2, 1, 3), -40.0), torch.zeros(2, 1, 3, 4)
    density[1] = 0
    released, own = (scheme.composite(features, density, depths).depth for scheme in (SCHEME, OWN_SCHEME))
    assert float(released[0]) == pytest.approx(2.9)
    assert float(own[0]) == pytest.approx(2.2)
    assert float(SCHEME.composite(features[:1], density[:1], depths[:1]).depth) == pytest.approx(2.2), "the batch decides"
    assert torch.equal(released[1], own[1])


@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_rays_are_ours_within_rounding(skew):
    camera = Camera.from_label(labels(3))
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, 0, 1], intrinsics[:, 0, 2], intrinsics[:, 1, 1] = skew, 0.45, 4.0
    camera = Camera(camera.cam2world, intrinsics)
    released, own = SCHEME.rays(camera, 8), camera_rays(camera, 8)
    torch.testing.assert_close(released.directions, own.directions, atol=1e-6, rtol=0)
    assert torch.equal(released.origins, own.origins)
    torch.testing.assert_close(released.directions.norm(dim=-1), torch.ones(3, 64))


def test_third_planes_differ():
    assert ReleasedRays.plane_axes == ((0, 1), (0, 2), (2, 1))
    assert ReleasedEG3DRays.plane_axes == ((0, 1), (0, 2), (2, 0))
