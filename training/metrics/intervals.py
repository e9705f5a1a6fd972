"""95 % confidence intervals: how far a figure would scatter if the images had been drawn anew.

Which one: a share of yes and no → `wilson`; a mean of independent values → `mean_interval`; a statistic of many independent rows that
is cheap to compute again → `bootstrap`; one that is dear, or that resampling with replacement would spoil because equal rows meet →
`jackknife` over blocks. `docs/metrics.md` says which figure uses which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

LEVEL = 0.95
RESAMPLES = 1000
BLOCKS = 20
"""Into which a set is cut for the jackknife."""

Interval = tuple[float, float]


def wilson(successes: float, count: int) -> Interval:
    """Interval of a share (Wilson 1927): stays inside [0, 1] and works for shares of 0 and 1.

    Args:
        successes: how many of `count` independent trials succeeded.
        count: at least 1.
    """
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    share = successes / count
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Tensor | Sequence[float]) -> Interval:
    """Student's interval of the mean of independent values [n]; not a number for n < 2."""
    rows = torch.as_tensor(values, dtype=torch.float64)
    if len(rows) < 2:
        return math.nan, math.nan
    half = _t(len(rows) - 1) * float(rows.std()) / math.sqrt(len(rows))
    centre = float(rows.mean())
    return centre - half, centre + half


def bootstrap(statistic: Callable[[Tensor], float], count: int, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Percentile interval (Efron 1979) of a statistic of `count` independent rows.

    Args:
        statistic: the figure of the rows at indices [count] int64, which are drawn with replacement.
        count: number of rows.
        seed: key of the draws.
        resamples: how often; 1000 place the ends to a few percent of the interval's length.
    """
    generator = torch.Generator().manual_seed(seed)
    values = [statistic(torch.randint(count, (count,), generator=generator)) for _ in range(resamples)]
    low, high = np.nanquantile(np.array(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def jackknife(value: float, without: Sequence[float], least: float = -math.inf) -> Interval:
    """Interval by the delete-a-block jackknife (Shao and Wu 1989): for statistics that are smooth in the distribution of the rows.

    Args:
        value: the figure of everything; it is the middle.
        without: the figure without each of g blocks of equal size, g at least 2.
        least: no value can be smaller.
    """
    half = _t(len(without) - 1) * jackknife_error(without)
    return max(least, value - half), value + half


def jackknife_error(without: Sequence[float]) -> float:
    """Standard error of a figure, from the figures without each of g blocks."""
    rows = np.asarray(without, dtype=np.float64)
    return math.sqrt((len(rows) - 1) / len(rows) * float(((rows - rows.mean()) ** 2).sum()))


def blocks(count: int, most: int = BLOCKS) -> list[slice]:
    """Cut rows 0 … count - 1 into at most `most` consecutive blocks that differ by one row at most; none is empty."""
    number = min(most, count)
    edges = [count * index // number for index in range(number + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def _t(freedom: int) -> float:
    """Student's factor for `freedom` degrees of freedom."""
    return float(stats.t.ppf(0.5 + LEVEL / 2, max(freedom, 1)))
