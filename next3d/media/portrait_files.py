"""Writes data sets in the format "next3d-portraits" (docs/formats.md): a folder or a zip, whole or not at all, same input → same bytes."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from dnnlib.errors import UserError
from dnnlib.files import atomic_write, make_output_folder

FORMAT = "next3d-portraits"
FORMAT_VERSION = 1
COMPRESSION = 3
"""Of PNGs, 0 to 9: a twelfth larger than 6 makes them, in half the time."""
_FOLDER_SIZE = 1000
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class EncodedPortrait:
    """One sample, ready to be written."""

    files: Mapping[str, bytes]
    """`images`, `segmentation`, `depth` and, on request, `normals` → PNG."""
    label: npt.NDArray[np.float32]
    """[25] camera label."""
    head: Mapping[str, npt.NDArray[np.float32]]
    """Head parameters without batch dimension."""
    landmarks: Mapping[str, npt.NDArray[np.float32]]
    """`landmarks_2d` [68, 2] and `landmarks_3d` [68, 3]; on request `dense_2d` [478, 2] and `dense_3d` [478, 3]."""
    identity: int = 0
    """Equal for images of one person."""
    name: str = ""
    """Below each kind's folder, without suffix; "" for the usual one."""


def png_bytes(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """A PNG of a picture [H, W] or [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def image_name(index: int) -> str:
    """`00000/img00000000.png`: the usual name of sample `index` below each kind's folder."""
    return f"{index // _FOLDER_SIZE:05d}/img{index:08d}.png"


class Sink(Protocol):
    """Something that takes named files."""

    def put(self, name: str, content: bytes) -> None:
        """Store one file."""


@dataclass(frozen=True)
class _FolderSink:
    root: Path

    def put(self, name: str, content: bytes) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


@dataclass(frozen=True)
class _ZipSink:
    archive: zipfile.ZipFile

    def put(self, name: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(name, date_time=_ZIP_DATE)
        entry.external_attr = 0o644 << 16
        entry.create_system = 3  # the same bytes whatever system writes them
        self.archive.writestr(entry, content)


@contextmanager
def open_sink(target: Path, *, force: bool = False) -> Iterator[Sink]:
    """A place for files that becomes `target` when the block ends well, and vanishes when it does not.

    Args:
        target: a name ending in `.zip` makes a zip (stored, not compressed: PNGs already are), any other a folder.
        force: replace what is already there, once everything is written.

    Raises:
        UserError: `target` exists and `force` is off, or its folder cannot be written to.
    """
    check_target(target, force=force)
    if target.suffix.lower() == ".zip":
        with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            yield _ZipSink(archive)
    else:
        with atomic_folder(target) as temporary:
            yield _FolderSink(temporary)


def check_target(target: Path, *, force: bool) -> None:
    """Refuse, before any work, a target that must not or cannot be written.

    Raises:
        UserError: it exists and `force` is off; it is a folder and a zip is wanted (or the other way round); no permission.
    """
    wants_zip = target.suffix.lower() == ".zip"
    if target.is_dir() == wants_zip and target.exists():
        raise UserError(f"{target}: is a {'folder' if wants_zip else 'file'}, expected to write a {'zip file' if wants_zip else 'folder'}.")
    occupied = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if occupied and not force:
        raise UserError(f"{target}: already exists; choose another name or replace it with --force.")
    if target.is_dir() and occupied and not (target / "dataset.json").is_file():
        raise UserError(f"{target}: is not empty and not a data set; remove it yourself or choose another name.")
    make_output_folder(target.parent)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A hidden sibling folder that is renamed to `target` at the end; an older `target` is there until then."""
    temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        temporary.mkdir()
        yield temporary
        if target.is_dir():
            os.replace(target, old)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(old, ignore_errors=True)


@dataclass
class PortraitWriter:
    """Streams portraits into a sink; memory grows by the few numbers of each sample, not by its pixels."""

    sink: Sink
    resolution: int
    head_identifier: str
    head_fingerprint: str
    notes: Mapping[str, object] = field(default_factory=dict)
    """Further entries of the description."""
    _labels: list[tuple[str, list[float]]] = field(default_factory=list)
    _heads: list[Mapping[str, npt.NDArray[np.float32]]] = field(default_factory=list)
    _landmarks: list[Mapping[str, npt.NDArray[np.float32]]] = field(default_factory=list)
    _identities: list[int] = field(default_factory=list)

    def add(self, portrait: EncodedPortrait) -> None:
        """Write the next sample's images and remember its numbers."""
        name = f"{portrait.name}.png" if portrait.name else image_name(len(self._labels))
        for kind, content in portrait.files.items():
            self.sink.put(f"{kind}/{name}", content)
        self._labels.append((f"images/{name}", [float(value) for value in portrait.label]))
        self._heads.append(portrait.head)
        self._landmarks.append(portrait.landmarks)
        self._identities.append(portrait.identity)

    def finish(self) -> None:
        """Write the tables: head parameters, landmarks and, last, the description of the whole."""
        names = np.array([name for name, _ in self._labels])
        identity = np.array(self._identities, dtype=np.int32)
        self.sink.put("heads.npz", npz_bytes({"names": names, "identity": identity, **_stacked(self._heads)}))
        self.sink.put("landmarks.npz", npz_bytes(_stacked(self._landmarks)))
        description = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "resolution": self.resolution,
            "head": {"id": self.head_identifier, "fingerprint": self.head_fingerprint},
            **self.notes,
            "labels": self._labels,
        }
        self.sink.put("dataset.json", json.dumps(description, allow_nan=False).encode())


def _stacked(rows: list[Mapping[str, npt.NDArray[np.float32]]]) -> dict[str, npt.NDArray[np.float32]]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def npz_bytes(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """An npz file with fixed dates (numpy's own writer leaves that to the version of Python)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        sink = _ZipSink(archive)
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            sink.put(f"{name}.npy", content.getvalue())
    return buffer.getvalue()
