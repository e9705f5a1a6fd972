"""KID equals what its definition says, pair by pair; its interval covers the truth."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from training.metrics.intervals import jackknife
from training.metrics.kid import kernel_distance


def brute_force(x: Tensor, y: Tensor) -> float:
    """Gretton et al. 2012, Eq. 3, one pair at a time."""

    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a.double() @ b.double()) / len(a) + 1) ** 3

    within = [sum(kernel(a, b) for a, b in itertools.permutations(rows, 2)) / (len(rows) * (len(rows) - 1)) for rows in (x, y)]
    return sum(within) - 2 * sum(kernel(a, b) for a, b in itertools.product(x, y)) / (len(x) * len(y))


@pytest.mark.parametrize(("n", "m"), [(30, 30), (23, 41), (4, 4)])
def test_equals_the_definition(rng, n, m):
    x, y = torch.randn(n, 12, generator=rng) + 0.3, 1.5 * torch.randn(m, 12, generator=rng)
    assert kernel_distance(x, y).value == pytest.approx(brute_force(x, y), abs=1e-10)


def test_leaving_out_a_block_is_leaving_out_its_rows(rng):
    x, y = torch.randn(40, 6, generator=rng), torch.randn(40, 6, generator=rng) + 0.5
    found = kernel_distance(x, y)
    assert len(found.without) == 20
    assert found.without[3] == pytest.approx(brute_force(torch.cat([x[:6], x[8:]]), torch.cat([y[:6], y[8:]])), abs=1e-10)


def test_mean_over_subsets(rng):
    x, y = torch.randn(90, 5, generator=rng), torch.randn(60, 5, generator=rng) + 0.5
    found = kernel_distance(x, y, subset=20)
    values = [brute_force(x[30 * i : 30 * i + 30], y[20 * i : 20 * i + 20]) for i in range(3)]
    assert found.subsets == 3
    assert found.value == pytest.approx(sum(values) / 3, abs=1e-10)
    many = kernel_distance(x, y, subset=2)  # more subsets than blocks: a block is a subset
    assert many.subsets == len(many.without) == 30


@pytest.mark.parametrize("subset", [1000, 10], ids=["one subset", "many subsets"])
def test_interval_covers_the_truth_and_the_estimate_is_unbiased(subset):
    generator = torch.Generator().manual_seed(3)
    draw = lambda count: (torch.randn(count, 4, generator=generator), torch.randn(count, 4, generator=generator) * 1.3 + 0.4)  # noqa: E731
    truth = kernel_distance(*draw(6000)).value
    estimates = [kernel_distance(*draw(120), subset=subset) for _ in range(100)]
    values = torch.tensor([estimate.value for estimate in estimates])
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) * (1 / 100 + 120 / 6000) ** 0.5
    inside = [low <= truth <= high for low, high in (jackknife(estimate.value, estimate.without) for estimate in estimates)]
    assert 0.85 <= sum(inside) / len(inside) <= 1
