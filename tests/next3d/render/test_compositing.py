"""Accumulation along rays."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.render.compositing import composite, interval_weights

EMPTY, SOLID = -30.0, 1000.0
"""Raw densities whose softplus is nothing, and a wall."""


def samples(rng: torch.Generator, count: int = 7, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Features [2, 3, S, 4], density [2, 3, S], increasing depths [2, 3, S]."""
    features = torch.randn(2, 3, count, 4, generator=rng, dtype=dtype)
    density = torch.randn(2, 3, count, generator=rng, dtype=dtype) * 3
    depths = (2 + torch.rand(2, 3, count, generator=rng, dtype=dtype)).sort(dim=-1).values
    return features, density, depths


def naive(features: Tensor, density: Tensor, depths: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    """One ray, one interval after the other: features [S, C], density [S], depths [S]."""
    light, color, depth, weights = 1.0, torch.zeros(features.shape[1]), 0.0, []
    for i in range(len(depths) - 1):
        sigma = math.log1p(math.exp(float(density[i] + density[i + 1]) / 2 - 1))
        alpha = 1 - math.exp(-sigma * float(depths[i + 1] - depths[i]))
        weight = light * alpha
        color = color + weight * (features[i] + features[i + 1]) / 2
        depth += weight * float(depths[i] + depths[i + 1]) / 2
        light *= 1 - alpha
        weights.append(weight)
    return color, torch.tensor(depth / sum(weights)), weights


def test_equals_the_sum_interval_by_interval(rng):
    features, density, depths = samples(rng)
    sums = composite(features, density, depths)
    for n, r in ((n, r) for n in range(2) for r in range(3)):
        color, depth, weights = naive(features[n, r], density[n, r], depths[n, r])
        torch.testing.assert_close(sums.features[n, r], color, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sums.depth[n, r, 0], depth, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sums.weights[n, r], torch.tensor(weights), rtol=1e-4, atol=1e-6)


def test_weights_are_shares_of_light(rng):
    features, density, depths = samples(rng, count=40)
    sums = composite(features, density * 10, depths)
    assert (sums.weights >= 0).all()
    assert (sums.weights.sum(-1) <= 1 + 1e-6).all()
    assert (sums.depth >= depths[..., :1]).all()
    assert (sums.depth <= depths[..., -1:]).all()


def test_homogeneous_medium_lets_through_what_the_law_says():
    """Lambert and Beer: what is left after a length l is exp(-density l), however it is sampled."""
    raw, near, far = 2.5, 2.0, 2.8
    sigma = float(F.softplus(torch.tensor(raw - 1)))
    for count in (2, 5, 100):
        depths = torch.linspace(near, far, count)[None, None]
        weights = interval_weights(torch.full_like(depths, raw), depths)
        assert float(weights.sum()) == pytest.approx(1 - math.exp(-sigma * (far - near)), rel=1e-4)
    length = far - near
    mean = near + 1 / sigma - length * math.exp(-sigma * length) / (1 - math.exp(-sigma * length))
    depths = torch.linspace(near, far, 500)[None, None]
    sums = composite(torch.zeros(1, 1, 500, 1), torch.full_like(depths, raw), depths)
    assert float(sums.depth) == pytest.approx(mean, abs=1e-3)


def test_an_opaque_wall_shows_its_colour_and_depth():
    depths = torch.linspace(2, 3, 101)[None, None]
    behind = depths >= 2.4 - 1e-6
    density = torch.where(behind, SOLID, EMPTY)
    features = torch.where(behind, 0.7, -5.0)[..., None]
    sums = composite(features, density, depths)
    assert float(sums.weights.sum()) == pytest.approx(1, abs=1e-4)
    assert float(sums.depth) == pytest.approx(2.4, abs=0.01)
    fine = composite(torch.full_like(features, 0.7), density, depths)
    assert float(fine.features) == pytest.approx(0.7, abs=1e-4)


def test_nothing_shows_through_a_wall():
    depths = torch.tensor([[[2.0, 2.1, 2.2, 2.5, 2.6]]])
    density = torch.tensor([[[SOLID, SOLID, SOLID, SOLID, SOLID]]])
    hidden = torch.tensor([1.0, 1.0, 99.0, 99.0, 99.0])[None, None, :, None]
    assert float(composite(hidden, density, depths).features) == pytest.approx(1)


def test_an_empty_ray_reports_the_far_end_and_no_colour(rng):
    features, density, depths = samples(rng)
    sums = composite(features, torch.full_like(density, EMPTY), depths)
    torch.testing.assert_close(sums.depth, depths[..., -1:])
    assert sums.features.abs().max() < 1e-6


def test_the_order_of_samples_does_not_matter(rng):
    """Fine samples are appended to coarse ones; compositing sorts."""
    features, density, depths = samples(rng)
    order = torch.randperm(7, generator=rng)
    one, other = composite(features, density, depths), composite(features[:, :, order], density[..., order], depths[..., order])
    torch.testing.assert_close(other.features, one.features)
    torch.testing.assert_close(other.depth, one.depth)
    torch.testing.assert_close(other.weights, one.weights)


def test_features_may_come_in_parts(rng):
    """Values and gradients are those of the joined tensor."""
    features, density, depths = samples(rng)
    found = []
    for parts in ([features], [features[:, :, :3], features[:, :, 3:4], features[:, :, 4:]]):
        leaves = [part.clone().requires_grad_() for part in parts]
        raw = density.clone().requires_grad_()
        summed = composite(leaves, raw, depths).features
        gradients = torch.autograd.grad(summed.square().sum(), (*leaves, raw))
        found.append((summed, torch.cat(gradients[:-1], dim=2), gradients[-1]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_each_ray_s_depth_is_its_own(rng):
    """No clamp over the batch: a ray alone gives what it gives among others."""
    features, density, depths = samples(rng)
    together = composite(features, density, depths)
    alone = composite(features[1:, 2:], density[1:, 2:], depths[1:, 2:])
    torch.testing.assert_close(alone.depth, together.depth[1:, 2:])
    torch.testing.assert_close(alone.features, together.features[1:, 2:])


def test_gradients(rng):
    features, density, depths = (x[:1, :1].contiguous().requires_grad_() for x in samples(rng, 4, torch.float64))
    shuffle = [2, 0, 3, 1]
    function = lambda f, s, d: (lambda sums: (sums.features, sums.depth, sums.weights))(  # noqa: E731
        composite(f[:, :, shuffle], s[..., shuffle], d[..., shuffle])
    )
    assert torch.autograd.gradcheck(function, (features, density, depths))


def test_gradients_of_empty_and_opaque_rays_are_finite(rng):
    features, density, depths = samples(rng)
    for raw in (-1e4, 1e4):
        leaf = torch.full_like(density, raw).requires_grad_()
        sums = composite(features, leaf, depths)
        (sums.features.sum() + sums.depth.sum()).backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    "shapes",
    [((1, 2, 1, 3), (1, 2, 1), (1, 2, 1)), ((1, 2, 4, 3), (1, 2, 5), (1, 2, 5)), ((1, 2, 4, 3), (1, 2, 4, 1), (1, 2, 4))],
    ids=["one sample", "features of another count", "density of another rank"],
)
def test_refuses(shapes):
    with pytest.raises(ValueError, match="composite"):
        composite(*(torch.zeros(shape) for shape in shapes))
