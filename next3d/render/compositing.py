"""Samples along rays to colours and depth (NeRF, Eq. 3, on interval mid-points as in EG3D)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.weighted_sum import weighted_sum

MIN_TOTAL = 1e-6


@dataclass(frozen=True)
class RaySums:
    """What rays see."""

    features: Tensor
    """[N, R, C]."""
    depth: Tensor
    """[N, R, 1], world units; the far end for empty rays."""
    weights: Tensor
    """[N, R, S - 1], per interval from near to far; >= 0, sum <= 1."""
    middles: Tensor
    """[N, R, S - 1], world units, the middles of those intervals."""


def composite(
    features: Tensor | Sequence[Tensor], density: Tensor, depths: Tensor, *, depth_limits: Literal["ray", "batch"] = "ray"
) -> RaySums:
    """Accumulate the samples of each ray, front to back.

    Depths may come in any order (coarse samples, then fine ones): only depths and densities are sorted, and the weights are carried
    back to the samples, because moving the features would cost far more.

    Args:
        features: [N, R, S, C], or parts along S of it: joining them would copy the most there is.
        density: [N, R, S], raw network output; softplus(density - 1) is density per world unit.
        depths: [N, R, S], world units.
        depth_limits: the mean depth of a ray stays between its own samples, or only between those of the whole batch, as in released
            networks; empty rays get the far limit.

    Raises:
        ValueError: fewer than two samples, or shapes that disagree.
    """
    parts = (features,) if isinstance(features, Tensor) else tuple(features)
    counts = [part.shape[2] for part in parts]
    fit = all(part.shape[:2] == depths.shape[:2] for part in parts) and sum(counts) == depths.shape[-1]
    if depths.shape[-1] < 2 or not fit or density.shape != depths.shape:
        shown = " and ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(
            f"composite: features {shown}, density {tuple(density.shape)}, depths {tuple(depths.shape)}; "
            "need [N, R, S, C], [N, R, S], [N, R, S] with S >= 2"
        )
    ordered, order = depths.sort(dim=-1)
    weights = interval_weights(density.gather(-1, order), ordered)  # [N, R, S - 1]
    # The sum over interval mid-points is the sum over samples of the mean of the two neighbouring weights.
    per_sample = 0.5 * (F.pad(weights, (0, 1)) + F.pad(weights, (1, 0)))  # [N, R, S]
    middles = 0.5 * (ordered[..., 1:] + ordered[..., :-1])
    total = weights.sum(dim=-1, keepdim=True)
    mean_depth = (weights * middles).sum(dim=-1, keepdim=True) / total.clamp_min(MIN_TOTAL)
    near, far = (ordered[..., :1], ordered[..., -1:]) if depth_limits == "ray" else depths.aminmax()
    depth = torch.where(total > MIN_TOTAL, mean_depth, far).clamp(near, far)  # rounding may leave the interval
    unordered = torch.zeros_like(per_sample).scatter(-1, order, per_sample)
    sums = [weighted_sum(share, part) for share, part in zip(unordered.split(counts, dim=-1), parts, strict=True)]  # [N, R, C] each
    return RaySums(functools.reduce(torch.add, sums), depth, weights, middles)


def interval_weights(density: Tensor, depths: Tensor) -> Tensor:
    """How much each interval contributes to its ray: [N, R, S - 1]."""
    middle = 0.5 * (density[..., 1:] + density[..., :-1])
    thickness = F.softplus(middle - 1) * depths.diff(dim=-1)  # optical thickness of each interval
    before = F.pad(thickness.cumsum(dim=-1)[..., :-1], (1, 0))  # thickness in front of it
    return (1 - torch.exp(-thickness)) * torch.exp(-before)
