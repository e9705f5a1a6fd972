"""Portions of a tracking job: each can be done by any process, in any order, and leaves one file in the job's work folder.

A file is named by everything that its content depends on, so work is never done twice, and never taken for that of other settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from next3d.tracking.film_pipeline import FilmPlan, cut_frames, fit_shot, joined, look_at_frames
from next3d.tracking.pipeline import Tools, track_photos
from next3d.tracking.results import load_arrays, save_arrays, save_portion
from next3d.tracking.settings import TrackingSettings, digest
from next3d.tracking.sources import Item

PHOTOS = 8
"""Photos per portion: as many as a fit takes at once."""
FRAMES = 128
"""Frames of a film per portion."""


@dataclass(frozen=True)
class Workplace:
    """Where results go, and what they depend on beside their source."""

    folder: Path
    settings: TrackingSettings
    key: str
    """`TrackingSettings.key`."""

    def path(self, unit: Unit) -> Path:
        """The file of a portion's results."""
        return self.folder / f"{digest(self.key, type(unit).__name__, *unit.content())[:32]}{unit.suffix}"

    def has(self, unit: Unit) -> bool:
        """Whether it is done."""
        return self.path(unit).is_file()


class Unit(Protocol):
    """A portion of the work. Travels between processes."""

    suffix: str

    @property
    def size(self) -> int:
        """Photos or frames, for progress."""

    def content(self) -> tuple[object, ...]:
        """What the results depend on, beside kind and settings."""

    def run(self, tools: Tools, place: Workplace) -> None:
        """Do it, and write the file."""

    def alone(self) -> Sequence[Unit]:
        """The smallest portions that it can be taken apart into."""


@dataclass(frozen=True)
class PhotoUnit:
    """Some photos from file to crop."""

    items: tuple[Item, ...]
    suffix = ".zip"

    @property
    def size(self) -> int:
        return len(self.items)

    def content(self) -> tuple[object, ...]:
        return tuple(map(stamp, self.items))

    def run(self, tools: Tools, place: Workplace) -> None:
        save_portion(place.path(self), track_photos(self.items, tools))

    def alone(self) -> Sequence[Unit]:
        return [PhotoUnit((item,)) for item in self.items]


@dataclass(frozen=True)
class LookUnit:
    """Detections in a stretch of a film."""

    plan: FilmPlan
    first: int
    last: int
    suffix = ".npz"

    @property
    def size(self) -> int:
        return self.last - self.first

    def content(self) -> tuple[object, ...]:
        return (stamp(self.plan.item), self.first, self.last)

    def run(self, tools: Tools, place: Workplace) -> None:
        save_arrays(place.path(self), look_at_frames(self.plan, self.first, self.last, tools))

    def alone(self) -> Sequence[Unit]:
        return [self]


@dataclass(frozen=True)
class ShotUnit:
    """The fit of a shot."""

    plan: FilmPlan
    looks: tuple[LookUnit, ...]
    """Stretches that cover it."""
    first: int
    last: int
    suffix = ".npz"

    @property
    def size(self) -> int:
        return self.last - self.first

    def content(self) -> tuple[object, ...]:
        return (stamp(self.plan.item), self.first, self.last)

    def run(self, tools: Tools, place: Workplace) -> None:
        found = joined([load_arrays(place.path(look)) for look in self.looks])
        begin = self.looks[0].first
        rows = slice(self.first - begin, self.last - begin)
        looks = {name: array[rows] for name, array in found.items()}
        save_arrays(place.path(self), fit_shot(looks, self.first, self.plan, tools))

    def alone(self) -> Sequence[Unit]:
        return [self]


@dataclass(frozen=True)
class CutUnit:
    """Crops of a stretch of a shot."""

    shot: ShotUnit
    first: int
    last: int
    suffix = ".zip"

    @property
    def size(self) -> int:
        return self.last - self.first

    def content(self) -> tuple[object, ...]:
        return (*self.shot.content(), self.first, self.last)

    def run(self, tools: Tools, place: Workplace) -> None:
        rows = slice(self.first - self.shot.first, self.last - self.shot.first)
        fitted = {name: array[rows] for name, array in load_arrays(place.path(self.shot)).items()}
        save_portion(place.path(self), cut_frames(self.shot.plan, self.first, fitted, tools))

    def alone(self) -> Sequence[Unit]:
        return [self]


def stamp(item: Item) -> tuple[object, ...]:
    """What tells whether a file is still the one that was read: name, size and time of its last change."""
    try:
        facts = item.path.stat()
    except OSError:
        return (item.name, item.member, str(item.path))
    return (item.name, item.member, str(item.path), facts.st_size, facts.st_mtime_ns)


def photo_units(items: Sequence[Item]) -> list[PhotoUnit]:
    """Photos in portions."""
    return [PhotoUnit(tuple(items[first : first + PHOTOS])) for first in range(0, len(items), PHOTOS)]


def look_units(plan: FilmPlan) -> list[LookUnit]:
    """A film in stretches."""
    return [LookUnit(plan, first, min(first + FRAMES, plan.count)) for first in range(0, plan.count, FRAMES)]


def shot_unit(plan: FilmPlan, looks: Sequence[LookUnit], frames: range) -> ShotUnit:
    """A shot, with the stretches that cover it."""
    covering = [look for look in looks if look.first < frames.stop and look.last > frames.start]
    return ShotUnit(plan, tuple(covering), frames.start, frames.stop)


def cut_units(shot: ShotUnit) -> list[CutUnit]:
    """A shot in stretches."""
    return [CutUnit(shot, first, min(first + FRAMES, shot.last)) for first in range(shot.first, shot.last, FRAMES)]


def do_unit(unit: Unit, place: Workplace) -> None:
    """Do a portion in this process, with one thread, unless it is done already."""
    torch.set_num_threads(1)
    if not place.has(unit):
        unit.run(_tools(place.settings), place)


@lru_cache(maxsize=1)
def _tools(settings: TrackingSettings) -> Tools:
    """Open as long as the process lives: detectors take longer to start than to look at a photo."""
    return Tools(settings, ExitStack())
