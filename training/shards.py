"""Data sets in shards, format "next3d-shards" (docs/formats.md): tar files as WebDataset reads them, and tables beside them.

The tables say where in its shard every file begins, so that any sample can be read by itself: from a local file, from a shard that was
fetched into the cache, or, where it was not, with a request for just these bytes.
"""

from __future__ import annotations

import errno
import io
import os
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import DatasetError
from next3d.config import LABEL_SIZE
from training.remote import FileCache, is_url, read_url
from training.storage import Storage

SHARDS_FORMAT = "next3d-shards"
SHARDS_VERSION = 1
SAMPLES_NAME = "samples.npz"
TOPOLOGY_NAME = "topology.obj"
IMAGE, MESH, LANDMARKS = "image", "mesh", "landmarks"
MEMBERS = {"parameters": (IMAGE,), "meshes": (IMAGE, MESH, LANDMARKS)}
"""What a shard holds of each sample, besides its JSON file, by what its heads are."""
SUFFIXES = {MESH: ".obj", LANDMARKS: ".txt"}
_OPEN_FILES = 64


def sample_key(shard: int, place: int) -> str:
    """What a sample's files are called, without their suffixes: `000003-000123`."""
    return f"{shard:06d}-{place:06d}"


@dataclass(frozen=True)
class Shard:
    """One tar file."""

    name: str
    samples: int
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class SampleTable:
    """What `samples.npz` says about N samples with K files each."""

    names: NDArray[np.str_]
    """[N] what the images were called before."""
    labels: NDArray[np.float32]
    """[N, 25]."""
    image_type: NDArray[np.uint8]
    """[N] which of the index's `image_types`."""
    offset: NDArray[np.int64]
    """[N, K] where in the shard each file begins."""
    size: NDArray[np.int64]
    """[N, K] bytes."""
    crc32: NDArray[np.uint32]
    """[N, K]."""


