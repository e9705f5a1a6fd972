"""Samples that cannot be read: each is reported once and replaced by another; only too many of them end a run.

What is shown instead is a function of the seed and the position (`Order.spare`), so a resumed run sees what the uncut one would have seen
of the same files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from dnnlib.errors import DatasetError
from torch_utils.distributed import gather_rows
from training.batch import Batch, Sample, collate
from training.dataset import PortraitDataset
from training.sampler import Order
from training.storage import StorageError

ATTEMPTS = 32
"""Spare items that are tried for one position."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """A batch, and what was found broken while it was read."""

    batch: Batch
    broken: list[tuple[int, str]]
    """Items and what is wrong with them, one sentence each."""


class SoundReader:
    """Reads items and puts others in the place of broken ones; keeps decoded items while there is room."""

    def __init__(self, dataset: PortraitDataset, order: Order, room: int = 0) -> None:
        """Read from `dataset`, keep up to `room` bytes."""
        self._dataset, self._order, self._room = dataset, order, room
        self._kept: dict[int, Sample] = {}

    def read(self, places: Sequence[tuple[int, int]]) -> Reading:
        """A batch of items, given as (global position, item).

        Raises:
            DatasetError: nothing readable was found in many attempts.
            StorageError: the place where the files are cannot be reached.
        """
        broken: list[tuple[int, str]] = []
        self._dataset.bring([item for _, item in places])
        return Reading(collate([self._sound(position, item, broken) for position, item in places]), broken)

    def _sound(self, position: int, item: int, broken: list[tuple[int, str]]) -> Sample:
        wanted = item
        for attempt in range(ATTEMPTS):
            try:
                return self._sample(item)
            except StorageError:
                raise
            except DatasetError as error:
                broken.append((item, str(error)))
                item = self._order.spare(position, wanted, attempt)
        raise DatasetError(f"{broken[-1][1]} So are {ATTEMPTS - 1} others that were tried in its place.")

    def _sample(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        if sample.nbytes <= self._room:
            self._kept[index] = sample
            self._room -= sample.nbytes
        return sample


@dataclass
class BrokenFiles:
    """The broken samples that a process has met."""

    dataset: PortraitDataset
    limit: int
    """The most different ones that a run tolerates."""
    found: dict[int, str] = field(default_factory=dict)
    """Item and what is wrong with it."""

    def add(self, broken: Sequence[tuple[int, str]]) -> None:
        """Count and report what has not been met before.

        Raises:
            DatasetError: there are more than the limit.
        """
        for index, message in broken:
            if index in self.found:
                continue
            self.found[index] = message
            if self.limit == 0:
                raise DatasetError(message)
            _log.warning("Broken sample %d, another is shown instead: %s", len(self.found), message)
        self.check(len(self.found))

    def check(self, count: int) -> None:
        """Refuse to go on with `count` broken samples, if these are too many.

        Raises:
            DatasetError: there are more than the limit.
        """
        if count > self.limit:
            example = next(iter(self.found.values()), "met by another process.")
            raise DatasetError(
                f"{self.dataset.path}: {count} of its {len(self.dataset)} samples cannot be read, more than --max-broken {self.limit} "
                f"allows; 'next3d data check' lists them all. One of them: {example}"
            )

    def over_ranks(self) -> int:
        """Different broken samples that all processes have met; all must call this together.

        Raises:
            DatasetError: there are more than the limit.
        """
        count = len(gather_rows(torch.tensor(sorted(self.found), dtype=torch.int64)).unique())
        self.check(count)
        return count
