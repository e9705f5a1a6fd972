"""`report.html`: what became of every picture, as one file that opens anywhere (docs/tracking.md).

Ten thousand pictures make a page of a few megabytes: it shows the best and the worst of what was kept, a sample of the rest drawn by lot,
some of what was left out for each reason, and counts everything.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dnnlib.files import atomic_write
from next3d.tracking import report_page as page
from next3d.tracking.quality import REASONS, Measures, Quality
from next3d.tracking.types import Pixels

UNREADABLE = "cannot be used"
"""The reason of items with a problem."""


@dataclass(frozen=True, kw_only=True)
class ReportItem:
    """One face, frame or picture in the report."""

    name: str
    """What people call it: the path as it was found, `#2` behind it for a second face; film and frame."""
    quality: Quality | None = None
    """The verdict; None for pictures that could not be read or failed otherwise, and for bridged frames."""
    problem: str = ""
    """Why it could not be read, as a sentence; empty where it could."""
    jaw: float | None = None
    """How far the jaw is open, radians."""
    blink: float | None = None
    """How far the eyes are shut, 0 open to 1 shut."""
    film: str = ""
    """The film it belongs to."""
    bridged: bool = False
    """A frame of a film in which no face was found and that was filled in from its neighbours."""
    notes: tuple[str, ...] = ()
    """What was done to it before: "first of 12 frames"."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was left out, in few words; empty for what is in the data set."""
        if self.problem:
            return (UNREADABLE,)
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
    turn_jitter: float = math.nan
    """Root mean square of the second difference of the head's rotation, degrees per frame²."""
    shift_jitter: float = math.nan
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
    listed: int = 1000
    """Names per reason; the rest are counted."""
    films: int = 500
    """Rows of the table of films."""
    seed: int = 0
    side: int = 144
    """Of thumbnails, pixels."""


