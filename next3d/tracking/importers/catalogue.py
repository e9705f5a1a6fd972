"""Which file of another tracker belongs to which picture or frame."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from dnnlib.errors import ConfigError, DatasetError
from next3d.head.flame import EXPRESSIONS, SHAPES
from next3d.head.model import HeadModel
from next3d.tracking.importers.deca import read_deca
from next3d.tracking.importers.emoca import read_emoca
from next3d.tracking.importers.place import ImportedHead
from next3d.tracking.importers.reading import ENDINGS
from next3d.tracking.importers.vhap import ExportedTrack, Track

Format = Literal["deca", "emoca", "vhap"]
FORMATS: tuple[Format, ...] = ("deca", "emoca", "vhap")
_NUMBERED_FACE = re.compile(r"(?<=\d)_\d{3}$")
"""EMOCA's folders of frames: number of the frame, number of the face."""


class HeadFiles(Protocol):
    """A folder of another tracker's results."""

    def find(self, name: str, index: int | None = None) -> ImportedHead | None:
        """The head of a picture, or None where there is none.

        Args:
            name: of the picture or film; folders in front of it count where names repeat, its ending does not.
            index: frame of a film, from 0; None for photos.

        Raises:
            UserError: its file is damaged or not what its name says, or several could be meant.
        """


