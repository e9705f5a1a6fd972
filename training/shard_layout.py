"""Opens data sets in shards, from a folder or by URL: checks the index `dataset.json`, reads the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import DatasetError
from next3d.head.obj import read_topology
from training.heads import HeadSource, MeshHeads
from training.labels import INDEX_NAME, check_cameras
from training.layouts import Contents, load_heads
from training.remote import FIRST_TRIES, FileCache, is_url, read_url
from training.shards import IMAGE, LANDMARKS, MEMBERS, MESH, SAMPLES_NAME, SHARDS_FORMAT, SHARDS_VERSION, TOPOLOGY_NAME, ShardStorage

_SIGNS = ("shards", SAMPLES_NAME)
_AGAIN = "copy or make the data set again."


def find_shards(place: str, cache: FileCache, uv_mask: Path | None = None) -> Contents | None:
    """What is in a data set in shards; None if a folder is another kind of data set.

    Args:
        place: a folder or a URL.
        cache: for what comes from a URL.
        uv_mask: for data whose heads are meshes, see `open_dataset`.

    Raises:
        DatasetError: it is damaged, of a newer version, or its shards are missing.
        StorageError: the URL cannot be read.
    """
    shown = f"{place.rstrip('/')}/{INDEX_NAME}"
    if is_url(place):
        index = _parse(read_url(shown, tries=FIRST_TRIES), shown)
    else:
        path = Path(shown)
        if not path.is_file() or not any((path.parent / sign).exists() for sign in _SIGNS):
            return None  # the index of another layout may be long
        index = _parse(path.read_bytes(), shown)
        if index.get("format") != SHARDS_FORMAT:
            return None
    _check_index(index, shown)
    storage = ShardStorage(place, index, cache)
    if storage.cache is None:
        _check_files(storage)
    labels = torch.from_numpy(storage.table.labels.astype("float32"))
    check_cameras(labels, storage.table.names.tolist(), shown)
    heads: HeadSource
    if index["heads"] == "parameters":
        heads = load_heads(storage, index, storage.table.names.tolist())
    else:
        topology = read_topology(storage.read(TOPOLOGY_NAME), storage.display(TOPOLOGY_NAME), uv_mask)
        heads = MeshHeads(storage, storage.files(MESH), storage.files(LANDMARKS), topology, TOPOLOGY_NAME)
    sizes = tuple(shard.samples for shard in storage.shards)
    return Contents(storage, storage.files(IMAGE), labels, heads, index["resolution"], {}, sizes)


def _parse(data: bytes, shown: str) -> dict[str, Any]:
    try:
        index = json.loads(data)
    except ValueError as error:
        raise DatasetError(f"{shown}: is not valid JSON ({error}); {_AGAIN}") from error
    return index if isinstance(index, dict) else {}


def _check_index(index: dict[str, Any], shown: str) -> None:
    """Make sure that everything that we use is there and of the right type."""
    version = index.get("format_version")
    if index.get("format") != SHARDS_FORMAT or not isinstance(version, int):
        raise DatasetError(
            f"{shown}: is not the index of a data set in shards (format '{SHARDS_FORMAT}'); make one with 'next3d data shard'."
        )
    if version > SHARDS_VERSION:
        raise DatasetError(f"{shown}: has format_version {version}, this program reads up to {SHARDS_VERSION}; update next3d.")
    if not _is_count(index.get("resolution"), 1):
        raise DatasetError(f"{shown}: the entry 'resolution' must be the side length of the images in pixels; {_AGAIN}")
    if index.get("heads") not in MEMBERS:
        raise DatasetError(f"{shown}: the entry 'heads' must be {' or '.join(MEMBERS)}; {_AGAIN}")
    types = index.get("image_types")
    if not isinstance(types, list) or not all(isinstance(suffix, str) and suffix.startswith(".") for suffix in types):
        raise DatasetError(f"{shown}: the entry 'image_types' must be a list of file name endings; {_AGAIN}")
    for entry, counted in (("shards", True), ("tables", False)):
        rows = index.get(entry)
        if not isinstance(rows, list) or not rows or not all(_is_file(row, counted) for row in rows):
            fields = "name, samples, bytes and sha256" if counted else "name, bytes and sha256"
            raise DatasetError(f"{shown}: the entry '{entry}' must be a list of files with {fields}; {_AGAIN}")


def _is_file(row: Any, counted: bool) -> bool:
    """Whether this describes a file inside the data set."""
    if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not isinstance(row.get("sha256"), str):
        return False
    inside = not row["name"].startswith("/") and ".." not in row["name"].split("/")
    plain = len(row["sha256"]) == 64 and row["sha256"].isalnum()  # becomes the name of a file in the cache
    return inside and plain and _is_count(row.get("bytes"), 0) and (not counted or _is_count(row.get("samples"), 1))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_files(storage: ShardStorage) -> None:
    """All shards of a local data set are there, and as long as they should be."""
    for shard in storage.shards:
        path = Path(storage.address(shard.name))
        if not path.is_file():
            raise DatasetError(f"{path}: does not exist, but {INDEX_NAME} lists it; copy the data set again.")
        if path.stat().st_size != shard.size:
            raise DatasetError(f"{path}: has {path.stat().st_size} bytes, but {INDEX_NAME} says {shard.size}; copy it again.")
