"""Writes data sets in shards, format "next3d-shards" (docs/formats.md): whole or not at all, same input → same bytes."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnnlib.errors import DatasetError, UserError
from dnnlib.files import sha256
from next3d.head.model import HeadParams
from next3d.media.portrait_files import atomic_folder, check_target, npz_bytes
from training.dataset import PortraitDataset, open_dataset
from training.heads import MeshHeads, ParameterHeads
from training.labels import INDEX_NAME
from training.parallel import map_in_order
from training.randomness import Draws
from training.shards import (
    IMAGE,
    LANDMARKS,
    MEMBERS,
    MESH,
    SAMPLES_NAME,
    SHARDS_FORMAT,
    SHARDS_VERSION,
    SUFFIXES,
    TOPOLOGY_NAME,
    sample_key,
)
from training.storage import StorageError

_SIZE_PROBES = 64
_TAR_BLOCK = 512
_JSON_GUESS = 4096
Progress = Callable[[int, int], None]
"""Receives the number of samples done and their total."""


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How a data set is cut."""

    source: str
    """Any data set that `open_dataset` reads."""
    seed: int = 0
    """Key of the shuffle."""
    shard_bytes: int = 256_000_000
    """About the size of a shard."""
    keep_last: int = 0
    """The last samples stay the last ones, in order: what `--holdout` leaves out."""


@dataclass
class ShardReport:
    """What was written."""

    samples: int = 0
    shards: int = 0
    size: int = 0
    """Bytes of all shards."""
    broken: list[str] = field(default_factory=list)
    """Samples that were left out because they cannot be read, one sentence each."""


@dataclass
class _Written:
    """One shard on the disk."""

    entry: dict[str, Any]
    """For the index."""
    rows: list[int]
    """Rows of the source."""
    suffixes: list[str]
    """Of the images."""
    places: list[list[tuple[int, int, int]]]
    """Offset, size and CRC-32 of each file of each sample."""
    broken: list[str]


@dataclass(frozen=True)
class _Job:
    """What to write where; sent to other processes."""

    config: ShardConfig
    folder: Path
    number: int
    rows: tuple[int, ...]


def write_shards(
    config: ShardConfig, target: Path, *, workers: int = 1, force: bool = False, progress: Progress | None = None
) -> ShardReport:
    """Shuffle a data set and write it as shards into the folder `target`, which appears when it is complete.

    Args:
        config: what to write.
        target: a folder.
        workers: processes.
        force: replace an existing data set.
        progress: called after every shard.

    Raises:
        UserError: the target exists, or cannot be written; the source is no data set, or a shard would be empty.
    """
    if target.suffix.lower() == ".zip":
        raise UserError(f"{target}: shards are written into a folder; give a name without .zip.")
    check_target(target, force=force)
    dataset = _opened(config.source)
    report = ShardReport()
    with atomic_folder(target) as folder:
        (folder / "shards").mkdir()
        jobs = [_Job(config, folder, number, rows) for number, rows in enumerate(_plan(dataset, config))]
        written = []
        for shard in map_in_order(_write_shard, jobs, workers):
            written.append(shard)
            report.broken += shard.broken
            report.samples += len(shard.rows)
            report.size += shard.entry["bytes"]
            if progress is not None:
                progress(report.samples + len(report.broken), len(dataset))
        report.shards = len(written)
        _write_tables(folder, dataset, config, written)
    return report


@lru_cache(maxsize=1)
def _opened(source: str) -> PortraitDataset:
    """One data set per process."""
    return open_dataset(source)


