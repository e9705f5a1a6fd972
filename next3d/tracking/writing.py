"""The data set that a tracking job ends with: images, cameras, heads, landmarks, what became of every file, and a report for people."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.errors import UserError
from next3d.head.model import HeadModel
from next3d.media.portrait_files import EncodedPortrait, PortraitWriter, Sink, image_name, open_sink
from next3d.synthetic.clips import frame_name
from next3d.tracking.report import FilmRow, ReportItem, write_report
from next3d.tracking.report_pictures import with_overlay
from next3d.tracking.results import Portion, Row, load_arrays, load_portion, read_pictures
from next3d.tracking.types import Pixels
from next3d.tracking.units import CutUnit, FilmUnit, PhotoUnit, ShotUnit, Unit, Workplace
from next3d.version import VERSION

HEAD_FIELDS = ("shape", "expression", "pose", "translation", "scale")
LANDMARK_FIELDS = ("landmarks_2d", "landmarks_3d", "detected")
TABLE_NAME = "tracking.jsonl"
REPORT_NAME = "report.html"


@dataclass(frozen=True)
class Clip:
    """A shot and the portions with its crops."""

    shot: ShotUnit
    cuts: Sequence[CutUnit]


@dataclass
class Outcome:
    """What a job leaves in its work folder."""

    photos: list[Unit] = field(default_factory=list)
    """Portions, in the order of the photos."""
    clips: list[Clip] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """Name of a film → why it cannot be opened, as a sentence."""
    faceless: dict[str, int] = field(default_factory=dict)
    """Films without a face, and their frames."""
    failed: dict[Unit, str] = field(default_factory=dict)
    """Portions that could not be done, also alone, and why."""

    def reasons(self) -> dict[str, str]:
        """Name of a photo, film or part of a film → why there is nothing of it, as a sentence."""
        found = dict(self.problems)
        for unit, problem in self.failed.items():
            found.update({name: f"{name}: {problem}." for name in _names(unit)})
        return found


def _names(unit: Unit) -> list[str]:
    """What people call that which a portion was made of."""
    if isinstance(unit, PhotoUnit):
        return [item.name for item in unit.items]
    return [f"{unit.plan.item.name} frames {unit.first} to {unit.last - 1}"] if isinstance(unit, FilmUnit) else []


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass
class Summary:
    """What became of everything."""

    photos: int = 0
    portraits: int = 0
    """Faces of photos that are in the data set."""
    films: int = 0
    shots: int = 0
    frames: int = 0
    """Frames of these shots."""
    frames_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason → faces and frames."""
    unreadable: int = 0
    problems: list[str] = field(default_factory=list)
    """One sentence for each of these."""

    def text(self) -> str:
        """One line."""
        parts = []
        if self.photos:
            parts.append(f"{_counted(self.photos, 'photo')} → {_counted(self.portraits, 'portrait')}")
        if self.films:
            frames = f"{self.frames_kept} of {_counted(self.frames, 'frame')}"
            parts.append(f"{_counted(self.films, 'film')} → {_counted(self.shots, 'shot')}, {frames}")
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.rejected.most_common())
        parts.append(f"{self.rejected.total()} rejected{f' ({reasons})' if reasons else ''}")
        return ", ".join([*parts, f"{self.unreadable} unreadable"])


def write_outcome(outcome: Outcome, place: Workplace, target: Path, head: HeadModel, *, force: bool) -> Summary:
    """Write the data set, whole or not at all; equal outcomes give equal bytes.

    Raises:
        UserError: there is not one usable face.
    """
    editor = _Editor(place)
    with open_sink(target, force=force) as sink:
        writer = PortraitWriter(sink, place.settings.resolution, head.identifier, head.fingerprint())
        for unit in outcome.photos:
            editor.photos(place.path(unit), writer)
        for clip in outcome.clips:
            editor.clip(clip, writer)
        editor.leftovers(outcome)
        if not editor.identities:
            first = f" {editor.summary.problems[0]}" if editor.summary.problems else ""
            raise UserError(f"{target}: nothing to write: {editor.summary.text()}.{first}")
        writer.notes = {"films": editor.films} if editor.films else {}
        sink.put(TABLE_NAME, "".join(editor.lines).encode())
        _report(editor, place, sink, head)
        writer.finish()
    return editor.summary


