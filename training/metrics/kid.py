"""Kernel inception distance (Bińkowski et al. 2018, "Demystifying MMD GANs", Sec. 4): squared maximum mean discrepancy of features.

The kernel is (x·y / D + 1)³; the estimate is the unbiased one (Gretton et al. 2012, Eq. 3), so that few images make it noisy but
neither large nor small, and equal distributions give values around 0 of either sign. As in the paper it is the mean over subsets; ours are
disjoint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.metrics.context import Context
from training.metrics.features import fake_features, real_features
from training.metrics.figures import Figure, short
from training.metrics.intervals import BLOCKS, blocks, jackknife

SUBSET = 1000
"""Least number of images in a subset, where there are so many (the paper's number)."""

LARGEST_RATIO = 4
"""More rows of one set than that hardly make the estimate better, but the kernel's tables large."""


def measure(context: Context) -> list[Figure]:
    """`kid50k`, or with N images `kidN`."""
    real, fake = real_features(context), fake_features(context)
    found = kernel_distance(real, fake)
    low, high = jackknife(found.value, found.without)
    half = len(real) // 2
    note, floor = f"to {len(real)} reals, {found.subsets} subset{'s'[: found.subsets > 1]}; unbiased, may be negative", None
    if context.settings.intervals:
        floor = kernel_distance(real[:half], real[half:]).value
        note += f"; floor: {half} of those to the rest"
    return [Figure(f"kid{short(len(fake))}", found.value, len(fake), context.settings.seed, low, high, floor, note=note)]


@dataclass(frozen=True)
class KernelDistance:
    """An estimate, and what its interval is made of."""

    value: float
    without: list[float]
    """The same without each of about `BLOCKS` blocks of images."""
    subsets: int


def kernel_distance(first: Tensor, second: Tensor, subset: int = SUBSET) -> KernelDistance:
    """Unbiased squared MMD between feature sets [n, D] and [m, D] whose rows are in random order; at least 4 of each.

    Where one set has more than `LARGEST_RATIO` times as many rows as the other, the rest of them is left out.
    """
    fewer = min(len(first), len(second))
    first, second = (rows[: LARGEST_RATIO * fewer] for rows in (first, second))
    count = max(1, fewer // subset)
    per_subset = min(-(-BLOCKS // count), len(first) // (2 * count), len(second) // (2 * count))
    whole: list[float] = []
    reduced: list[list[float]] = []
    for a, b in zip(blocks(len(first), count), blocks(len(second), count), strict=True):
        value, without = _block_sums(first[a], second[b], max(per_subset, 1)).estimates()
        whole.append(value)
        reduced.append(without)
    mean = sum(whole) / count
    if per_subset <= 1 < count:  # the blocks are the subsets themselves
        return KernelDistance(mean, [(count * mean - value) / (count - 1) for value in whole], count)
    without = [mean + (value - whole[index]) / count for index in range(count) for value in reduced[index]]
    return KernelDistance(mean, without, count)


@dataclass(frozen=True)
class BlockSums:
    """Sums of the kernel over pairs of blocks of two sets, [g, g] each; pairs of a row with itself are left out."""

    xx: Tensor
    yy: Tensor
    xy: Tensor
    x_sizes: Tensor
    """[g], rows of each block."""
    y_sizes: Tensor

    def estimates(self) -> tuple[float, list[float]]:
        """The estimate from all rows, and without block i of both sets for every i."""
        whole = _unbiased(self.xx.sum(), self.yy.sum(), self.xy.sum(), self.x_sizes.sum(), self.y_sizes.sum())
        if len(self.x_sizes) == 1:
            return float(whole), []
        xx, yy, xy = (table.sum() - table.sum(dim=0) - table.sum(dim=1) + table.diagonal() for table in (self.xx, self.yy, self.xy))
        without = _unbiased(xx, yy, xy, self.x_sizes.sum() - self.x_sizes, self.y_sizes.sum() - self.y_sizes)
        return float(whole), without.tolist()


def _unbiased(xx: Tensor, yy: Tensor, xy: Tensor, n: Tensor, m: Tensor) -> Tensor:
    """Gretton et al. 2012, Eq. 3, from sums over pairs."""
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _block_sums(x: Tensor, y: Tensor, number: int) -> BlockSums:
    """Kernel sums of rows [n, D] and [m, D] cut into `number` blocks each."""
    x, y = x.double(), y.double()
    in_x, in_y = _membership(len(x), number), _membership(len(y), number)
    xx, yy, xy = _kernel(x, x).fill_diagonal_(0), _kernel(y, y).fill_diagonal_(0), _kernel(x, y)
    return BlockSums(in_x.T @ xx @ in_x, in_y.T @ yy @ in_y, in_x.T @ xy @ in_y, in_x.sum(dim=0), in_y.sum(dim=0))


def _membership(count: int, number: int) -> Tensor:
    """[count, number] float64: 1 where a row belongs to a block."""
    table = torch.zeros(count, number, dtype=torch.float64)
    for index, block in enumerate(blocks(count, number)):
        table[block, index] = 1
    return table


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """[n, m] of rows [n, D] and [m, D]."""
    return (x @ y.T / x.shape[1] + 1) ** 3