def open_heads(folder: str | os.PathLike[str], kind: Format, head: HeadModel) -> HeadFiles:
    """Find the parameter files below a folder.

    Raises:
        ConfigError: no such folder, or the head model is not FLAME.
        DatasetError: no file of this kind is there.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root}: is not a folder; give the one with the results of {kind.upper()}.")
    neutral = head.neutral(1)
    if (neutral.shape.shape[1], neutral.expression.shape[1]) != (SHAPES, EXPRESSIONS):
        raise ConfigError(f"{kind.upper()} describes FLAME heads; choose --head flame and give the model's folder with --flame.")
    files = _files(root)
    if kind == "vhap":
        return _Tracks(root, files, head)
    if kind == "emoca":
        entries = sorted({file.parent for file in files if file.name == "pose.npy"})
        return _Entries(root, "EMOCA", "folders with pose.npy", entries, lambda path: read_emoca(path, head))
    entries = [file for file in files if file.suffix.lower() in ENDINGS]
    return _Entries(root, "DECA", "files with codes (.mat, .npz, .npy, .pkl)", entries, lambda path: read_deca(path, head))


def _files(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
    return found


@dataclass(frozen=True)
class _Entry:
    place: str
    """Path below the root without ending, in lower case, with a slash in front."""
    path: Path


class _Entries:
    """One file or folder per picture: DECA, EMOCA."""

    def __init__(self, root: Path, tracker: str, what: str, paths: list[Path], read: Callable[[Path], ImportedHead]) -> None:
        if not paths:
            raise DatasetError(f"{root}: has no {what}; is it a folder of results of {tracker}?")
        self._root, self._read = root, read
        self._entries = [_Entry(_place(path.relative_to(root), is_file=path.suffix.lower() in ENDINGS), path) for path in paths]
        self._by_name: dict[str, list[_Entry]] = {}
        for entry in self._entries:
            self._by_name.setdefault(_first_face(entry.place.rsplit("/", 1)[1]), []).append(entry)
        self._films: dict[str, list[_Entry]] = {}

    def find(self, name: str, index: int | None = None) -> ImportedHead | None:
        """See `HeadFiles.find`."""
        wanted = _place(Path(name), is_file=True)
        entry = self._photo(wanted) if index is None else self._frame(wanted, index)
        return None if entry is None else self._read(entry.path)

    def _photo(self, wanted: str) -> _Entry | None:
        stem = wanted.rsplit("/", 1)[1]
        found = self._by_name.get(stem, [])
        if len(found) > 1:  # a name that repeats: the one that shares the most folders
            ends = [_shared_folders(entry.place, wanted) for entry in found]
            found = [entry for entry, end in zip(found, ends, strict=True) if end == max(ends)]
        if len(found) > 1:
            shown = ", ".join(str(entry.path) for entry in found[:3])
            raise DatasetError(f"{self._root}: several results could belong to {stem} ({shown}); keep one of them.")
        return found[0] if found else None

    def _frame(self, wanted: str, index: int) -> _Entry | None:
        """Frames of a film lie in a folder of its name, or begin with its name and end with their numbers."""
        film = wanted.rsplit("/", 1)[1]
        if film not in self._films:
            numbered = re.compile(re.escape(film) + r"\D*\d+")
            mine = [
                entry
                for entry in self._entries
                if f"/{film}/" in entry.place.rsplit("/", 1)[0] + "/" or numbered.fullmatch(_first_face(entry.place.rsplit("/", 1)[1]))
            ]
            several = all(_NUMBERED_FACE.search(entry.place) for entry in mine)
            faces: dict[str, _Entry] = {}
            for entry in sorted(mine, key=lambda entry: _natural(entry.place)):
                faces.setdefault(_NUMBERED_FACE.sub("", entry.place) if several else entry.place, entry)
            self._films[film] = list(faces.values())
        frames = self._films[film]
        return frames[index] if index < len(frames) else None


class _Tracks:
    """One file per film: VHAP."""

    def __init__(self, root: Path, files: list[Path], head: HeadModel) -> None:
        self._root, self._head = root, head
        newest: dict[Path, Path] = {}
        for file in files:
            if re.fullmatch(r"tracked_flame_params.*\.npz", file.name):
                before = newest.get(file.parent)
                newest[file.parent] = file if before is None else max(before, file, key=lambda path: _natural(path.name))
        exported = [file for file in files if file.name == "transforms.json"]
        self._sources: list[tuple[str, Path]] = [(_place(file.parent.relative_to(root.parent), is_file=False), file) for file in exported]
        self._sources += [(_place(folder.relative_to(root.parent), is_file=False), file) for folder, file in sorted(newest.items())]
        self._open: dict[str, ExportedTrack | Track | None] = {}
        if not self._sources:
            raise DatasetError(f"{root}: has neither transforms.json nor tracked_flame_params_N.npz; is it a folder of results of VHAP?")

    def find(self, name: str, index: int | None = None) -> ImportedHead | None:
        """See `HeadFiles.find`."""
        film = _place(Path(name), is_file=True).rsplit("/", 1)[1]
        if film not in self._open:
            self._open[film] = self._choose(film)
        track = self._open[film]
        if track is None:
            return None
        if index is None and len(track) > 1:
            return None  # a photo is not a film
        return track.read(index or 0, self._head)

    def _choose(self, film: str) -> ExportedTrack | Track | None:
        """The source below a folder that is called like the film, or like it with something behind an underscore."""
        pattern = re.compile(rf"/{re.escape(film)}(_[^/]*)?(/|$)")
        found = [file for place, file in self._sources if pattern.search(place)]
        if not found and len(self._sources) == 1:
            found = [self._sources[0][1]]
        exported = [file for file in found if file.name == "transforms.json"]
        found = exported or found
        if len(found) > 1:
            shown = ", ".join(str(file) for file in found[:3])
            raise DatasetError(f"{self._root}: several results could belong to {film} ({shown}); keep one of them.")
        if not found:
            return None
        return ExportedTrack(found[0]) if exported else Track(found[0])


def _place(path: Path, *, is_file: bool) -> str:
    return "/" + (path.with_suffix("") if is_file else path).as_posix().lower().lstrip("/")


def _first_face(name: str) -> str:
    """EMOCA puts the number of the face behind the name: 00, or _000. The first face counts."""
    return re.sub(r"(_000|(?<=\D)00)$", "", name)


def _shared_folders(first: str, second: str) -> int:
    """How many folders in front of the name agree, counted from the name."""
    count = 0
    for one, other in zip(first.split("/")[-2::-1], second.split("/")[-2::-1], strict=False):
        if one != other:
            break
        count += 1
    return count


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts frame9 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