@dataclass
class _Editor:
    """Goes through the portions in order, and collects what the tables and the report need."""

    place: Workplace
    summary: Summary = field(default_factory=Summary)
    lines: list[str] = field(default_factory=list)
    items: list[ReportItem] = field(default_factory=list)
    pictures: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """What the report calls a face → where its picture is."""
    film_rows: list[FilmRow] = field(default_factory=list)
    films: list[dict[str, object]] = field(default_factory=list)
    identities: int = 0
    portraits: int = 0

    def photos(self, path: Path, writer: PortraitWriter) -> None:
        """Rows of some photos; every face is a person of its own."""
        for row, portrait in _portraits(path):
            name = ""
            if portrait is not None:
                name = f"images/{image_name(self.portraits)}"
                writer.add(_named(portrait, self.identities, ""))
                self.portraits += 1
                self.identities += 1
            self.summary.photos += row.face == 0
            self.summary.portraits += row.kept
            self._note(row, name, f"{row.source} #{row.face + 1}" if row.face else row.source, path)

    def clip(self, clip: Clip, writer: PortraitWriter) -> None:
        """Frames of a shot; they show one person."""
        number, plan, kept, bridged = len(self.films), clip.shot.plan, 0, 0
        for cut in clip.cuts:
            path = self.place.path(cut)
            for row, portrait in _portraits(path):
                name = ""
                if portrait is not None and row.frame is not None:
                    name = f"images/{frame_name(number, row.frame - clip.shot.first)}"
                    writer.add(_named(portrait, self.identities, name.removeprefix("images/").removesuffix(".png")))
                    kept += 1
                bridged += row.bridged
                self._note(row, name, f"{row.source} frame {row.frame}", path)
        size = clip.shot.size
        turn, shift = _jitter(load_arrays(self.place.path(clip.shot)))
        name = f"{plan.item.name} from frame {clip.shot.first}"
        self.film_rows.append(
            FilmRow(name=name, frames=size, fps=plan.fps, kept=kept, bridged=bridged, turn_jitter=turn, shift_jitter=shift)
        )
        self.summary.shots += 1
        self.summary.frames += size
        self.summary.frames_kept += kept
        if kept:
            folder = frame_name(number, 0).partition("/")[0]
            place = {"clip": folder, "source": plan.item.name, "first_frame": clip.shot.first, "frames": size}
            self.films.append({**place, "fps": plan.fps, "notes": plan.notes})
            self.identities += 1

    def leftovers(self, outcome: Outcome) -> None:
        """What there are no portions of."""
        films = {clip.shot.plan.item.name for clip in outcome.clips} | outcome.faceless.keys()
        self.summary.films = len(films)
        for name in outcome.faceless:
            row = Row(source=name, problem=f"{name}: no frame shows a face.")
            self._note(row, "", name, None)
        for name, problem in sorted(outcome.reasons().items()):
            self._note(Row(source=name, problem=problem), "", name, None)

    def _note(self, row: Row, image: str, shown: str, path: Path | None) -> None:
        """One line of the table and one item of the report."""
        self.lines.append(json.dumps(_line(row, image), ensure_ascii=False, allow_nan=False) + "\n")
        if row.problem:
            self.summary.unreadable += 1
            self.summary.problems.append(row.problem)
        elif row.quality is not None and not row.quality.accepted:
            self.summary.rejected[row.quality.reasons[0]] += 1
        film = row.source if row.frame is not None else ""
        self.items.append(
            ReportItem(
                name=shown,
                quality=row.quality,
                problem=row.problem,
                jaw=row.jaw,
                blink=row.blink,
                film=film,
                bridged=row.bridged,
                notes=row.notes,
            )
        )
        picture = row.files.get("images") or row.files.get("preview")
        if path is not None and picture:
            self.pictures[shown] = (path, picture)


