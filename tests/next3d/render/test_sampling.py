"""Where rays are sampled."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from next3d.render.sampling import WEIGHT_FLOOR, importance_depths, stratified_depths
from next3d.types import RaySampling

CPU = torch.device("cpu")


def stratified(sampling: RaySampling, shape: tuple[int, int] = (2, 5), count: int = 6) -> Tensor:
    return stratified_depths(shape, start=2.0, end=3.2, count=count, sampling=sampling, device=CPU)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def edges_of(count: int) -> Tensor:
    return torch.linspace(2.0, 3.2, count + 1)


def test_without_randomness_samples_are_the_middles_of_their_strata():
    expected = 0.5 * (edges_of(6)[1:] + edges_of(6)[:-1])
    torch.testing.assert_close(stratified(RaySampling()), expected.expand(2, 5, 6))


def test_every_stratum_has_one_sample_anywhere_in_it():
    depths = stratified(RaySampling(generator=generator(0)), (4, 2000))
    edges = edges_of(6)
    assert (depths >= edges[:-1] - 1e-6).all()
    assert (depths <= edges[1:] + 1e-6).all()
    place = (depths - edges[:-1]) / 0.2
    assert place.mean() == pytest.approx(0.5, abs=0.01)
    assert place.std() == pytest.approx(12**-0.5, abs=0.01)


def test_randomness_comes_from_the_generator_or_from_the_caller():
    one, same, other = (stratified(RaySampling(generator=generator(seed))) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    jitter = torch.rand(2, 5, 6, generator=generator(3))
    explicit = stratified(RaySampling(jitter=jitter, generator=generator(4)))
    torch.testing.assert_close(explicit, edges_of(6)[:-1] + 0.2 * jitter)


def smoothed(weights: list[float]) -> list[float]:
    """Maximum over neighbouring intervals, then their mean, plus the floor: the documented density, number by number."""
    ends = [weights[0], *(max(a, b) for a, b in pairwise(weights)), weights[-1]]
    return [0.5 * (a + b) + WEIGHT_FLOOR for a, b in pairwise(ends)]


def test_importance_draws_follow_the_smoothed_weights():
    """Kolmogorov and Smirnov: the largest distance between drawn and wanted distribution."""
    depths = torch.tensor([2.0, 2.3, 2.35, 2.6, 3.0, 3.1])
    weights = [0.0, 0.5, 0.1, 0.0, 0.2]
    count = 20000
    drawn = importance_depths(
        depths[None, None], torch.tensor(weights)[None, None], count=count, sampling=RaySampling(generator=generator(0))
    )
    density = torch.tensor(smoothed(weights))
    cdf = torch.cat([torch.zeros(1), density.cumsum(0) / density.sum()])
    ordered = drawn.flatten().sort().values
    interval = torch.searchsorted(depths, ordered, right=True).clamp(1, 5)
    low, high = depths[interval - 1], depths[interval]
    wanted = cdf[interval - 1] + (cdf[interval] - cdf[interval - 1]) * (ordered - low) / (high - low)
    distance = (wanted - torch.arange(count) / count).abs().max()
    assert distance < 1.63 / count**0.5  # one in a hundred honest samples would exceed it


def test_importance_draws_invert_the_distribution_exactly():
    """With explicit uniform numbers the draws are their quantiles: monotone, from the near to the far end."""
    depths, weights = torch.tensor([[[2.0, 2.5, 3.0]]]), torch.tensor([[[1.0, 1.0]]])
    draws = torch.tensor([[[0.0, 0.25, 0.5, 0.75, 1.0 - 1e-7]]])
    found = importance_depths(depths, weights, count=5, sampling=RaySampling(importance=draws))
    torch.testing.assert_close(found, torch.tensor([[[2.0, 2.25, 2.5, 2.75, 3.0]]]), rtol=0, atol=1e-4)


def test_importance_draws_stay_between_the_samples(rng):
    depths = (torch.rand(2, 7, 9, generator=rng) + 2).sort(dim=-1).values
    weights = torch.rand(2, 7, 8, generator=rng) * (torch.rand(2, 7, 8, generator=rng) > 0.7)
    drawn = importance_depths(depths, weights, count=50, sampling=RaySampling(generator=rng))
    assert (drawn >= depths[..., :1]).all()
    assert (drawn <= depths[..., -1:]).all()


def test_the_largest_draw_stays_inside(rng):
    """Where rounding leaves the last cumulative weight below a draw just short of one."""
    depths = torch.linspace(2, 3, 40).expand(1, 2000, 40)
    weights = torch.rand(1, 2000, 39, generator=rng)
    almost_one = torch.full((1, 2000, 1), 1 - 2**-24)
    drawn = importance_depths(depths, weights, count=1, sampling=RaySampling(importance=almost_one))
    torch.testing.assert_close(drawn, torch.full_like(drawn, 3.0), rtol=0, atol=1e-3)


def test_a_surface_attracts_the_samples_and_is_bracketed():
    depths = torch.linspace(2, 3, 11)[None, None]
    weights = torch.zeros(1, 1, 10)
    weights[..., 4] = 1
    drawn = importance_depths(depths, weights, count=100, sampling=RaySampling())
    near = (drawn > 2.3) & (drawn < 2.6)
    assert near.float().mean() > 0.9
    assert (drawn < 2.4).any()
    assert (drawn > 2.5).any()


def test_importance_is_reproducible_and_explicit(rng):
    depths, weights = torch.linspace(2, 3, 5).expand(2, 3, 5), torch.rand(2, 3, 4, generator=rng)
    draw = lambda sampling: importance_depths(depths, weights, count=6, sampling=sampling)  # noqa: E731
    assert torch.equal(draw(RaySampling(generator=generator(1))), draw(RaySampling(generator=generator(1))))
    assert not torch.equal(draw(RaySampling(generator=generator(1))), draw(RaySampling(generator=generator(2))))
    explicit = torch.rand(2, 3, 6, generator=rng)
    assert torch.equal(draw(RaySampling(importance=explicit)), draw(RaySampling(importance=explicit, generator=generator(3))))
    middles = ((torch.arange(6) + 0.5) / 6).expand(2, 3, 6)
    torch.testing.assert_close(draw(RaySampling()), draw(RaySampling(importance=middles)))


def test_two_samples_are_enough():
    found = importance_depths(torch.tensor([[[2.0, 3.0]]]), torch.ones(1, 1, 1), count=4, sampling=RaySampling())
    torch.testing.assert_close(found, torch.tensor([[[2.125, 2.375, 2.625, 2.875]]]))
