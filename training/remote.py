"""Files behind URLs: whole ones into a bounded cache folder, parts of them by range.

https:// and http:// go through the standard library, file:// through the file system; everything else (s3://, gs://, az://, …) through
fsspec, which comes with PyTorch and finds credentials as each provider's own tools do (packages s3fs, gcsfs, adlfs). WebDataset's
`gopen` was the other candidate: it starts curl, aws or gsutil in a shell, which must be installed, and whose failures look like short
files.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from dnnlib.files import atomic_write, make_output_folder
from training.storage import StorageError

TRIES = 8
"""Of a file in the middle of a run: about two minutes."""
FIRST_TRIES = 3
"""Of an address that may be wrong."""
PAUSE = 1.0
"""Seconds before the second try; doubled every time."""
TIMEOUT = 60.0
"""Seconds without an answer."""
DEFAULT_CACHE_GB = 64.0
_BLOCK = 1 << 20
_STALE = 24 * 3600
"""Seconds after which a temporary file belongs to nobody."""
_REFUSED = (400, 401, 403, 404, 405, 410, 416)
"""Answers that will be the same the next time."""
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether this is `scheme://…` rather than a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", os.fspath(place)) is not None


def default_cache() -> Path:
    """Where shards from URLs are kept: below `XDG_CACHE_HOME` or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "next3d" / "shards"


def read_url(url: str, start: int | None = None, stop: int | None = None, *, tries: int = TRIES) -> bytes:
    """A file's bytes, or bytes [start, stop) of it.

    Raises:
        StorageError: it cannot be reached, or is shorter.
    """

    def read() -> bytes:
        with _open(url, start, stop) as stream:
            data = stream.read() if stop is None else stream.read(stop - (start or 0))
        if stop is not None and len(data) != stop - (start or 0):
            raise OSError(f"got {len(data)} of {stop - (start or 0)} bytes")
        return data

    return _with_patience(url, read, tries)


class FileCache:
    """A folder of files that were fetched, named by their SHA-256, so that data sets share it and changed ones never mix.

    Any number of processes may use it at once: one fetches a file while the others that want it wait. The files that were not asked for
    for the longest time make room for new ones.
    """

    def __init__(self, folder: Path, limit_gb: float = DEFAULT_CACHE_GB) -> None:
        """Use `folder`, which is made when the first file is fetched, up to `limit_gb` GB (10⁹ bytes)."""
        self.folder = folder
        self.limit = int(limit_gb * 1e9)

    def find(self, sha256: str, size: int) -> Path | None:
        """The file, if it is there; it counts as asked for."""
        path = self._path(sha256)
        try:
            if path.stat().st_size != size:
                return None
            os.utime(path)
        except OSError:
            return None
        return path

    def fetch(self, url: str, sha256: str, size: int) -> Path:
        """The file, from `url` if it is not there yet.

        Raises:
            StorageError: it cannot be reached or kept, or is not what its checksum says.
        """
        found = self.find(sha256, size)
        if found is not None:
            return found
        with _locked(make_output_folder(self.folder) / f".{sha256}.lock"):
            found = self.find(sha256, size)
            if found is None:
                found = self._path(sha256)
                self._trim(size)
                _with_patience(url, lambda: self._download(url, found, sha256, size))
        return found

    def remove(self, sha256: str) -> None:
        """Forget a file, for example because it was damaged on the disk."""
        self._path(sha256).unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.cached"

    def _download(self, url: str, target: Path, sha256: str, size: int) -> None:
        digest, count = hashlib.sha256(), 0
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            with _open(url) as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    count += len(block)
                    file.write(block)
            if count != size or digest.hexdigest() != sha256:
                raise OSError(f"got {count} bytes with another checksum, expected {size} with SHA-256 {sha256[:12]}…")

    def _trim(self, room: int) -> None:
        """Remove what was not asked for for the longest time until there is `room`, and what crashed processes left."""
        kept: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except OSError:
                continue  # another process was quicker
            if path.suffix == ".cached" and not path.name.startswith("."):
                kept.append((status.st_mtime, status.st_size, path))
            elif status.st_mtime < time.time() - _STALE:
                path.unlink(missing_ok=True)
        excess = sum(size for _, size, _ in kept) + room - self.limit
        for _, size, path in sorted(kept):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)  # who has it open can still read it
            excess -= size


def _with_patience(url: str, action: Callable[[], _Result], tries: int = TRIES) -> _Result:
    """Do something that needs the network; try again a few times."""
    for attempt in range(tries):
        try:
            return action()
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError(
                    f"{url}: cannot be kept, there is no space left for it; give a lower --data-cache-gb, "
                    "or another folder with --data-cache."
                ) from error
            if _is_final(error) or attempt == tries - 1:
                raise StorageError(f"{url}: cannot be read ({reason}); check the address, your access to it and the network.") from error
            pause = PAUSE * 2**attempt
            _log.warning("%s: %s; trying again in %g s.", url, reason, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    """Whether trying again is of no use."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _REFUSED
    return isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)


def _reason(error: Exception) -> str:
    """An error on one line."""
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


@contextmanager
def _open(url: str, start: int | None = None, stop: int | None = None) -> Iterator[BinaryIO]:
    """A stream that begins at byte `start`."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        wanted = {} if start is None else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=TIMEOUT) as answer:
            if start and answer.status != 206:  # the server ignores ranges and sends everything
                _skip(answer, start)
            yield answer
        return
    with _open_file(url, scheme) as stream:
        if start:
            stream.seek(start)
        yield stream


def _open_file(url: str, scheme: str) -> Any:
    """A file that can seek: local, or whatever fsspec knows."""
    if scheme == "file":
        return open(urllib.request.url2pathname(url.partition("://")[2]), "rb")
    try:
        import fsspec

        return fsspec.open(url, "rb").open()
    except (ImportError, ValueError) as error:
        raise StorageError(
            f"{url}: addresses of this kind need another package ({error}); install s3fs for s3://, gcsfs for gs://, "
            "or give a local folder."
        ) from error


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0:
        block = stream.read(min(count, _BLOCK))
        if not block:
            raise OSError("is shorter than expected")
        count -= len(block)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only process, or thread, in here; where the system has no such locks, several may be."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
