"""Mean and covariance of features, gathered piece by piece in float64, and the Fréchet distance between the Gaussians that have them.

Fréchet distance of Gaussians (Dowson and Landau 1982): |m1 - m2|² + tr(C1) + tr(C2) - 2 tr((C1 C2)^½). The last trace is computed as
the sum of the square roots of the eigenvalues of C1^½ C2 C1^½, which is symmetric and has the same eigenvalues as C1 C2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Moments:
    """First two moments of n rows."""

    count: int
    mean: Tensor
    """[D] float64."""
    scatter: Tensor
    """[D, D] float64, sum of the outer products of what rows differ from the mean by."""

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """Of rows [n, D], n at least 1."""
        values = rows.double()
        mean = values.mean(dim=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred)

    @property
    def covariance(self) -> Tensor:
        """[D, D], the unbiased estimate; needs two rows."""
        return self.scatter / (self.count - 1)

    def __add__(self, other: Moments) -> Moments:
        """Of both sets of rows (Chan, Golub and LeVeque 1983: no cancellation, whatever the sizes)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, self.mean + shift * (other.count / count), self.scatter + other.scatter + between)


def moments_of(rows: Tensor, chunk: int = 8192) -> Moments:
    """Of rows [n, D] of any dtype, without a float64 copy of all of them."""
    found = Moments.of(rows[:chunk])
    for start in range(chunk, len(rows), chunk):
        found += Moments.of(rows[start : start + chunk])
    return found


def frechet(first: Moments, second: Moments) -> float:
    """Fréchet distance of the Gaussians with these moments; symmetric, at least 0."""
    shift = first.mean - second.mean
    c1, c2 = first.covariance, second.covariance
    root = _root(c1)
    product = root @ c2 @ root
    values = _not_noise(torch.linalg.eigvalsh((product + product.T) / 2))
    distance = shift @ shift + c1.trace() + c2.trace() - 2 * values.sqrt().sum()
    return max(0.0, float(distance))


def _root(matrix: Tensor) -> Tensor:
    """The positive semi-definite square root of a covariance matrix, which may be singular."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * _not_noise(values).sqrt()) @ vectors.T


def _not_noise(values: Tensor) -> Tensor:
    """Eigenvalues [D], those that rounding alone explains set to 0: the root of 1e-16 is no longer small, and there may be 2048 of them."""
    return torch.where(values > len(values) * _EPS * values.amax(), values, 0.0)
