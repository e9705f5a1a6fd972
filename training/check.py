"""Reads a whole data set and collects everything that is wrong with it."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from dnnlib.errors import DatasetError
from dnnlib.files import sha256
from training.dataset import PortraitDataset, open_dataset
from training.parallel import map_in_order
from training.shards import ShardStorage
from training.storage import StorageError

CHUNK = 256
"""Items that a process reads at once."""
ENOUGH = 2000
"""Items that are worth another process, which takes seconds to start."""

Progress = Callable[[int, int], None]
"""Receives the number of items done and their total."""


@dataclass
class CheckReport:
    """What was found."""

    path: str
    count: int = 0
    """Items that were read."""
    resolution: int = 0
    vertices: int = 0
    """Vertices of a head mesh."""
    shards: int = 0
    """Tar files whose checksum was computed."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why images are not among the items, and how many."""
    problems: list[str] = field(default_factory=list)
    """One sentence each."""

    def summary(self) -> str:
        """One line."""
        left_out = "".join(f", {number} left out {reason}" for reason, number in self.left_out.items() if number)
        shards = f" in {self.shards} shards" if self.shards else ""
        found = f"{self.count} images of {self.resolution}²{shards}, heads of {self.vertices} vertices{left_out}"
        verdict = "no problems" if not self.problems else f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        return f"{self.path}: {found}; {verdict}."


@dataclass(frozen=True)
class Rows:
    """Some items of a data set, as they are sent to another process."""

    path: str
    uv_mask: Path | None
    first: int
    last: int

    def dataset(self) -> PortraitDataset:
        """The data set, opened once per process; what is wrong with its labels is not for us to say."""
        return _opened(self.path, self.uv_mask)


@lru_cache(maxsize=1)
def _opened(path: str, uv_mask: Path | None) -> PortraitDataset:
    return open_dataset(path, uv_mask=uv_mask, complain=lambda error: None)


def chunks(path: str | os.PathLike[str], uv_mask: Path | None, count: int) -> list[Rows]:
    """All items of a data set, in portions."""
    return [Rows(os.fspath(path), uv_mask, first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]


def useful_workers(count: int, workers: int) -> int:
    """At most `workers` processes, and no more than `count` items keep busy."""
    return max(1, min(workers, count // ENOUGH))


def check_dataset(
    path: str | os.PathLike[str], *, uv_mask: Path | None = None, workers: int = 1, progress: Progress | None = None
) -> CheckReport:
    """Read every label, image and head, and the checksums of shards.

    Args:
        path: as `open_dataset` takes it.
        uv_mask: as `open_dataset` takes it.
        workers: processes; small data sets take fewer.
        progress: called with the number of items read and their total.
    """
    report = CheckReport(os.fspath(path))
    try:
        dataset = open_dataset(path, uv_mask=uv_mask, complain=lambda error: report.problems.append(str(error)))
    except DatasetError as error:
        if str(error) not in report.problems:
            report.problems.append(str(error))
        return report
    report.resolution, report.left_out = dataset.stored_resolution, dataset.left_out
    report.vertices = len(dataset.topology.guide_colors)
    if dataset.shards is not None:
        _check_shards(dataset.shards, report)
    _opened.cache_clear()
    done, total = 0, len(dataset)
    for portion in map_in_order(_check_rows, chunks(path, uv_mask, total), useful_workers(total, workers)):
        for problem in portion:
            done += 1
            if problem is None:
                report.count += 1
            elif problem not in report.problems:  # opening may have met this file already
                report.problems.append(problem)
        if progress is not None:
            progress(done, total)
    return report


def _check_rows(rows: Rows) -> list[str | None]:
    """What is wrong with each of some items."""
    dataset = rows.dataset()
    found: list[str | None] = []
    try:
        dataset.bring(range(rows.first, rows.last))
    except StorageError as error:
        return [str(error)] * (rows.last - rows.first)
    for index in range(rows.first, rows.last):
        try:
            dataset[index]
            found.append(None)
        except DatasetError as error:
            found.append(str(error))
    return found


def _check_shards(storage: ShardStorage, report: CheckReport) -> None:
    """Tables and shards against their checksums, members of shards against the tables."""
    for name in storage.names:
        if storage.cache is None and sha256(storage.address(name)) != storage.tables[name].sha256:
            report.problems.append(f"{storage.address(name)}: has another SHA-256 than the index says; copy or make the data set again.")
    for number, shard in enumerate(storage.shards):
        shown = storage.address(shard.name)
        try:
            path = storage.local(number)
        except DatasetError as error:
            report.problems.append(str(error))
            continue
        if sha256(path) != shard.sha256:
            report.problems.append(f"{shown}: has another SHA-256 than the index says; copy or make it again.")
        elif not _has_members(storage, number, path):
            report.problems.append(f"{shown}: its files are not where {storage.address('samples.npz')} says; make the data set again.")
        report.shards += 1


def _has_members(storage: ShardStorage, number: int, path: Path) -> bool:
    """Whether a tar reader finds the same files as the tables do."""
    first, count = int(storage.first[number]), storage.shards[number].samples
    wanted = {}
    for row in range(first, first + count):
        for column, member in enumerate(storage.members):
            wanted[storage.file_name(row, member)] = int(storage.table.offset[row, column]), int(storage.table.size[row, column])
    try:
        with tarfile.open(path) as archive:
            found = {member.name: (member.offset_data, member.size) for member in archive if not member.name.endswith(".json")}
    except tarfile.TarError:
        return False
    return found == wanted
