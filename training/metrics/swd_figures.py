"""The sliced Wasserstein distance (`training.metrics.swd`) as figures: the mean over the levels and each level, with interval and floor."""

from __future__ import annotations

from next3d.media.images import from_uint8
from training.metrics.context import Context
from training.metrics.features import fake_pixels, real_pixels
from training.metrics.figures import Figure
from training.metrics.intervals import blocks, jackknife
from training.metrics.swd import Projections, SwdSettings, named_levels, project, projected_distance

JACKKNIFE_BLOCKS = 10
JACKKNIFE_PROJECTIONS = 32
"""Directions that the interval is made of: sorting is what costs. Fewer scatter a little more, so intervals are a little long."""


def measure(context: Context) -> list[Figure]:
    """`swd_mean` and `swd_64`, `swd_32` … of as many generated as real images."""
    settings = SwdSettings(seed=context.settings.seed)
    real = context.once("real projections", lambda: project(from_uint8(real_pixels(context)), settings))
    fake = project(from_uint8(fake_pixels(context)), settings)
    levels = named_levels(projected_distance(real, fake))
    intervals: dict[str, tuple[float, float]] = {}
    floors: dict[str, float] = {}
    if context.settings.intervals:
        intervals = {name: jackknife(levels[name], values, least=0.0) for name, values in leave_blocks_out(real, fake).items()}
        floors = halves(real)
    note = f"x 1e3 to as many reals{'; floor: half of those to the rest' if floors else ''}"
    figures = []
    for name, value in levels.items():
        low, high = intervals.get(name, (None, None))
        shown = note if name == "mean" else f"level {name}²"
        figures.append(Figure(f"swd_{name}", value, fake.count, context.settings.seed, low, high, floors.get(name), note=shown))
    return figures


def leave_blocks_out(real: Projections, fake: Projections) -> dict[str, list[float]]:
    """Distances without block i of both sets for every i, by level, along some of the directions."""
    some = [side.along(JACKKNIFE_PROJECTIONS) for side in (real, fake)]
    number = max(2, min(JACKKNIFE_BLOCKS, real.count // 2))
    found = [named_levels(projected_distance(*(side.without(block) for side in some))) for block in blocks(real.count, number)]
    return {name: [levels[name] for levels in found] for name in found[0]}


def halves(real: Projections) -> dict[str, float]:
    """Distance of the first half of a set to the second: what a perfect generator would get from half as many images."""
    half = real.count // 2
    first, second = real.without(slice(half, real.count)), real.without(slice(0, real.count - half))
    return named_levels(projected_distance(first, second))
