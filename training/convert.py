"""Copies a data set into another container, at another resolution or in another image format.

What the heads are does not change: parameters become a data set in our own layout, meshes one in the published layout.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.errors import DatasetError, UserError
from next3d.media.portrait_files import FORMAT, FORMAT_VERSION, Sink, npz_bytes, open_sink
from training.check import Progress
from training.dataset import PortraitDataset, open_dataset
from training.heads import HEADS_NAME, MeshHeads, ParameterHeads
from training.labels import INDEX_NAME, read_index
from training.parallel import map_in_order
from training.shard_writer import head_rows
from training.storage import StorageError

ImageFormat = Literal["keep", "png", "jpg", "webp"]
LANDMARKS_NAME = "landmarks.npz"
MESHES_STAY = "Heads stay meshes: head parameters would have to be fitted to them, which this command does not do."
_TRUTH = ("segmentation", "depth", "normals")
"""Folders of images that belong to one resolution."""
_CHUNK = 32
_ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 6},
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "quality": 95},
}


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What becomes of a data set."""

    source: str
    """Anything that `open_dataset` reads."""
    resolution: int | None = None
    """Side length of the images, at most the stored one, which is the default; smaller ones are averages over boxes of pixels."""
    image_format: ImageFormat = "keep"
    """Files are copied as they are where neither this nor the resolution asks for other ones. JPEG and WebP lose a little."""


@dataclass
class ConvertReport:
    """What was written."""

    count: int = 0
    resolution: int = 0
    broken: list[str] = field(default_factory=list)
    """Samples that were left out because they cannot be read, one sentence each."""
    notes: list[str] = field(default_factory=list)
    """What did not come along, one sentence each."""


@dataclass(frozen=True)
class _Job:
    config: ConvertConfig
    first: int
    last: int


@dataclass(frozen=True)
class _Converted:
    """One sample: its files by name, or what is wrong with it."""

    row: int
    image: str
    """Name of the image."""
    files: dict[str, bytes]
    broken: str = ""


def convert_dataset(
    config: ConvertConfig, target: Path, *, workers: int = 1, force: bool = False, progress: Progress | None = None
) -> ConvertReport:
    """Write `target`, which appears when it is complete.

    Args:
        config: what to write.
        target: a name ending in `.zip` makes a zip, any other a folder.
        workers: processes.
        force: replace an existing data set.
        progress: called with the number of samples done and their total.

    Raises:
        UserError: the target exists, or cannot be written; the source is no data set; two images would get the same name.
    """
    dataset = _opened(config)
    report = ConvertReport(resolution=dataset.resolution)
    images: dict[str, int] = {}
    jobs = [_Job(config, first, min(first + _CHUNK, len(dataset))) for first in range(0, len(dataset), _CHUNK)]
    with open_sink(target, force=force) as sink:
        for part in map_in_order(_convert_rows, jobs, workers):
            for sample in part:
                if sample.broken:
                    report.broken.append(sample.broken)
                    continue
                if sample.image in images:
                    raise UserError(f"{config.source}: two of its images would be called {sample.image}; rename one of them.")
                images[sample.image] = sample.row
                for name, data in sample.files.items():
                    sink.put(name, data)
            if progress is not None:
                progress(len(images) + len(report.broken), len(dataset))
        if not images:
            raise DatasetError(f"{config.source}: none of its samples can be read, for example: {report.broken[0]}")
        _write_tables(sink, dataset, images, report)
    report.count = len(images)
    return report


@lru_cache(maxsize=1)
def _opened(config: ConvertConfig) -> PortraitDataset:
    """One data set per process."""
    return open_dataset(config.source, config.resolution)


def _convert_rows(job: _Job) -> list[_Converted]:
    """Some samples."""
    dataset = _opened(job.config)
    dataset.bring(range(job.first, job.last))
    found = []
    for row in range(job.first, job.last):
        try:
            found.append(_convert(dataset, row, job.config.image_format))
        except StorageError:
            raise
        except DatasetError as error:
            found.append(_Converted(row, "", {}, str(error)))
    return found


