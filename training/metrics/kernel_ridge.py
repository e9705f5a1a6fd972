"""Kernel ridge regression for several targets and several groups of features at once. Deterministic; seconds for 2000 pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 0.02
"""Added to the kernel's diagonal, which is 1."""


@dataclass(frozen=True)
class _Group:
    """One group of features, as the kernel sees it."""

    points: Tensor
    """[N, D], float64, standardised."""
    mean: Tensor
    """[D], subtracted from features."""
    deviation: Tensor
    """[D], by which they are divided."""
    sharpness: float
    """The kernel is exp(-sharpness * squared distance)."""

    @classmethod
    def of(cls, features: Tensor, width: float) -> tuple[_Group, Tensor]:
        """The group of features [N, D], and its kernel [N, N]."""
        features = features.double()
        mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
        points = (features - mean) / deviation
        squared = torch.cdist(points, points).square()
        sharpness = 1 / float(squared.median().clamp_min(1e-12)) / width
        return cls(points, mean, deviation, sharpness), torch.exp(-sharpness * squared)

    def kernel(self, features: Tensor) -> Tensor:
        """[M, N] for features [M, D]."""
        points = (features.double() - self.mean) / self.deviation
        return torch.exp(-self.sharpness * torch.cdist(points, self.points).square())


@dataclass(frozen=True)
class KernelRidge:
    """Ridge regression with the mean of one Gaussian kernel per group of features (Schölkopf and Smola 2002, Sec. 4.6 and 13.2).

    A kernel over everything would ask for pictures that are alike in all groups; the mean of kernels adds up what each group tells.
    """

    groups: tuple[_Group, ...]
    weights: Tensor
    """[N], or [N, T] for T targets."""
    offset: Tensor
    """Mean of the targets: one number, or [T]."""

    @classmethod
    def fit(cls, features: Tensor | Sequence[Tensor], targets: Tensor, *, ridge: float = RIDGE, width: float = 1.0) -> KernelRidge:
        """Fit groups of features [N, D] to targets [N] or [N, T].

        Args:
            features: one group, or several.
            targets: float, any scale.
            ridge: above 0; larger is smoother.
            width: of each kernel, in median squared distances between its features.
        """
        return cls._solve(features, targets, ridge, width)[0]

    @classmethod
    def fit_left_out(
        cls, features: Tensor | Sequence[Tensor], targets: Tensor, *, ridge: float = RIDGE, width: float = 1.0
    ) -> tuple[KernelRidge, Tensor]:
        """Also what each of the N rows would be estimated as, had the regression been fitted to the others (targets' shape).

        Those estimates err as estimates of new pictures do (Schölkopf and Smola 2002, Sec. 12.2.3), so a second regression can be fitted
        to what the first one says.
        """
        regression, factor = cls._solve(features, targets, ridge, width)
        scale = torch.cholesky_inverse(factor).diagonal().view(-1, *[1] * (targets.ndim - 1))
        return regression, (targets.double() - regression.weights / scale).float()

    @classmethod
    def _solve(cls, features: Tensor | Sequence[Tensor], targets: Tensor, ridge: float, width: float) -> tuple[KernelRidge, Tensor]:
        """The regression, and the Cholesky factor of kernel and ridge."""
        parts = [features] if isinstance(features, Tensor) else list(features)
        groups, kernel = [], torch.zeros((), dtype=torch.float64)
        for part in parts:
            group, own = _Group.of(part, width)
            groups.append(group)
            kernel = kernel + own if len(groups) > 1 else own
        kernel = kernel / len(groups) if len(groups) > 1 else kernel
        kernel.diagonal().add_(ridge)
        targets = targets.double()
        offset = targets.mean(dim=0)
        factor = torch.linalg.cholesky(kernel)
        weights = torch.cholesky_solve((targets - offset).reshape(len(targets), -1), factor).reshape(targets.shape)
        return cls(tuple(groups), weights, offset), factor

    def predict(self, features: Tensor | Sequence[Tensor]) -> Tensor:
        """Estimates [M] or [M, T] for the same groups of features [M, D]."""
        parts = [features] if isinstance(features, Tensor) else list(features)
        kernel = self.groups[0].kernel(parts[0])
        for group, part in zip(self.groups[1:], parts[1:], strict=True):
            kernel = kernel + group.kernel(part)
        if len(self.groups) > 1:
            kernel = kernel / len(self.groups)
        return (kernel @ self.weights + self.offset).float()
