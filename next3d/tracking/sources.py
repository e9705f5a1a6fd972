"""Where photos and films come from: a file, a folder with all its folders, a zip, or a list file, as items with names that stay.

Nothing is opened to make the list, so a broken file is found only when it is read; what is known to be unreadable (a link to nowhere, an
encrypted member of a zip) is an item, too, so that it turns up in reports.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from dnnlib.errors import UserError
from next3d.tracking.films import FILM_SUFFIXES
from next3d.tracking.read import PHOTO_SUFFIXES, Photo, decode_photo, printable, read_noted

Kind = Literal["photo", "film"]

_LARGEST_MEMBER = 1 << 30
"""Bytes of a photo in a zip; larger ones cannot be meant."""
_UNUSED = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
"""Folders in which operating systems keep what is theirs."""
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)


@dataclass(frozen=True)
class Item:
    """One photo or film to look at."""

    name: str
    """Unique among the items of a source, with suffix and "/" between folders; the same on every run."""
    path: Path
    """The file, or the zip that holds it."""
    kind: Kind
    member: str | None = None
    """Name inside the zip."""
    problem: str | None = None
    """Why it cannot be read, where that is known beforehand; reading raises it."""


def find_items(path: str | Path) -> list[Item]:
    """Everything that looks like a photo or a film by its name, in a fixed order. Hidden files are left out.

    Args:
        path: a photo, a film, a folder, a `.zip`, or a `.txt` with one path per line.

    Raises:
        UserError: nothing is there, or nothing in it looks like a photo or film.
    """
    source = Path(path)
    if source.is_dir():
        items = list(_in_folder(source, ""))
    elif not source.is_file():
        raise UserError(f"{printable(source)}: no such file or folder; expected photos, films, a folder, a .zip or a .txt with paths.")
    elif source.suffix.lower() == ".zip":
        items = list(_in_zip(source))
    elif source.suffix.lower() == ".txt":
        items = list(_in_list(source))
    elif kind := kind_of(source.name):
        items = [Item(printable(source.name), source, kind)]
    else:
        raise UserError(f"{printable(source)}: its name is not that of a photo, a film, a .zip or a .txt with paths.")
    if not items:
        raise UserError(f"{printable(source)}: no photos or films in it (known by their names: .jpg, .png, .mp4 …).")
    return _unique(items)


def kind_of(name: str) -> Kind | None:
    """What a file is by its name."""
    suffix = PurePosixPath(name).suffix.lower()
    return "photo" if suffix in PHOTO_SUFFIXES else "film" if suffix in FILM_SUFFIXES else None


def read_item(item: Item) -> Photo:
    """The photo of an item.

    Raises:
        UserError: it cannot be read; the message begins with where it is.
    """
    _check(item)
    if item.member is None:
        return read_noted(item.path)
    with _member(item) as (file, size):
        data = file.read(min(size, _LARGEST_MEMBER))
    return decode_photo(io.BytesIO(data), _shown(item))


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """A path under which the item can be opened: its own, or a copy of what lies in a zip, removed afterwards.

    Raises:
        UserError: it cannot be read.
    """
    _check(item)
    if item.member is None:
        yield item.path
        return
    with tempfile.TemporaryDirectory(prefix="next3d-") as folder:
        copy = Path(folder) / f"item{PurePosixPath(item.name).suffix.lower()}"
        with _member(item) as (file, _), open(copy, "wb") as target:
            shutil.copyfileobj(file, target)
        try:
            yield copy
        except UserError as error:
            raise UserError(str(error).replace(printable(copy), _shown(item))) from error


def told(item: Item, error: UserError) -> str:
    """What an error says of an item, the same wherever the files lie: with its name in place of its path."""
    return str(error).replace(_shown(item), item.name)


def _shown(item: Item) -> str:
    """Where an item is, as messages have it."""
    return printable(item.path) if item.member is None else f"{printable(item.path)}/{item.name}"


def _check(item: Item) -> None:
    if item.problem is not None:
        raise UserError(item.problem)


@contextmanager
def _member(item: Item) -> Iterator[tuple[IO[bytes], int]]:
    """An open member of a zip and its size."""
    assert item.member is not None  # callers looked
    try:
        with zipfile.ZipFile(item.path) as archive, archive.open(item.member) as file:
            yield file, archive.getinfo(item.member).file_size
    except (*_BROKEN_ZIP, KeyError) as error:
        raise UserError(f"{_shown(item)}: cannot be unpacked ({' '.join(str(error).split())[:100]}); make the zip again.") from error


def _in_folder(folder: Path, prefix: str) -> Iterator[Item]:
    """Items below a folder by name; folders that links lead back to are entered once."""
    entered: set[str] = set()
    problems: list[Item] = []

    def report(error: OSError) -> None:
        where = Path(str(error.filename))
        name = _name(prefix, where.relative_to(folder))
        problems.append(Item(name, where, "photo", problem=f"{printable(where)}: the folder cannot be read ({error.strerror})."))

    for place, folders, files in os.walk(folder, followlinks=True, onerror=report):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _UNUSED)
        for name in sorted(files):
            if not name.startswith(".") and (item := _file(Path(place, name), _name(prefix, Path(place, name).relative_to(folder)))):
                yield item
    yield from problems


def _name(prefix: str, path: Path) -> str:
    return printable("/".join(part for part in (prefix, path.as_posix()) if part not in ("", ".")))


def _file(path: Path, name: str) -> Item | None:
    """A file as an item, if it looks like one; pipes and devices do not."""
    kind = kind_of(path.name)
    if kind is None or (path.exists() and not path.is_file()):
        return None
    problem = None if path.exists() else f"{printable(path)}: a link that leads nowhere; copy the file itself."
    return Item(name, path, kind, problem=problem)


def _in_list(path: Path) -> Iterator[Item]:
    """What a text file names, one path per line, relative to the file's folder; lines that begin with # are left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{printable(path)}: cannot be read ({error.strerror}).") from error
    if "\0" in text:
        raise UserError(f"{printable(path)}: not a text file; expected one path per line.")
    for line in text.splitlines():
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        target = path.parent / Path(entry).expanduser()
        name = _safe(Path(entry).as_posix())
        if target.is_dir():
            yield from _in_folder(target, name)
        elif target.is_file():
            yield Item(name, target, kind_of(target.name) or "photo")  # named by a person: reading it says what is wrong
        else:
            yield Item(name, target, kind_of(target.name) or "photo", problem=f"{printable(target)}: no such file (named in {path.name}).")


