"""The two sets that distribution metrics compare, real images and generated ones, as pictures and as features. Each is made once.

Both are in random order, so that any consecutive rows are a random sample. Generated ones borrow heads and cameras from the data set, in an
order of their own; every image has a person of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.media.images import from_uint8, to_uint8
from training.metrics.context import Context
from training.metrics.scenes import Scenes, random_people
from training.randomness import Draws

CANONICAL = 50000
"""So many generated images are compared with all real ones, as published figures are."""
MOST_KEPT = 2000
"""Images of each set that may be kept as pictures,"""
KEPT_BYTES = 1 << 29
"""and the memory that they may take."""
REALS, FAKES = "real images", "generated images"


def real_count(context: Context) -> int:
    """Number of real images.

    Raises:
        DatasetError: fewer than four.
    """
    here, settings = len(context.dataset), context.settings
    wanted = settings.reals or (here if settings.images >= CANONICAL else settings.images)
    if here < 4:
        raise DatasetError(f"{context.dataset.path}: has {here} images, but metrics compare sets of at least 4; add images.")
    return min(here, wanted)


def kept_count(context: Context) -> int:
    """Images of each set that are kept as pictures: as many of both."""
    room = KEPT_BYTES // (3 * context.dataset.resolution**2)
    return min(real_count(context), context.settings.images, MOST_KEPT, max(room, 4))


def real_pixels(context: Context) -> Tensor:
    """[kept_count, 3, H, H] uint8."""
    return context.once(REALS, lambda: context.rows(kept_count(context), lambda *rows: _read_reals(context, *rows)))


def fake_pixels(context: Context) -> Tensor:
    """[kept_count, 3, H, H] uint8."""
    return context.once(FAKES, lambda: context.rows(kept_count(context), lambda *rows: _draw_fakes(context, *rows)), network=True)


def real_features(context: Context) -> Tensor:
    """[real_count, D] float32."""
    return context.once("real features", lambda: _features(context, REALS, real_count(context), _read_reals))


def fake_features(context: Context) -> Tensor:
    """[settings.images, D] float32."""
    return context.once("fake features", lambda: _features(context, FAKES, context.settings.images, _draw_fakes), network=True)


def _features(context: Context, name: str, count: int, make: Callable[[Context, int, int], Tensor]) -> Tensor:
    """Features of images 0 … count - 1. Pictures that are already kept are not made again."""
    detector = context.detector
    context.say(f"Looking at {count} {name}")
    kept: Tensor | None = context.kept(name)

    def some(start: int, stop: int) -> Tensor:
        pixels = kept[start:stop] if kept is not None and stop <= len(kept) else make(context, start, stop)
        return detector(from_uint8(pixels))

    return context.rows(count, some, title=name.capitalize())


def _read_reals(context: Context, start: int, stop: int) -> Tensor:
    """Real images `start` to `stop` of a random order, [n, 3, H, H] uint8."""
    order = context.once("order of reals", lambda: Draws(context.settings.seed).permutation("metrics: rows", 0, len(context.dataset)))
    return context.dataset.read_sound(order[start:stop].tolist()).pixels


def _draw_fakes(context: Context, start: int, stop: int) -> Tensor:
    """Generated images `start` to `stop`, [n, 3, H, H] uint8."""
    return to_uint8(context.sampler(fake_scenes(context, start, stop)))


def fake_scenes(context: Context, start: int, stop: int) -> Scenes:
    """What generated images `start` to `stop` show: a person each, with heads and cameras of the data set, each as often as any other."""
    draws, here = Draws(context.settings.seed), len(context.dataset)
    order = context.once("order of heads", lambda: draws.permutation("metrics: heads", 0, here))
    camera, head = context.dataset.conditions(order[torch.arange(start, stop) % here].tolist())
    return random_people(head, camera, context.latent_size, seed=context.settings.seed, first=start)
