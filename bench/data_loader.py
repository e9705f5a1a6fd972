"""The data loader alone, without networks: `python -m bench.data_loader [--data PATH] [--quick] [--json FILE]`.

Images per second for each container, with and without loader processes; and memory over ten epochs, which must not grow.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import psutil
import torch

from bench.report import Report
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from training.convert import ConvertConfig, convert_dataset
from training.dataset import PortraitDataset, open_dataset
from training.loader import load_batches
from training.remote import FileCache
from training.shard_writer import ShardConfig, write_shards

NEEDED = 500
"""Images per second at 64²: twenty times what a training step of the demo preset consumes on two cores (about 25)."""
GROWTH_BAR = 32
"""MB between the second and the last epoch that count as flat: what allocators and interpreters do by themselves."""
BATCH, GROUP = 8, 4


@dataclass(frozen=True)
class LoaderRate:
    """How fast batches come."""

    first: float
    """Images per second in the first epoch, in which every image is read and decoded."""
    later: float
    """In the second one: without loader processes, what fits into memory is not decoded again."""


def loader_rate(dataset: PortraitDataset, *, workers: int, images: int | None = None, batch: int = BATCH, group: int = GROUP) -> LoaderRate:
    """Measure the loader of training with nobody to wait for.

    Args:
        dataset: what to read.
        workers: loader processes; the time they take to start is not counted.
        images: read so many per pass instead of the whole data set.
        batch: images per batch.
        group: of the minibatch standard deviation.
    """
    steps = max(2, (images or len(dataset)) // batch)
    with closing(load_batches(dataset, seed=0, start=0, size=batch, group=group, workers=workers)) as stream:
        next(stream)
        rates = []
        for _ in range(2):
            start = time.perf_counter()
            for _ in range(steps):
                next(stream)
            rates.append(steps * batch / (time.perf_counter() - start))
    return LoaderRate(*rates)


def memory_growth(dataset: PortraitDataset, *, workers: int, epochs: int) -> float:
    """MB that this process and its loader processes gain from the end of the second epoch to the end of the last."""
    steps = max(1, len(dataset) // BATCH)
    marks = []
    with closing(load_batches(dataset, seed=0, start=0, size=BATCH, group=GROUP, workers=workers)) as stream:
        for _ in range(epochs):
            for _ in range(steps):
                next(stream)
            marks.append(_resident())
    return (marks[-1] - marks[1]) / 1e6


def _resident() -> int:
    """Bytes that belong to this process and its children alone; what forks share is counted once."""
    process = psutil.Process()
    return sum(getattr(one.memory_full_info(), "uss", 0) for one in [process, *process.children(recursive=True)])


def containers(folder: Path, data: Path | None, count: int, resolution: int) -> dict[str, PortraitDataset]:
    """The same images in a zip, in a folder, in shards, and in shards behind a URL whose cache is filled while they are read."""
    if data is None:
        data = folder / "data.zip"
        write_dataset(SyntheticConfig(count=count, resolution=resolution), data)
    convert_dataset(ConvertConfig(source=str(data)), folder / "copy.zip")
    convert_dataset(ConvertConfig(source=str(data)), folder / "folder")
    write_shards(ShardConfig(source=str(data), shard_bytes=1_000_000), folder / "shards")
    return {
        "zip": open_dataset(folder / "copy.zip"),
        "folder": open_dataset(folder / "folder"),
        "shards": open_dataset(folder / "shards"),
        "url": open_dataset((folder / "shards").as_uri(), cache=FileCache(folder / "cache")),
    }


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Read this data set instead of fresh synthetic portraits.")
@click.option("--images", type=click.IntRange(min=16), default=400, show_default=True, help="Fresh portraits.")
@click.option("--resolution", type=click.IntRange(min=32), default=64, show_default=True, help="Their size, pixels.")
@click.option("--quick", is_flag=True, help="64 portraits, four epochs.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(data: Path | None, images: int, resolution: int, quick: bool, json_path: Path | None) -> None:
    """Measure the loader on one thread per process."""
    torch.set_num_threads(1)
    epochs = 4 if quick else 10
    report = Report("data_loader")
    with tempfile.TemporaryDirectory() as folder:
        layouts = containers(Path(folder), data, 64 if quick else images, resolution)
        for name, dataset in layouts.items():
            note = f"{len(dataset)} images of {dataset.resolution}², batches of {BATCH}"
            for workers in (0, 2):
                rate = loader_rate(dataset, workers=workers)
                shown = f"{note}, {workers} loader processes"
                bar = f"> {NEEDED}" if dataset.resolution == 64 else ""
                report.add(f"{name}_{workers}_images_per_second", rate.first, bar=bar, note=f"{shown}, first epoch")
                if workers == 0:
                    report.add(f"{name}_cached_images_per_second", rate.later, bar=bar, note=f"{shown}, decoded images kept in memory")
        for name in ("zip", "url"):
            for workers in (0, 2):
                growth = memory_growth(layouts[name], workers=workers, epochs=epochs)
                note = f"{epochs} epochs, {workers} loader processes, from the end of the second"
                report.add(f"{name}_{workers}_memory_growth_mb", growth, bar=f"< {GROWTH_BAR}", note=note)
    report.finish(json_path)


if __name__ == "__main__":
    main()
