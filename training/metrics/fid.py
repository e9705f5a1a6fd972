"""Fréchet inception distance (Heusel et al. 2017, Sec. 3): how far the Gaussians are apart that have the two sets' feature moments.

The estimate is biased upwards, by about c / N for N images, and c differs from network to network (Chong and Forsyth 2020, "Effectively
unbiased FID and inception score"): only figures of equally many images can be compared, and few images make it large.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from torch import Tensor

from training.metrics.context import Context
from training.metrics.features import fake_features, real_features
from training.metrics.figures import Figure, short
from training.metrics.intervals import blocks, jackknife
from training.metrics.moments import frechet, moments_of

JACKKNIFE_BLOCKS = 10
"""Each costs two eigenvalue decompositions: seconds for 2048 features."""


def measure(context: Context) -> list[Figure]:
    """`fid50k`, or with N images `fidN`."""
    real, fake = real_features(context), fake_features(context)
    settings = context.settings
    low = high = floor = None
    note = f"to {len(real)} reals"
    if settings.intervals:
        value, without = leave_blocks_out(real, fake, context)
        low, high = jackknife(value, without, least=0.0)
        half = len(real) // 2
        floor = frechet(moments_of(real[:half]), moments_of(real[half:]))
        note += f"; floor: {half} of those to the rest"
        bias = (len(without) - 1) * (sum(without) / len(without) - value)
        if min(len(real), len(fake)) > 2 * real.shape[1]:
            note += f"; about {bias:.2g} of it comes from their number"
    else:
        value = frechet(moments_of(real), moments_of(fake))
    if min(len(real), len(fake)) <= 2 * real.shape[1]:
        note += "; few images: far too high, comparable at this number only"
    return [Figure(f"fid{short(len(fake))}", value, len(fake), settings.seed, low, high, floor, note=note)]


def leave_blocks_out(real: Tensor, fake: Tensor, context: Context, most: int = JACKKNIFE_BLOCKS) -> tuple[float, list[float]]:
    """The distance of features [n, D] and [m, D], and that without block i of both sets, for every i; ranks share the work."""
    number = min(most, len(real) // 2, len(fake) // 2)
    parts = [[moments_of(rows[block]) for block in blocks(len(rows), number)] for rows in (real, fake)]

    def distance(left_out: int) -> float:
        kept = [[part for index, part in enumerate(side) if index != left_out] for side in parts]
        first, second = (reduce(add, side) for side in kept)
        return frechet(first, second)

    rows = context.rows(
        number + 1, lambda start, stop: torch.tensor([[distance(i - 1)] for i in range(start, stop)], dtype=torch.float64), size=1
    )
    values: list[float] = rows[:, 0].tolist()
    return values[0], values[1:]
