"""Where rays are sampled: stratified first, then where the first pass found matter (NeRF, Sec. 5.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.types import RaySampling

WEIGHT_FLOOR = 0.01
"""Added to the smoothed weights, so that empty stretches are still looked at (mip-NeRF, Sec. 3.1)."""
PDF_EPS = 1e-5


def stratified_depths(
    shape: tuple[int, int], *, start: float, end: float, count: int, sampling: RaySampling, device: torch.device
) -> Tensor:
    """Increasing depths [N, R, count] in [start, end], one per stratum; in the middle if nothing random is asked for."""
    position = torch.arange(count, device=device) + stratum_jitter(shape, count, sampling, device)
    return start + (end - start) / count * position


def stratum_jitter(shape: tuple[int, int], count: int, sampling: RaySampling, device: torch.device) -> Tensor:
    """Positions [N, R, count] in [0, 1) of coarse samples within their strata, from where `sampling` says."""
    if sampling.jitter is not None:
        return sampling.jitter.to(device)
    if sampling.generator is not None:
        return torch.rand(*shape, count, generator=sampling.generator, device=device)
    return torch.full((*shape, count), 0.5, device=device)


def importance_depths(depths: Tensor, weights: Tensor, *, count: int, sampling: RaySampling) -> Tensor:
    """Draw depths [N, R, count] from the first pass.

    The weights are max-filtered and averaged over neighbours, so that surfaces are bracketed (mip-NeRF, Sec. 3.1), and inverted as a
    piecewise constant density between the first pass's samples.

    Args:
        depths: [N, R, S], non-decreasing.
        weights: [N, R, S - 1] of the intervals between them.
    """
    smooth = smoothed_weights(weights)
    return invert_cdf(smooth / smooth.sum(dim=-1, keepdim=True), depths, importance_draws(weights, count, sampling))


def smoothed_weights(weights: Tensor) -> Tensor:
    """Weights [N, R, S - 1], max-filtered, averaged over neighbours and lifted by a floor."""
    return F.avg_pool1d(F.max_pool1d(weights, 2, stride=1, padding=1), 2, stride=1) + WEIGHT_FLOOR


def invert_cdf(pdf: Tensor, edges: Tensor, draws: Tensor) -> Tensor:
    """Where the cumulative sum of a piecewise constant density reaches `draws`.

    Args:
        pdf: [N, R, K], the share of each interval; sums to one.
        edges: [N, R, K + 1], between which the intervals lie.
        draws: [N, R, count] in [0, 1].

    Returns:
        [N, R, count], between the edges.
    """
    cdf = F.pad(pdf.cumsum(dim=-1), (1, 0))  # [N, R, K + 1]
    above = torch.searchsorted(cdf[..., 1:-1].contiguous(), draws, right=True)  # [N, R, count], index of the interval
    low, high = cdf.gather(-1, above), cdf.gather(-1, above + 1)
    near, far = edges.gather(-1, above), edges.gather(-1, above + 1)
    return near + (far - near) * ((draws - low) / (high - low).clamp_min(PDF_EPS)).clamp(0, 1)


def importance_draws(weights: Tensor, count: int, sampling: RaySampling) -> Tensor:
    """Uniform numbers [N, R, count] for rays with weights [N, R, K], from where `sampling` says."""
    shape = (*weights.shape[:2], count)
    if sampling.importance is not None:
        return sampling.importance.to(weights).expand(shape).contiguous()
    if sampling.generator is not None:
        return torch.rand(shape, generator=sampling.generator, device=weights.device)
    middle = (torch.arange(count, device=weights.device, dtype=weights.dtype) + 0.5) / count
    return middle.expand(shape).contiguous()