def _plan(dataset: PortraitDataset, config: ShardConfig) -> list[tuple[int, ...]]:
    """Rows of each shard: shuffled, equally many (±1) in each."""
    count = len(dataset)
    if config.keep_last > count:
        raise UserError(
            f"{dataset.path}: {count} images, of which the last {config.keep_last} are to keep their places; give a smaller number."
        )
    shuffled = count - config.keep_last
    order = [*Draws(config.seed).permutation("order of shards", 0, shuffled).tolist(), *range(shuffled, count)]
    probes = range(0, count, -(-count // _SIZE_PROBES))
    sizes = []
    for row in probes:
        try:
            files = _files(dataset, row)
        except DatasetError:
            continue  # it will be reported when it is written
        sizes.append(sum(len(data) + 2 * _TAR_BLOCK for data in files.values()) + _JSON_GUESS)
    if not sizes:
        raise DatasetError(f"{config.source}: none of the first samples can be read; 'next3d data check' says why.")
    per_shard = max(1, int(config.shard_bytes / np.mean(sizes)))
    return [tuple(int(row) for row in rows) for rows in np.array_split(order, -(-count // per_shard))]


def _files(dataset: PortraitDataset, row: int) -> dict[str, bytes]:
    """The files of a sample by what they are, as they lie in the source."""
    contents = dataset.contents
    names = {IMAGE: contents.images[row]}
    if isinstance(contents.heads, MeshHeads):
        names |= {MESH: contents.heads.meshes[row], LANDMARKS: contents.heads.landmarks[row]}
    return {member: contents.storage.read(name) for member, name in names.items()}


def _write_shard(job: _Job) -> _Written:
    """Write one tar file."""
    dataset = _opened(job.config.source)
    name = f"shards/{job.number:06d}.tar"
    path = job.folder / name
    shard = _Written({}, [], [], [], [])
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for row in job.rows:
            try:
                dataset[row]  # a shard must not hold what cannot be read
                files = _files(dataset, row)
            except StorageError:
                raise
            except DatasetError as error:
                shard.broken.append(str(error))
                continue
            key = sample_key(job.number, len(shard.rows))
            image = Path(dataset.names[row]).suffix.lower()
            put = partial(_put, archive)
            shard.places.append([put(key + (image if member == IMAGE else SUFFIXES[member]), data) for member, data in files.items()])
            put(f"{key}.json", json.dumps(_description(dataset, row), allow_nan=False).encode())
            shard.rows.append(row)
            shard.suffixes.append(image)
    if not shard.rows:
        raise DatasetError(f"{job.config.source}: a whole shard of samples cannot be read, for example: {shard.broken[0]}")
    shard.entry |= {"name": name, "samples": len(shard.rows), "bytes": path.stat().st_size, "sha256": sha256(path)}
    return shard


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int, int]:
    """Add a file; where its bytes begin, how many they are, and their CRC-32."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    start = archive.fileobj.tell() + _TAR_BLOCK
    archive.addfile(info, io.BytesIO(data))
    return start, len(data), zlib.crc32(data)


def _description(dataset: PortraitDataset, row: int) -> dict[str, Any]:
    """What a sample's JSON file says: enough to use a shard alone."""
    found: dict[str, Any] = {"name": dataset.original_name(row), "label": dataset.labels[row].tolist()}
    heads = dataset.contents.heads
    if isinstance(heads, ParameterHeads):
        found["head"] = {name: value[0].tolist() for name, value in vars(heads.read(row)).items()}
    if heads.identities is not None:
        found["identity"] = int(heads.identities[row])
    return found


def _write_tables(folder: Path, dataset: PortraitDataset, config: ShardConfig, written: list[_Written]) -> None:
    """The tables, and last the index."""
    rows = [row for shard in written for row in shard.rows]
    suffixes = [suffix for shard in written for suffix in shard.suffixes]
    types = sorted(set(suffixes))
    places = np.array([place for shard in written for place in shard.places], dtype=np.int64)  # [N, K, 3]
    names = np.array([dataset.original_name(row) for row in rows])
    samples = {
        "names": names,
        "labels": dataset.labels[rows].numpy().astype(np.float32),
        "image_type": np.array([types.index(suffix) for suffix in suffixes], dtype=np.uint8),
        "offset": places[..., 0],
        "size": places[..., 1],
        "crc32": places[..., 2].astype(np.uint32),
    }
    tables = {SAMPLES_NAME: npz_bytes(samples)}
    heads = dataset.contents.heads
    if isinstance(heads, ParameterHeads):
        tables["heads.npz"] = npz_bytes({"names": names, **head_rows(heads, rows)})
        head = {"id": heads.model.identifier, "fingerprint": heads.model.fingerprint()}
    else:
        assert isinstance(heads, MeshHeads)  # there are no others
        tables[TOPOLOGY_NAME] = dataset.contents.storage.read(heads.topology_name)
        head = None
    index = {
        "format": SHARDS_FORMAT,
        "format_version": SHARDS_VERSION,
        "resolution": dataset.stored_resolution,
        "samples": len(rows),
        "seed": config.seed,
        "heads": "meshes" if head is None else "parameters",
        "head": head,
        "members": list(MEMBERS["meshes" if head is None else "parameters"]),
        "image_types": types,
        "tables": [_write_table(folder / name, data) for name, data in tables.items()],
        "shards": [shard.entry for shard in written],
    }
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _write_table(path: Path, data: bytes) -> dict[str, Any]:
    path.write_bytes(data)
    return {"name": path.name, "bytes": len(data), "sha256": sha256(path)}


def head_rows(heads: ParameterHeads, rows: list[int]) -> dict[str, NDArray[Any]]:
    """Columns of `heads.npz`."""
    some = heads.rows(torch.tensor(rows))
    params: HeadParams = some.params
    found: dict[str, NDArray[Any]] = {name: value.numpy().astype(np.float32) for name, value in vars(params).items()}
    if some.identities is not None:
        found["identity"] = some.identities.numpy().astype(np.int32)
    return found