Pictures = Callable[[ReportItem], Pixels | None]
"""Gives the picture of an item, any size, twice as wide as high where it is two; or None. Only called for the few that are shown."""


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

    Raises:
        UserError: the file cannot be written.
    """
    maker = _Maker(settings, pictures)
    kept = [item for item in items if not item.reasons]
    left_out = [item for item in items if item.reasons]
    body = [
        f"<h1>{page.text(settings.title)}</h1>",
        _tiles(items, kept, films),
        page.facts(list((facts or {}).items())),
        *_histograms(kept, left_out),
        *_films(films, settings),
        *maker.rejected(left_out),
        *maker.kept(kept),
        _legend(),
    ]
    with atomic_write(path) as temporary:
        temporary.write_text(page.page(settings.title, [part for part in body if part]), encoding="utf-8")


def _tiles(items: Sequence[ReportItem], kept: Sequence[ReportItem], films: Sequence[FilmRow]) -> str:
    unreadable = sum(bool(item.problem) for item in items)
    figures = [
        ("pictures and frames" if films else "faces and pictures", f"{len(items):,}"),
        ("in the data set", f"{len(kept):,}"),
        ("left out", f"{len(items) - len(kept) - unreadable:,}"),
        ("could not be used", f"{unreadable:,}"),
    ]
    scores = [item.quality.score for item in kept if item.quality is not None]
    if scores:
        figures.append(("median quality of what was kept", f"{sorted(scores)[len(scores) // 2]:.2f}"))
    if films:
        figures.append(("films", f"{len(films):,}"))
    return page.tiles(figures)


_MEASURED: tuple[tuple[page.Histogram, Callable[[Measures], float]], ...] = (
    (page.Histogram("Yaw", -90, 90, "°", 36), lambda m: math.degrees(m.yaw)),
    (page.Histogram("Pitch", -60, 60, "°", 30), lambda m: math.degrees(m.pitch)),
    (page.Histogram("Roll", -60, 60, "°", 30), lambda m: math.degrees(m.roll)),
    (page.Histogram("Crop side", 0, 1024, " px", 32), lambda m: m.crop),
    (page.Histogram("Sharpness", 0, 0.3, "", 30, 2), lambda m: m.sharpness),
    (page.Histogram("Fit error", 0, 10, " %", 40, 1), lambda m: 100 * m.error),
    (page.Histogram("Beyond the photo", 0, 50, " %", 25), lambda m: 100 * m.outside),
)


def _histograms(kept: Sequence[ReportItem], left_out: Sequence[ReportItem]) -> list[str]:
    groups = (kept, left_out)
    scores = [[item.quality.score for item in group if item.quality is not None] for group in groups]
    charts = [page.histogram(page.Histogram("Quality", 0, 1, "", 25, 2), *scores)]
    for what, of in _MEASURED:
        values = [[of(item.quality.measures) for item in group if item.quality and item.quality.measures] for group in groups]
        charts.append(page.histogram(what, *values))
    jaws = [[math.degrees(item.jaw) for item in group if item.jaw is not None] for group in groups]
    blinks = [[item.blink for item in group if item.blink is not None] for group in groups]
    charts.append(page.histogram(page.Histogram("Jaw open", 0, 25, "°", 25), *jaws))
    charts.append(page.histogram(page.Histogram("Eyes shut", 0, 1, "", 25, 2), *blinks))
    key = '<p class="soft"><span class="key kept"></span>kept<span class="key left"></span>'
    note = "left out. Beside a title: 5 %, median and 95 % of what was kept.</p>"
    return ["<h2>Distributions</h2>", key + note, '<div class="charts">' + "".join(charts) + "</div>"]


def _films(films: Sequence[FilmRow], settings: ReportSettings) -> list[str]:
    if not films:
        return []
    head = ("Film", "Frames", "Frames per second", "Kept", "Bridged", "Cuts", "Jitter of the turn, °/frame²", "… of the place, %/frame²")
    rows = [
        (
            page.named(film.name),
            f"{film.frames:,}",
            f"{film.fps:.4g}",
            f"{film.kept:,}",
            f"{film.bridged:,}",
            f"{film.cuts:,}",
            _figure(film.turn_jitter, 3),
            _figure(film.shift_jitter, 3),
        )
        for film in films[: settings.films]
    ]
    further = len(films) - len(rows)
    return ["<h2>Films</h2>", page.table(head, rows), f'<p class="soft">and {further:,} more.</p>' if further > 0 else ""]


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


@dataclass(frozen=True)
class _Maker:
    """Draws faces; asks for the pictures of those alone."""

    settings: ReportSettings
    pictures: Pictures | None

    def rejected(self, items: Sequence[ReportItem]) -> list[str]:
        """How many were left out for which reason, and some of each."""
        if not items:
            return ["<h2>Left out</h2>", "<p>Nothing was left out.</p>"]
        groups: dict[str, list[ReportItem]] = {}
        for item in items:
            for reason in item.reasons:
                groups.setdefault(reason, []).append(item)
        known = {reason: index for index, reason in enumerate(REASONS)}
        order = sorted(groups, key=lambda reason: (-len(groups[reason]), known.get(reason, len(known)), reason))
        most = len(groups[order[0]])
        rows = [(page.text(reason), f"{len(groups[reason]):,}", page.bar(len(groups[reason]) / most)) for reason in order]
        parts = ["<h2>Left out</h2>", page.table(("Reason", "Count", ""), rows).replace("<td><span", '<td class="bars"><span')]
        parts.append('<p class="soft">A picture with several reasons counts for each.</p>')
        for reason in order:
            parts += self._problems(groups[reason]) if reason == UNREADABLE else self._reason(reason, groups[reason])
        return parts

    def _problems(self, items: Sequence[ReportItem]) -> list[str]:
        rows = [(page.named(item.name), page.text(item.problem)) for item in items[: self.settings.listed]]
        further = len(items) - len(rows)
        more = f'<p class="soft">and {further:,} more.</p>' if further else ""
        body = page.table(("Name", "Why"), rows, text_columns=(1,)) + more
        return [f"<h3>Could not be used: {len(items):,}</h3>", _folded(body, len(rows) > 40, f"{len(items):,} names")]

    def _reason(self, reason: str, items: Sequence[ReportItem]) -> list[str]:
        draw = random.Random(f"{self.settings.seed} {reason}")
        chosen = sorted(draw.sample(range(len(items)), min(self.settings.rejected, len(items))))
        parts = [f"<h3>{page.text(reason[:1].upper() + reason[1:])}: {len(items):,}</h3>"]
        parts.append(self._faces([items[index] for index in chosen]))
        if len(items) > len(chosen):
            names = "".join(f"<li>{page.named(item.name)}</li>" for item in items[: self.settings.listed])
            further = len(items) - self.settings.listed
            names += f"<li>and {further:,} more</li>" if further > 0 else ""
            parts.append(_folded(f'<ul class="names">{names}</ul>', True, "All names"))
        return parts

    def kept(self, items: Sequence[ReportItem]) -> list[str]:
        """Best, worst and some of the others."""
        if not items:
            return ["<h2>In the data set</h2>", '<p class="warn">Nothing was good enough.</p>']
        ranked = sorted(items, key=lambda item: -1.0 if item.quality is None else item.quality.score)
        settings = self.settings
        parts = ["<h2>In the data set</h2>"]
        if len(ranked) <= settings.best + settings.worst + settings.sample:
            return [*parts, '<p class="soft">All, the worst first.</p>', self._faces(ranked)]
        worst, rest = ranked[: settings.worst], ranked[settings.worst :]
        best, rest = rest[len(rest) - settings.best :][::-1], rest[: len(rest) - settings.best]
        chosen = sorted(random.Random(settings.seed).sample(range(len(rest)), settings.sample))
        for title, group in (("The worst", worst), ("Drawn by lot", [rest[index] for index in chosen]), ("The best", best)):
            parts += [f"<h3>{title}</h3>", self._faces(group)]
        return parts

    def _faces(self, items: Iterable[ReportItem]) -> str:
        return '<div class="faces">' + "".join(self._face(item) for item in items) + "</div>"

    def _face(self, item: ReportItem) -> str:
        shown = page.picture(None if self.pictures is None else self.pictures(item), self.settings.side)
        return page.face(item.name, _lines(item), shown)


def _lines(item: ReportItem) -> list[str]:
    """What is written below a picture."""
    if item.bridged:
        return ["bridged: no face seen", *item.notes]
    if item.quality is None or item.quality.measures is None:
        return [*item.reasons, *item.notes]
    m, verdict = item.quality.measures, item.quality
    first = ", ".join(verdict.reasons) if verdict.reasons else f"quality {verdict.score:.2f}"
    angles = " ".join(f"{math.degrees(angle):+.0f}°" for angle in (m.yaw, m.pitch, m.roll)).replace("-", "−")
    return [first, angles, f"{m.crop:.0f} px, sharp {m.sharpness:.3f}, fit {100 * m.error:.1f} %", *item.notes]


def _folded(body: str, fold: bool, title: str) -> str:
    return f"<details><summary>{page.text(title)}</summary>{body}</details>" if fold else body


def _legend() -> str:
    return (
        "<h2>How to read this</h2><p>Below each face: its quality, or why it was left out; yaw (positive to the right of the picture), "
        "pitch (positive looks down) and roll (positive turns anticlockwise); the side of the crop in photo pixels; sharpness; the mean "
        "distance of fitted from detected points as a part of the distance of the outer eye corners.</p>"
        "<p>Quality is a product of marks between 0 (a limit is reached) and 1 for size, sharpness, pose, fit, exposure, and how much of "
        "the face and of its crop the photo has.</p>"
    )
