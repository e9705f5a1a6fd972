"""Files that are either whole or absent, and output folders that are checked before the work begins."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnnlib.errors import UserError

_HASH_BLOCK = 1 << 20


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file that appears complete or not at all.

    Yields the path of a temporary file in the same folder (hidden, same suffix, not yet there) to be written by any means and
    closed. On a clean exit it is flushed to disk and renamed to `path`; on an exception, `KeyboardInterrupt` included, it is removed
    and an older file at `path` stays as it was. Missing parent folders are created.

    Example:
        with atomic_write("out/a.json") as temporary:
            temporary.write_text("{}")

    Raises:
        UserError: the folder cannot be created or written to.
        FileNotFoundError: the body left without writing anything.
    """
    target = Path(path)
    folder = make_output_folder(target.parent)
    if target.is_dir():
        raise UserError(f"{target}: is a folder, expected the name of a file; give another name or remove the folder.")
    temporary = folder / f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
        _flush(folder)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Make the operating system put a file, or the names in a folder, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_output_folder(path: str | os.PathLike[str]) -> Path:
    """Make sure that files could be written below `path`, without creating anything.

    Raises:
        UserError: something on the way is a file, or the first folder that exists cannot be written to.
    """
    folder = Path(path)
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{folder}: cannot be an output folder because {existing} is not a folder; choose another one.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: no permission to write in {existing}; choose another output folder.")
    return folder


def make_output_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder `path` where it is missing and make sure that it can be written to.

    Raises:
        UserError: it cannot be created or written to.
    """
    folder = check_output_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the output folder cannot be created ({error.strerror}); choose another one.") from error
    return folder


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits; reads in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
