"""Fisher faces: directions in which pictures of different people differ and pictures of one person do not (Belhumeur et al. 1997)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COMPONENTS = 60
"""Principal components that are looked at, at most; a sixth of the pictures if those are fewer."""
KEPT = 10
"""Directions kept, at most."""
SHRINKAGE = 0.2
"""Share of the spread within people that is taken to be alike in all directions."""


@dataclass(frozen=True)
class FisherFaces:
    """Features to embeddings whose angle says how alike two faces are."""

    mean: Tensor
    """[D]."""
    directions: Tensor
    """[D, K]."""

    @classmethod
    def fit(cls, features: Tensor, people: Tensor) -> FisherFaces:
        """Learn from features [N, D] of pictures of `people` [N] int64, several of each."""
        _, person = people.unique(return_inverse=True)
        count = int(person.max()) + 1
        mean = features.double().mean(dim=0)
        centred = features.double() - mean
        components = min(COMPONENTS, max(2, len(features) // 6), features.shape[1])
        _, strength, axes = torch.linalg.svd(centred, full_matrices=False)
        whiten = axes[:components].T / strength[:components].clamp_min(1e-9) * len(features) ** 0.5  # [D, P]
        points = centred @ whiten
        sums = torch.zeros(count, components, dtype=torch.float64).index_add_(0, person, points)
        centres = sums / torch.bincount(person)[:, None]
        apart = points - centres[person]
        within = apart.T @ apart / max(len(points) - count, 1)
        flat = torch.eye(components, dtype=torch.float64) * within.diagonal().mean()
        within = (1 - SHRINKAGE) * within + SHRINKAGE * flat
        even = torch.linalg.cholesky(torch.linalg.inv(within))  # makes the spread within people the same in all directions
        spread = (centres - centres.mean(dim=0)) @ even
        strength, best = torch.linalg.eigh(spread.T @ spread / count)
        # How far people differ in each direction, less what the scatter of their own few pictures adds (Ioffe 2006, probabilistic LDA).
        signal = (strength - count / len(points)).clamp_min(0)
        weighted = best * (signal / (signal + 1)).sqrt()
        return cls(mean, whiten @ even @ weighted.flip(1)[:, : min(KEPT, count - 1)])

    def embed(self, features: Tensor) -> Tensor:
        """[N, K] of length 1 for features [N, D]."""
        return F.normalize((features.double() - self.mean) @ self.directions, dim=1).float()
