"""Published files that a command needs: found in a cache, checked against their checksum, fetched only when asked to.

The cache is the folder in NEXT3D_CACHE, or `next3d` in the platform's own cache folder. A file appears there under its final name only
when it is whole and its checksum is right.
"""

from __future__ import annotations

import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dnnlib.errors import UserError
from dnnlib.files import atomic_write, sha256

CACHE_VARIABLE = "NEXT3D_CACHE"
_BLOCK = 1 << 20
_PATIENCE = 60
"""Seconds without an answer after which a download is given up."""


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file that others publish."""

    title: str
    """What messages call it."""
    name: str
    """Its name in the cache."""
    sha256: str
    """Its checksum, 64 hexadecimal digits, or as many of the first ones as its publisher gives."""
    url: str
    size: str
    """For people: "95 MB"."""
    option: str
    """The option that takes it from elsewhere."""
    command: str
    """The command whose `--download` fetches it."""


def cache_folder(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """Where published files are kept; nothing is created.

    Args:
        environment: variables, by default the process's own.
        platform: as `sys.platform`.
    """
    found = os.environ if environment is None else environment
    if chosen := found.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    if platform == "win32":
        base = Path(found.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(found.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "next3d"


def find_published(
    file: PublishedFile, *, download: bool = False, folder: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> Path:
    """The path of a published file in the cache.

    Args:
        file: which one.
        download: fetch it if it is not there.
        folder: the cache; None is `cache_folder()`.
        say: told before a download begins.

    Raises:
        UserError: it is not there, the one that is there is another file, or it could not be fetched.
    """
    path = (folder or cache_folder()) / file.name
    if path.is_file():
        if not sha256(path).startswith(file.sha256):
            raise UserError(f"{path}: is not {file.title}, its SHA-256 should begin with {file.sha256}; delete it and fetch it again.")
        return path
    if not download:
        raise UserError(
            f"{path}: {file.title} is not there; let '{file.command} --download' fetch it ({file.size} from {file.url}), "
            f"put it there yourself, or give a copy with {file.option}."
        )
    say(f"Fetching {file.title}, {file.size}, from {file.url}")
    with atomic_write(path) as temporary:
        _fetch(file, temporary)
        if not sha256(temporary).startswith(file.sha256):
            raise UserError(
                f"{file.url}: what came is not {file.title}, its SHA-256 should begin with {file.sha256}; "
                f"fetch it by other means and give it with {file.option}."
            )
    return path


def _fetch(file: PublishedFile, target: Path) -> None:
    """Download to `target`, which may be left incomplete."""
    advice = f"try again, or fetch it by other means and give it with {file.option}."
    try:
        with urllib.request.urlopen(file.url, timeout=_PATIENCE) as answer, open(target, "wb") as out:
            announced = answer.headers.get("Content-Length")
            received = _copy(answer, out)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        # What the server says ("HTTP Error 404: Not Found"), or what stood in the way of asking it.
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
        raise UserError(f"{file.url}: cannot be fetched ({reason}); {advice}") from error
    if announced is not None and received != int(announced):
        raise UserError(f"{file.url}: the download broke off after {received} of {announced} bytes; {advice}")


def _copy(source: IO[bytes], target: IO[bytes]) -> int:
    """All bytes of a stream; returns how many."""
    count = 0
    while block := source.read(_BLOCK):
        target.write(block)
        count += len(block)
    return count