def _portraits(path: Path) -> Iterator[tuple[Row, EncodedPortrait | None]]:
    """Rows of a portion, with what is to be written of those that are kept."""
    portion: Portion = load_portion(path)
    number = 0
    for row in portion.rows:
        if not row.kept:
            yield row, None
            continue
        kinds = [kind for kind in row.files if kind != "preview"]
        files = dict(zip(kinds, read_pictures(path, [row.files[kind] for kind in kinds]), strict=True))
        numbers = {name: table[number] for name, table in portion.numbers.items()}
        head = {name: numbers[name] for name in HEAD_FIELDS}
        yield row, EncodedPortrait(files, numbers["label"], head, {name: numbers[name] for name in LANDMARK_FIELDS})
        number += 1


def _named(portrait: EncodedPortrait, identity: int, name: str) -> EncodedPortrait:
    return EncodedPortrait(portrait.files, portrait.label, portrait.head, portrait.landmarks, identity, name)


def _line(row: Row, image: str) -> dict[str, object]:
    """A row as the table has it (docs/formats.md)."""
    quality = row.quality
    facts: dict[str, object] = {
        "image": image or None,
        "source": row.source,
        "face": row.face,
        "frame": row.frame,
        "seconds": row.seconds,
        "photo": row.photo,
        "crop": asdict(row.crop) if row.crop else None,
        "error": row.error,
        "gaze": row.gaze or None,
        "bridged": row.bridged,
        "quality": quality.score if quality else None,
        "measures": asdict(quality.measures) if quality and quality.measures else None,
        "reasons": quality.reasons if quality else (),
        "problem": row.problem or None,
        "notes": row.notes,
    }
    return facts


def _jitter(shot: dict[str, np.ndarray]) -> tuple[float, float]:
    """Root mean squares of second differences: of the camera's direction, degrees, and of its way to the head, percent of the distance."""
    cameras = shot["label"][:, :16].reshape(-1, 4, 4).astype(np.float64)
    if len(cameras) < 3:
        return 0.0, 0.0
    forward = cameras[:, :3, 2]
    turn = np.linalg.norm(np.diff(forward, n=2, axis=0), axis=1)
    way = np.einsum("tji,tj->ti", cameras[:, :3, :3], shot["translation"].astype(np.float64) - cameras[:, :3, 3])
    shift = np.linalg.norm(np.diff(way, n=2, axis=0), axis=1) / np.linalg.norm(way[1:-1], axis=1)
    return float(np.degrees(np.sqrt((turn**2).mean()))), float(100 * np.sqrt((shift**2).mean()))


def _report(editor: _Editor, place: Workplace, sink: Sink, head: HeadModel) -> None:
    """Write the page for people."""

    def picture(item: ReportItem) -> Pixels | None:
        if item.name not in editor.pictures:
            return None
        path, name = editor.pictures[item.name]
        (content,) = read_pictures(path, [name])
        shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        portion = load_portion(path)
        kept = [row.files["images"] for row in portion.rows if row.kept]
        if name not in kept:
            return shown
        return with_overlay(shown, head, {kind: table[kept.index(name)] for kind, table in portion.numbers.items()})

    settings = place.settings
    facts = {"summary": editor.summary.text(), "resolution": f"{settings.resolution} pixels", "head": settings.head, "version": VERSION}
    page = place.folder / REPORT_NAME
    write_report(page, editor.items, films=editor.film_rows, facts=facts, pictures=picture)
    sink.put(REPORT_NAME, page.read_bytes())