def _convert(dataset: PortraitDataset, row: int, wanted: ImageFormat) -> _Converted:
    """One sample; it is decoded in any case, to find out whether it is sound."""
    sample = dataset[row]
    contents = dataset.contents
    before = dataset.original_name(row)
    suffix = Path(dataset.names[row]).suffix.lower()
    same = dataset.resolution == dataset.stored_resolution and (wanted == "keep" or f".{wanted}" == suffix.replace("jpeg", "jpg"))
    ending = suffix if same or wanted == "keep" else f".{wanted}"
    data = contents.storage.read(dataset.names[row]) if same else _encode(sample.pixels, ending)
    stem = before.rpartition("/")[2].rpartition(".")[0]
    folder = before.removesuffix(before.rpartition("/")[2]).partition("/")[2]
    if isinstance(contents.heads, MeshHeads):
        number = f"{dataset.resolution}x{dataset.resolution}"
        image = f"images{number}/{folder}{stem}{ending}"
        mesh, landmarks = contents.heads.meshes[row], contents.heads.landmarks[row]
        files = {f"meshes{number}/{folder}{stem}.obj": contents.storage.read(mesh)}
        files[f"lms{number}/{folder}{stem}.txt"] = contents.storage.read(landmarks)
        return _Converted(row, image, {image: data, **files})
    image = f"images/{folder}{stem}{ending}"
    files = {image: data}
    if dataset.resolution == dataset.stored_resolution:
        for kind in _TRUTH:
            name = f"{kind}/{folder}{stem}.png"
            if name in contents.storage:
                files[name] = contents.storage.read(name)
    return _Converted(row, image, files)


def _encode(pixels: NDArray[np.uint8], ending: str) -> bytes:
    """Pixels [H, H, 3] to a file."""
    buffer = io.BytesIO()
    settings = _ENCODINGS["jpg" if ending == ".jpeg" else ending[1:]]
    Image.fromarray(pixels).save(buffer, **settings)
    return buffer.getvalue()


def _write_tables(sink: Sink, dataset: PortraitDataset, images: dict[str, int], report: ConvertReport) -> None:
    """Labels, heads and, last, the index."""
    names, rows = list(images), list(images.values())
    heads = dataset.contents.heads
    numbers = dataset.labels[rows].tolist()
    if not isinstance(heads, ParameterHeads):
        folder = names[0].partition("/")[0]
        labels = [[name.partition("/")[2], label] for name, label in zip(names, numbers, strict=True)]
        sink.put(f"{folder}/{INDEX_NAME}", json.dumps({"labels": labels}, allow_nan=False).encode())
        report.notes.append(MESHES_STAY)
        return
    sink.put(HEADS_NAME, npz_bytes({"names": np.array(names), **head_rows(heads, rows)}))
    description: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "resolution": dataset.resolution,
        "head": {"id": heads.model.identifier, "fingerprint": heads.model.fingerprint()},
    }
    description |= _write_truth(sink, dataset, rows, report)
    description["labels"] = [[name, label] for name, label in zip(names, numbers, strict=True)]
    sink.put(INDEX_NAME, json.dumps(description, allow_nan=False).encode())


def _write_truth(sink: Sink, dataset: PortraitDataset, rows: list[int], report: ConvertReport) -> dict[str, Any]:
    """Landmarks, and what the index says about truth; shards have none."""
    storage = dataset.contents.storage
    if dataset.shards is not None:
        return {}
    same = dataset.resolution == dataset.stored_resolution
    if LANDMARKS_NAME in storage:
        with np.load(io.BytesIO(storage.read(LANDMARKS_NAME)), allow_pickle=False) as table:
            fields = {name: table[name][rows] for name in table.files}
        scale = np.float32(dataset.resolution / dataset.stored_resolution)
        sink.put(LANDMARKS_NAME, npz_bytes({name: value * scale if name.endswith("_2d") else value for name, value in fields.items()}))
    if not same and any(name.startswith(_TRUTH) for name in storage.names):
        report.notes.append("Segmentation, depth and normals belong to the old resolution and were left out.")
    kept = ("segmentation_classes", "depth_unit", "video") if same else ("video",)
    index = read_index(storage, INDEX_NAME)
    return {name: index[name] for name in kept if name in index}
