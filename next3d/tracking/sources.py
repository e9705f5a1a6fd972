"""Where photos and films come from: a file, a folder with all its folders, a zip, or a list file, as items with names that stay."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from dnnlib.errors import UserError
from next3d.tracking.films import FILM_SUFFIXES
from next3d.tracking.read import PHOTO_SUFFIXES, Photo, decode_photo, printable, read_noted

Kind = Literal["photo", "film"]


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
    """Everything that looks like a photo or a film, by name, in a fixed order.

    Args:
        path: a photo, a film, a folder, a `.zip`, or a `.txt` with one path per line.

    Raises:
        UserError: nothing is there, or nothing in it looks like a photo or film.
    """
    source = Path(path)
    if source.is_dir():
        files = sorted(file for file in source.rglob("*") if file.is_file() and not file.name.startswith("."))
        items = [_item(file.relative_to(source).as_posix(), file) for file in files if kind_of(file.name)]
    elif source.is_file():
        items = [_item(source.name, source)]
    else:
        raise UserError(f"{printable(source)}: no such file or folder.")
    if not items:
        raise UserError(f"{printable(source)}: no photos or films in it.")
    return items


def kind_of(name: str) -> Kind | None:
    """What a file is by its name."""
    suffix = PurePosixPath(name).suffix.lower()
    return "photo" if suffix in PHOTO_SUFFIXES else "film" if suffix in FILM_SUFFIXES else None


def _item(name: str, path: Path) -> Item:
    return Item(printable(name), path, kind_of(name) or "photo")


def read_item(item: Item) -> Photo:
    """The photo of an item.

    Raises:
        UserError: it cannot be read; the message begins with where it is.
    """
    if item.problem is not None:
        raise UserError(item.problem)
    if item.member is None:
        return read_noted(item.path)
    with zipfile.ZipFile(item.path) as archive, archive.open(item.member) as file:
        return decode_photo(file, f"{printable(item.path)}/{item.name}")


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """A path under which the item can be opened: its own, or a copy of what lies in a zip, removed afterwards."""
    if item.problem is not None:
        raise UserError(item.problem)
    if item.member is None:
        yield item.path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"item{PurePosixPath(item.member).suffix.lower()}"
        with zipfile.ZipFile(item.path) as archive, archive.open(item.member) as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target)
        yield copy