def _in_zip(path: Path) -> Iterator[Item]:
    """Members of a zip by name. Their names are never used as paths."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (*_BROKEN_ZIP,) as error:
        raise UserError(f"{printable(path)}: not a zip, or cut off ({' '.join(str(error).split())[:100]}); copy it again.") from error
    for member in sorted(members, key=lambda member: member.filename):
        name = _safe(member.filename)
        parts = PurePosixPath(name).parts
        kind = kind_of(name)
        if member.is_dir() or kind is None or any(part.startswith(".") or part in _UNUSED for part in parts):
            continue
        problem = None
        if member.flag_bits & 1:
            problem = f"{printable(path)}/{name}: encrypted; unpack the zip with its password and give the folder."
        elif kind == "photo" and member.file_size > _LARGEST_MEMBER:
            problem = f"{printable(path)}/{name}: {member.file_size / 1e9:.1f} GB are too many for a photo."
        yield Item(name, path, kind, member.filename, problem)


def _safe(name: str) -> str:
    """A name without drives, roots and steps upwards."""
    parts = name.replace("\\", "/").split("/")
    kept = [part.replace(":", "_") for part in parts if part not in ("", ".", "..", "~")]
    return printable("/".join(kept)) or "unnamed"


def _unique(items: Iterable[Item]) -> list[Item]:
    """Names that came twice get a number."""
    seen: dict[str, int] = {}
    kept = []
    for item in items:
        name = item.name
        while name in seen:
            seen[item.name] += 1
            path = PurePosixPath(item.name)
            name = str(path.with_name(f"{path.stem} ({seen[item.name]}){path.suffix}"))
        seen[name] = 1
        kept.append(replace(item, name=name))
    return kept