class ShardStorage(Storage):
    """Tables by their names, and the files of samples by `KEY.suffix`, in a local folder or behind a URL."""

    def __init__(self, place: str, index: dict[str, Any], cache: FileCache | None) -> None:
        """Take over an index that `read_shard_index` has checked.

        Args:
            place: a folder or a URL.
            index: the content of `dataset.json`.
            cache: for shards behind URLs.
        """
        self.path = Path(place)
        self._place = place.rstrip("/")
        self.cache = cache if is_url(place) else None
        self.shards = [Shard(row["name"], row["samples"], row["bytes"], row["sha256"]) for row in index["shards"]]
        self.members: tuple[str, ...] = MEMBERS[index["heads"]]
        self.image_types: list[str] = index["image_types"]
        self.tables = {row["name"]: Shard(row["name"], 0, row["bytes"], row["sha256"]) for row in index["tables"]}
        self.names = sorted(self.tables)
        self.first = np.concatenate([[0], np.cumsum([shard.samples for shard in self.shards])])
        self._files: OrderedDict[int, int] = OrderedDict()
        self.table = _sample_table(self, int(self.first[-1]))

    @property
    def place(self) -> str:
        """The folder or the URL."""
        return self._place

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": OrderedDict()}

    def files(self, member: str) -> RowNames:
        """The images, meshes or landmarks, in the order of the samples."""
        return RowNames(self, member, range(len(self.table.names)))

    def file_name(self, row: int, member: str) -> str:
        """What `read` takes for a file of a sample."""
        shard = self.shard_of(row)
        suffix = self.image_types[self.table.image_type[row]] if member == IMAGE else SUFFIXES[member]
        return sample_key(shard, row - int(self.first[shard])) + suffix

    def read(self, name: str) -> bytes:
        """A table, or a file of a sample, checked against its checksum."""
        if name in self.tables:
            return self._read_table(self.tables[name])
        shard, row, column = self._locate(name)
        start, size, crc = (int(array[row, column]) for array in (self.table.offset, self.table.size, self.table.crc32))
        data = self._read_part(shard, start, size)
        if zlib.crc32(data) != crc and self.cache is not None:  # damaged in the cache: once more from its origin
            self._close(shard)
            self.cache.remove(self.shards[shard].sha256)
            data = read_url(self.address(self.shards[shard].name), start, start + size)
        if zlib.crc32(data) != crc:
            raise DatasetError(f"{self.display(name)}: is damaged (checksum); copy or make {self.shards[shard].name} again.")
        return data

    def shard_of(self, row: int) -> int:
        """Which shard holds a sample."""
        return int(np.searchsorted(self.first, row, side="right")) - 1

    def bring(self, shard: int) -> None:
        """Fetch a shard into the cache, if it comes from a URL and is not there.

        Raises:
            StorageError: it cannot be reached, or is not what its checksum says.
        """
        if self.cache is not None and shard not in self._files:
            self.local(shard)

    def local(self, shard: int) -> Path:
        """A shard as a file of this machine, fetched if need be.

        Raises:
            StorageError: it cannot be.
        """
        file = self.shards[shard]
        return Path(self.address(file.name)) if self.cache is None else self.cache.fetch(self.address(file.name), file.sha256, file.size)

    def address(self, name: str) -> str:
        """Path or URL of a file."""
        return f"{self.place}/{name}"

    def display(self, name: str) -> str:
        """`folder/shards/000003.tar:000003-000123.png (images/person.png)`."""
        if name in self.tables or "-" not in name:
            return self.address(name)
        shard, row, _ = self._locate(name)
        return f"{self.address(self.shards[shard].name)}:{name} ({self.table.names[row]})"

    def _locate(self, name: str) -> tuple[int, int, int]:
        """Shard, row in the tables, and column in them, of a sample's file."""
        stem, _, suffix = name.partition(".")
        shard, place = (int(part) for part in stem.split("-"))
        member = {value: key for key, value in SUFFIXES.items()}.get(f".{suffix}", IMAGE)
        return shard, int(self.first[shard]) + place, self.members.index(member)

    def _read_part(self, shard: int, start: int, size: int) -> bytes:
        """Some bytes of a shard, from wherever it is nearest."""
        file = self.shards[shard]
        try:
            return os.pread(self._open(shard), size, start)
        except OSError as error:
            if self.cache is not None:  # not fetched, or no longer there
                return read_url(self.address(file.name), start, start + size)
            raise DatasetError(f"{self.address(file.name)}: cannot be read ({error.strerror}); check the file and its disk.") from error

    def _open(self, shard: int) -> int:
        """A file descriptor; the latest ones stay open. Forked processes have copies, and positions are not used."""
        if shard not in self._files:
            file = self.shards[shard]
            path = Path(self.address(file.name)) if self.cache is None else self.cache.find(file.sha256, file.size)
            if path is None:
                raise FileNotFoundError(errno.ENOENT, "not in the cache")
            self._files[shard] = os.open(path, os.O_RDONLY)
        self._files.move_to_end(shard)
        while len(self._files) > _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return self._files[shard]

    def _close(self, shard: int) -> None:
        descriptor = self._files.pop(shard, None)
        if descriptor is not None:
            os.close(descriptor)

    def _read_table(self, table: Shard) -> bytes:
        if self.cache is not None:
            return self.cache.fetch(self.address(table.name), table.sha256, table.size).read_bytes()
        try:
            return Path(self.address(table.name)).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self.address(table.name)}: cannot be read ({error.strerror}); copy the data set again.") from error


class RowNames(Sequence[str]):
    """Names of files in shards, made when they are asked for: millions of texts would take more memory than the tables."""

    def __init__(self, storage: ShardStorage, member: str, rows: range) -> None:
        self._storage, self._member, self._rows = storage, member, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """One name, or those of a slice."""
        if isinstance(index, slice):
            return RowNames(self._storage, self._member, self._rows[index])
        return self._storage.file_name(self._rows[index], self._member)


def _sample_table(storage: ShardStorage, count: int) -> SampleTable:
    """Read and check `samples.npz`."""
    shown = storage.display(SAMPLES_NAME)
    try:
        with np.load(io.BytesIO(storage.read(SAMPLES_NAME)), allow_pickle=False) as file:
            fields = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{shown}: is not a readable NumPy archive ({error}); copy or make the data set again.") from error
    per_file = (count, len(storage.members))
    wanted = {
        "names": ((count,), "U"),
        "labels": ((count, LABEL_SIZE), "f"),
        "image_type": ((count,), "u"),
        "offset": (per_file, "iu"),
        "size": (per_file, "iu"),
        "crc32": (per_file, "u"),
    }
    for name, (shape, kind) in wanted.items():
        if name not in fields or fields[name].shape != shape or fields[name].dtype.kind not in kind:
            raise DatasetError(f"{shown}: field '{name}' is missing or not of shape {list(shape)}; copy or make the data set again.")
    if not np.isfinite(fields["labels"]).all() or (fields["image_type"] >= len(storage.image_types)).any():
        raise DatasetError(f"{shown}: labels must be finite, and every 'image_type' in the index; make the data set again.")
    return SampleTable(**{name: fields[name] for name in wanted})
