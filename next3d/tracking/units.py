"""Portions of a tracking job: each can be done by any process, in any order, and leaves one file in the job's work folder.

A file is named by everything that its content depends on, so work is never done twice, and never taken for that of other settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from next3d.tracking.clip import Window
from next3d.tracking.film_pipeline import (
    FilmPlan,
    cut_frames,
    first_heads,
    imported_heads,
    joined,
    look_at_frames,
    shot_windows,
    start_shot,
    whole_shot,
    window_heads,
)
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
class FilmUnit(ABC):
    """Some step for a stretch of a film."""

    plan: FilmPlan
    first: int
    last: int
    suffix = ".npz"

    @property
    def size(self) -> int:
        return self.last - self.first

    def content(self) -> tuple[object, ...]:
        return (stamp(self.plan.item), self.first, self.last)

    def alone(self) -> Sequence[Unit]:
        return [self]

    @abstractmethod
    def run(self, tools: Tools, place: Workplace) -> None:
        """Do it, and write the file."""


@dataclass(frozen=True)
class LookUnit(FilmUnit):
    """Detections in it."""

    def run(self, tools: Tools, place: Workplace) -> None:
        save_arrays(place.path(self), look_at_frames(self.plan, self.first, self.last, tools))


@dataclass(frozen=True)
class ShotUnit(FilmUnit):
    """Heads in all frames of a shot."""

    looks: tuple[LookUnit, ...]
    """Stretches that cover it."""

    @property
    def start(self) -> StartUnit:
        """What is done first."""
        return StartUnit(self.plan, self.first, self.last, self)

    def firsts(self) -> list[FirstUnit]:
        """The frames by themselves, in stretches."""
        return [FirstUnit(self.plan, first, last, self) for first, last in _stretches(self.first, self.last)]

    def windows(self, place: Workplace) -> list[WindowUnit]:
        """Windows of a shot that was started."""
        found = shot_windows(load_arrays(place.path(self.start)), self.plan)
        return [WindowUnit(self.plan, self.first + one.core.start, self.first + one.core.stop, self, one) for one in found]

    def seen(self, place: Workplace, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
        """What was seen in some of its frames."""
        return _rows(self.looks, place, first, last)

    def points(self, place: Workplace, first: int, last: int) -> npt.NDArray[np.float32]:
        """The detected points of some of its frames."""
        return self.seen(place, first, last)["points"].astype(np.float32, copy=False)

    def run(self, tools: Tools, place: Workplace) -> None:
        start = load_arrays(place.path(self.start))
        if tools.imported is not None:
            heads = imported_heads(self.points(place, self.first, self.last), start, self.first, self.plan, tools)
        else:
            heads = whole_shot([load_arrays(place.path(window)) for window in self.windows(place)], start, self.plan)
        save_arrays(place.path(self), heads)


@dataclass(frozen=True)
class ShotPart(FilmUnit):
    """Some step for a stretch of a shot; frames have the film's numbers."""

    shot: ShotUnit

    def content(self) -> tuple[object, ...]:
        return (*self.shot.content(), self.first, self.last)

    def within(self) -> range:
        """The frames as the shot counts them."""
        return range(self.first - self.shot.first, self.last - self.shot.first)


@dataclass(frozen=True)
class StartUnit(ShotPart):
    """What all frames of a shot share."""

    def run(self, tools: Tools, place: Workplace) -> None:
        save_arrays(place.path(self), start_shot(self.shot.points(place, self.first, self.last), self.plan, tools))


@dataclass(frozen=True)
class FirstUnit(ShotPart):
    """Frames by themselves."""

    def run(self, tools: Tools, place: Workplace) -> None:
        start = load_arrays(place.path(self.shot.start))
        points = self.shot.points(place, self.first, self.last)
        save_arrays(place.path(self), first_heads(points, start, self.within(), self.plan, tools))


@dataclass(frozen=True)
class WindowUnit(ShotPart):
    """Frames together."""

    window: Window

    def run(self, tools: Tools, place: Workplace) -> None:
        start, frames = load_arrays(place.path(self.shot.start)), self.window.frames
        first, last = self.shot.first + frames.start, self.shot.first + frames.stop
        points, firsts = self.shot.points(place, first, last), _rows(self.shot.firsts(), place, first, last)
        save_arrays(place.path(self), window_heads(points, firsts, start, self.window, self.plan, tools))


@dataclass(frozen=True)
class CutUnit(ShotPart):
    """Crops."""

    suffix = ".zip"

    def run(self, tools: Tools, place: Workplace) -> None:
        rows = slice(self.within().start, self.within().stop)
        heads = {name: array[rows] for name, array in load_arrays(place.path(self.shot)).items()}
        seen = self.shot.seen(place, self.first, self.last)
        save_portion(place.path(self), cut_frames(self.plan, self.first, {**seen, **heads}, tools))


def _rows(parts: Sequence[FilmUnit], place: Workplace, first: int, last: int) -> dict[str, npt.NDArray[np.generic]]:
    """What consecutive portions found in frames first ... last - 1."""
    found = []
    for part in parts:
        if part.first < last and part.last > first:
            rows = slice(max(first - part.first, 0), last - part.first)
            found.append({name: array[rows] for name, array in load_arrays(place.path(part)).items()})
    return joined(found)


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
    return [LookUnit(plan, first, last) for first, last in _stretches(0, plan.count)]


def shot_unit(plan: FilmPlan, looks: Sequence[LookUnit], frames: range) -> ShotUnit:
    """A shot, with the stretches that cover it."""
    covering = [look for look in looks if look.first < frames.stop and look.last > frames.start]
    return ShotUnit(plan, frames.start, frames.stop, tuple(covering))


def cut_units(shot: ShotUnit) -> list[CutUnit]:
    """A shot in stretches."""
    return [CutUnit(shot.plan, first, last, shot) for first, last in _stretches(shot.first, shot.last)]


def _stretches(first: int, last: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + FRAMES, last)) for begin in range(first, last, FRAMES)]


def do_unit(unit: Unit, place: Workplace) -> None:
    """Do a portion in this process, with one thread, unless it is done already."""
    torch.set_num_threads(1)
    if not place.has(unit):
        unit.run(_tools(place.settings), place)


@lru_cache(maxsize=1)
def _tools(settings: TrackingSettings) -> Tools:
    """Open as long as the process lives: detectors take longer to start than to look at a photo."""
    return Tools(settings, ExitStack())
