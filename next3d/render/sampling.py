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
    if sampling.jitter is not None:
        jitter = sampling.jitter.to(device)
    elif sampling.generator is not None:
        jitter = torch.rand(*shape, count, generator=sampling.generator, device=device)
    else:
        jitter = torch.full((*shape, count), 0.5, device=device)
    return start + (end - start) / count * (torch.arange(count, device=device) + jitter)


def importance_depths(depths: Tensor, weights: Tensor, *, count: int, sampling: RaySampling) -> Tensor:
    """Draw depths [N, R, count] from the first pass.

    The weights are max-filtered and averaged over neighbours, so that surfaces are bracketed (mip-NeRF, Sec. 3.1), and inverted as a
    piecewise constant density between the first pass's samples.

    Args:
        depths: [N, R, S], non-decreasing.
        weights: [N, R, S - 1] of the intervals between them.
    """
    smooth = F.avg_pool1d(F.max_pool1d(weights, 2, stride=1, padding=1), 2, stride=1) + WEIGHT_FLOOR  # [N, R, S - 1]
    pdf = smooth / smooth.sum(dim=-1, keepdim=True)
    cdf = F.pad(pdf.cumsum(dim=-1), (1, 0))  # [N, R, S]
    draws = _uniform(weights, count, sampling)
    above = torch.searchsorted(cdf[..., 1:-1].contiguous(), draws, right=True)  # [N, R, count], index of the interval
    low, high = cdf.gather(-1, above), cdf.gather(-1, above + 1)
    near, far = depths.gather(-1, above), depths.gather(-1, above + 1)
    return near + (far - near) * ((draws - low) / (high - low).clamp_min(PDF_EPS)).clamp(0, 1)


def _uniform(weights: Tensor, count: int, sampling: RaySampling) -> Tensor:
    shape = (*weights.shape[:2], count)
    if sampling.importance is not None:
        return sampling.importance.to(weights).expand(shape).contiguous()
    if sampling.generator is not None:
        return torch.rand(shape, generator=sampling.generator, device=weights.device)
    middle = (torch.arange(count, device=weights.device, dtype=weights.dtype) + 0.5) / count
    return middle.expand(shape).contiguous()
