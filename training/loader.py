"""Batches of a data set for training: endless, in an order that depends on the seed and the position alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dnnlib.errors import DatasetError
from training.batch import Batch, Sample, collate
from training.dataset import PortraitDataset
from training.sampler import SampleOrder

CACHE_BYTES = 1 << 30
"""Decoded items kept in memory where no worker processes are used."""


def load_batches(
    dataset: PortraitDataset,
    *,
    seed: int,
    start: int,
    size: int,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """This rank's share of batches of `size` items from global sample position `start` on, without end, on the CPU.

    Args:
        dataset: where items come from.
        seed: key of the order.
        start: samples that the run has seen before.
        size: items per batch, over all ranks.
        rank: this process; it gets items [rank · size / ranks, (rank + 1) · size / ranks) of every batch.
        ranks: processes that share a batch; the order does not depend on how many there are.
        workers: processes that read ahead; 0 reads in this process and keeps decoded items in memory up to CACHE_BYTES.
        pin: put batches into page-locked memory, for copies to a GPU that do not wait.

    Raises:
        ValueError: the batch cannot be cut into so many equal shares.
        DatasetError: an item cannot be read (also where a worker found it).
    """
    if size % ranks or not 0 <= rank < ranks:
        raise ValueError(f"batches: rank {rank} of {ranks}, {size} items; need equal shares")
    order = SampleOrder(len(dataset), seed).batches(start, size, rank, ranks)
    if workers == 0:
        reader = _CachedReader(dataset, CACHE_BYTES)
        for indices in order:
            yield reader.batch(indices)
        return
    loader = DataLoader(
        _Guarded(dataset),
        batch_sampler=_Endless(order),
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=pin,
        worker_init_fn=_ignore_interrupts,
    )
    for outcome in loader:
        if isinstance(outcome, DatasetError):
            raise outcome
        yield outcome


class _CachedReader:
    """Reads items and keeps the first ones, decoded, while there is room."""

    def __init__(self, dataset: PortraitDataset, limit: int) -> None:
        self._dataset = dataset
        self._room = limit
        self._kept: dict[int, Sample] = {}

    def batch(self, indices: Sequence[int]) -> Batch:
        """A batch of these items."""
        return collate([self._sample(index) for index in indices])

    def _sample(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        if sample.nbytes <= self._room:
            self._kept[index] = sample
            self._room -= sample.nbytes
        return sample


class _Guarded(Dataset[Batch]):
    """Whole batches; a bad file comes back as a value, because the loader would wrap an exception in its own traceback."""

    def __init__(self, dataset: PortraitDataset) -> None:
        self._dataset = dataset

    def __getitems__(self, indices: list[int]) -> Batch | DatasetError:
        try:
            return self._dataset.read(indices)
        except DatasetError as error:
            return error


class _Endless(torch.utils.data.Sampler[list[int]]):
    """A batch sampler over an iterator."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches


def _unchanged(outcome: Any) -> Any:
    """Workers already put batches together."""
    return outcome


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the main process decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
