"""Files that are either whole or absent, and output folders that are checked before the work begins."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnnlib.errors import UserError, WriteError

_HASH_BLOCK = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""What the operating system says when a disk, a quota or a limit is full, or a disk has become read-only."""


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
        WriteError: there is no room for the file.
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
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise WriteError(f"{target}: cannot be written ({error.strerror}); free some space or choose another folder.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


class AppendFile:
    """A file that grows by whole records, also where the disk fills up: what does not fit waits in memory for the next call.

    A reader, and a process that is killed, finds complete records only, except perhaps after a power failure.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or create the file `path`; raises WriteError if there is no room for a new one."""
        self.path = Path(path)
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be written ({error.strerror}); check its permissions and the space left.") from error
        self._end = os.lseek(self._descriptor, 0, os.SEEK_END)
        self._waiting: list[bytes] = []

    def append(self, record: bytes) -> None:
        """Write a record after all those that wait.

        Raises:
            WriteError: there is no room; the record waits.
        """
        self._waiting.append(record)
        while self._waiting:
            try:
                self._write(self._waiting[0])
            except OSError as error:
                os.ftruncate(self._descriptor, self._end)
                raise WriteError(f"{self.path}: cannot be written ({error.strerror}); free some space.") from error
            del self._waiting[0]

    def _write(self, record: bytes) -> None:
        rest = memoryview(record)
        position = self._end
        while rest:
            written = os.pwrite(self._descriptor, rest, position)
            rest, position = rest[written:], position + written
        self._end = position

    def close(self) -> None:
        """Close the file; records that still wait are lost."""
        os.close(self._descriptor)


class FolderClaim:
    """A folder that belongs to this process until it ends, however it ends: a second claim is refused.

    The operating system keeps the claim (a lock on a hidden file), children do not inherit it. File systems without locks allow everything.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Claim `folder`, which exists.

        Raises:
            UserError: another process has it.
        """
        self._path = Path(folder) / ".claim"
        self._file = open(self._path, "a")  # noqa: SIM115 (stays open)
        if os.name == "nt":
            return
        import fcntl

        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                self._file.close()
                raise UserError(f"{folder}: another process works in it; wait until it has ended, or choose another folder.") from error

    def release(self) -> None:
        """Let others have it."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Delete the temporary files of `atomic_write` that processes left in a folder when they were killed; returns their paths.

    Only for folders into which no other process writes.
    """
    found = [path for path in Path(folder).iterdir() if re.fullmatch(r"\..*\.\d+-[0-9a-f]{8}(\.\w+)?", path.name) and path.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return found


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
