"""`report.html`: what became of every picture, as one file that opens anywhere (docs/tracking.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dnnlib.files import atomic_write
from next3d.tracking.quality import Quality
from next3d.tracking.types import Pixels


@dataclass(frozen=True, kw_only=True)
class ReportItem:
    """One face, frame or picture in the report."""

    name: str
    """What people call it: the path as it was found, `#2` behind it for a second face; film and frame."""
    quality: Quality | None = None
    """The verdict; None for pictures that could not be read or failed otherwise."""
    problem: str = ""
    """Why it could not be read, as a sentence; empty where it could."""
    jaw: float | None = None
    """How far the jaw is open, radians (or the head model's own figure)."""
    blink: float | None = None
    """How far the eyes are shut, 0 open to 1 shut."""
    film: str = ""
    """The film it belongs to."""
    bridged: bool = False
    """A frame of a film in which no face was found and that was filled in from its neighbours."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was left out, in few words; empty for what is in the data set."""
        if self.problem:
            return ("cannot be used",)
        return () if self.quality is None else self.quality.reasons


@dataclass(frozen=True, kw_only=True)
class FilmRow:
    """One film (or shot of a film) in the report's table."""

    name: str
    frames: int
    fps: float
    kept: int
    bridged: int
    cuts: int = 0
    turn_jitter: float = 0.0
    """Root mean square of the second difference of the head's rotation, degrees per frame²."""
    shift_jitter: float = 0.0
    """The same of its position in camera coordinates, percent of the distance."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """How much the report shows."""

    title: str = "Tracking report"
    best: int = 24
    """So many of the best faces, …"""
    worst: int = 48
    """… of the worst that were kept, …"""
    sample: int = 48
    """… and of the others, drawn by lot."""
    rejected: int = 24
    """Pictures per reason."""
    listed: int = 2000
    """Names per reason; the rest are counted."""
    seed: int = 0
    side: int = 160
    """Of thumbnails, pixels."""


Pictures = Callable[[ReportItem], Pixels | None]
"""Gives the picture of an item (a crop with its overlay, any size), or None; only called for the few that are shown."""


def write_report(
    path: str | os.PathLike[str],
    items: Sequence[ReportItem],
    *,
    films: Sequence[FilmRow] = (),
    facts: Mapping[str, str] | None = None,
    pictures: Pictures | None = None,
    settings: ReportSettings = ReportSettings(),
) -> None:
    """Write the report: one HTML file without any reference to others.

    Args:
        path: the file.
        items: everything that went in, in any order.
        films: rows of the table of films.
        facts: lines for the head of the page: settings, times, versions.
        pictures: where thumbnails come from; without it there are none.
        settings: how much is shown.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(f"<!doctype html><title>{len(items)}</title>", encoding="utf-8")
