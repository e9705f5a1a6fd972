"""Portions of work that do what a test wants; a module of their own, so that worker processes can import them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from next3d.tracking.pipeline import Tools
from next3d.tracking.results import save_arrays
from next3d.tracking.settings import TrackingSettings
from next3d.tracking.units import Unit, Workplace


@dataclass(frozen=True)
class Feat:
    """Some numbers to write down; deadly ones kill the process, and wrong ones raise."""

    numbers: tuple[int, ...]
    deadly: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    suffix: str = field(default=".npz")

    @property
    def size(self) -> int:
        return len(self.numbers)

    def content(self) -> tuple[object, ...]:
        return self.numbers

    def run(self, tools: Tools, place: Workplace) -> None:
        if set(self.numbers) & set(self.deadly):
            os.kill(os.getpid(), signal.SIGKILL)
        if set(self.numbers) & set(self.wrong):
            raise ZeroDivisionError("of no use")
        save_arrays(place.path(self), {})

    def alone(self) -> Sequence[Unit]:
        return [Feat((number,), self.deadly, self.wrong) for number in self.numbers]


def workplace(folder: Path) -> Workplace:
    """A folder to work in."""
    return Workplace(folder, TrackingSettings(), "key")


@dataclass(frozen=True)
class Telltale(Feat):
    """Writes down what its process was given: a variable of the environment, as a number, and how many threads there are."""

    def run(self, tools: Tools, place: Workplace) -> None:
        told = np.array([int(os.environ.get("TELLTALE", "-1")), len(os.listdir("/proc/self/task"))])
        save_arrays(place.path(self), {"told": told})
