"""The Fréchet distance equals its closed form, and moments do not depend on how rows arrive."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from training.metrics.moments import Moments, frechet, moments_of


def rows_with(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """Rows [count, D] float64 whose sample mean and (unbiased) sample covariance are exactly these."""
    draws = torch.randn(count, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    draws -= draws.mean(dim=0)
    white = torch.linalg.qr(draws).Q * (count - 1) ** 0.5  # columns are orthogonal, of mean 0
    return white @ torch.linalg.cholesky(covariance).T + mean


def covariance(size: int, seed: int) -> Tensor:
    draws = torch.randn(size, 2 * size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return draws @ draws.T / size


def test_closed_form_of_covariances_that_commute():
    """With a common basis the distance is |m1 - m2|² + Σ (σ1 - σ2)²."""
    size = 24
    basis = torch.linalg.qr(covariance(size, 0)).Q
    first, second = torch.linspace(0.1, 3, size).double(), torch.linspace(2, 0.01, size).double()
    means = torch.zeros(size).double(), torch.linspace(-1, 1, size).double()
    sets = [
        rows_with(mean, basis @ torch.diag(variance) @ basis.T, 200 + seed, seed)
        for seed, (mean, variance) in enumerate(zip(means, (first, second), strict=True))
    ]
    expected = float((means[1] ** 2).sum() + (first.sqrt() - second.sqrt()).square().sum())
    assert frechet(moments_of(sets[0]), moments_of(sets[1])) == pytest.approx(expected, rel=1e-10)


def test_closed_form_of_any_covariances():
    """Against the matrix square root of the product, which is not symmetric."""
    first, second = covariance(16, 1), covariance(16, 2)
    mean = torch.linspace(0, 1, 16).double()
    expected = float(mean @ mean + first.trace() + second.trace()) - 2 * np.trace(sqrtm((first @ second).numpy())).real
    found = frechet(moments_of(rows_with(torch.zeros(16).double(), first, 50, 3)), moments_of(rows_with(mean, second, 60, 4)))
    assert found == pytest.approx(float(expected), rel=1e-9)


def test_fewer_rows_than_features():
    """Singular covariances: along directions in which one set does not move, the other's variance counts in full."""
    size = 64
    rows = torch.zeros(10, size).double()
    rows[:, :4] = rows_with(torch.zeros(4).double(), torch.eye(4).double(), 10, 5)
    other = torch.zeros(12, size).double()
    other[:, 4:7] = rows_with(torch.zeros(3).double(), 2 * torch.eye(3).double(), 12, 6)
    assert frechet(moments_of(rows), moments_of(other)) == pytest.approx(4 + 6, rel=1e-10)
    assert frechet(moments_of(rows), moments_of(rows)) == pytest.approx(0, abs=1e-10)


def test_symmetric():
    first, second = moments_of(rows_with(torch.zeros(8).double(), covariance(8, 7), 30, 8)), moments_of(torch.randn(40, 8))
    assert frechet(first, second) == pytest.approx(frechet(second, first), rel=1e-12)


def test_pieces_add_up(rng):
    rows = torch.randn(1000, 6, generator=rng) * torch.tensor([1.0, 2, 3, 4, 5, 6]) + 1000
    whole = Moments.of(rows)
    assert torch.allclose(whole.covariance, torch.cov(rows.double().T), rtol=1e-10)
    for found in (moments_of(rows, chunk=37), Moments.of(rows[:1]) + Moments.of(rows[1:])):
        assert found.count == 1000
        torch.testing.assert_close(found.mean, whole.mean, rtol=1e-13, atol=0)
        torch.testing.assert_close(found.scatter, whole.scatter, rtol=1e-10, atol=1e-8)
