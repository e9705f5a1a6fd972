"""Batches of a data set for training: endless, in an order that depends on the seed and the position alone."""

from __future__ import annotations

import copy
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dnnlib.errors import DatasetError, UserError
from training.batch import Batch
from training.broken import BrokenFiles, SoundReader
from training.dataset import PortraitDataset
from training.parcel import Parcel
from training.prefetch import ShardPrefetcher
from training.sampler import LaneOrder, Order, SampleOrder, shares

CACHE_BYTES = 1 << 30
"""Decoded items kept in memory where no worker processes are used."""
LOOK_AHEAD = 16
"""Every so many batches the next shards are looked up."""
RESTARTS = 10
"""Lost workers that a run survives."""

_log = logging.getLogger(__name__)


def load_batches(
    dataset: PortraitDataset,
    *,
    seed: int,
    start: int,
    size: int,
    group: int = 1,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    pin: bool = False,
    max_broken: int = 0,
) -> BatchStream:
    """This rank's share of batches of `size` items from global sample position `start` on, without end, on the CPU.

    Args:
        dataset: where items come from.
        seed: key of the order.
        start: samples that the run has seen before.
        size: items per batch, over all ranks.
        group: of the minibatch standard deviation; data in shards is read in lanes of this width.
        rank: this process; it gets items [rank · size / ranks, (rank + 1) · size / ranks) of every batch.
        ranks: processes that share a batch; the order does not depend on how many there are.
        workers: processes that read ahead; 0 reads in this process and keeps decoded items in memory up to CACHE_BYTES.
        pin: put batches into page-locked memory, for copies to a GPU that do not wait.
        max_broken: so many different samples may be damaged; another one is shown in the place of each.

    Raises:
        ValueError: the batch cannot be cut into so many equal shares.
        UserError: the cache for shards is too small for what is needed at once.
    """
    if size % ranks or not 0 <= rank < ranks:
        raise ValueError(f"batches: rank {rank} of {ranks}, {size} items; need equal shares")
    order = choose_order(dataset, seed, size, group)
    return BatchStream(dataset, order, _Share(start, size, rank, ranks), workers, pin, max_broken)


def choose_order(dataset: PortraitDataset, seed: int, size: int, group: int) -> Order:
    """Lanes for data in shards, a permutation of everything for other data and for shards with fewer samples than a batch."""
    sizes = dataset.shard_sizes
    if not sizes or len(dataset) < size:
        return SampleOrder(len(dataset), seed)
    return LaneOrder(sizes, seed, size, min(group, size))


class _Share:
    """Which positions this process reads, and how far it is."""

    def __init__(self, start: int, size: int, rank: int, ranks: int) -> None:
        self.next, self.size, self.rank, self.ranks = start, size, rank, ranks

    def places(self, order: Order) -> Iterator[list[tuple[int, int]]]:
        """(position, item) of this and all later batches."""
        for positions in shares(self.next, self.size, self.rank, self.ranks):
            yield list(zip(positions.tolist(), order.items(positions).tolist(), strict=True))


class BatchStream(Iterator[Batch]):
    """What `load_batches` returns.

    Iterating raises DatasetError when more samples than allowed are broken, and StorageError when files cannot be reached. Workers that
    die are replaced, and the stream goes on at the same position.
    """

    def __init__(self, dataset: PortraitDataset, order: Order, share: _Share, workers: int, pin: bool, max_broken: int) -> None:
        self.broken = BrokenFiles(dataset, max_broken)
        """The broken samples that this process has met."""
        self._dataset, self._order, self._share, self._workers, self._pin = dataset, order, share, workers, pin
        self._restarts, self._batches = 0, 0
        self._ahead = self._prefetcher()
        self._readings: Iterator[Any] | None = None

    def __next__(self) -> Batch:
        """The next batch."""
        while True:
            try:
                if self._readings is None:
                    self._readings = self._read()
                if self._ahead is not None and self._batches % LOOK_AHEAD == 0:
                    self._ahead.tell(self._share.next)
                reading = next(self._readings)
                break
            except RuntimeError as error:  # what the loader raises when a worker is gone
                if "DataLoader worker" not in str(error):
                    raise
                self._restart(error)
        if isinstance(reading, DatasetError):
            raise reading
        if isinstance(reading, Parcel):
            reading = reading.unpack()
        self.broken.add(reading.broken)
        self._share.next += self._share.size
        self._batches += 1
        return reading.batch

    def close(self) -> None:
        """End workers and threads."""
        self._readings = None
        if self._ahead is not None:
            self._ahead.close()

    def _prefetcher(self) -> ShardPrefetcher | None:
        """For shards behind a URL."""
        storage, order = self._dataset.shards, self._order
        if storage is None or storage.cache is None or not isinstance(order, LaneOrder):
            return None
        return ShardPrefetcher(storage, copy.deepcopy(order), order.lanes_of(self._share.rank, self._share.ranks))

    def _read(self) -> Iterator[Any]:
        """Readings, or errors as values, from the next position on."""
        places = self._share.places(self._order)
        if self._workers == 0:
            reader = SoundReader(self._dataset, self._order, CACHE_BYTES)
            return map(reader.read, places)
        loader = DataLoader(
            _Guarded(SoundReader(self._dataset, self._order)),
            batch_sampler=_Endless(places),
            num_workers=self._workers,
            collate_fn=_unchanged,
            pin_memory=self._pin,
            worker_init_fn=_prepare_worker,
        )
        with _children_unwatched():
            return iter(loader)

    def _restart(self, error: RuntimeError) -> None:
        """Get rid of the workers that are left.

        Raises:
            UserError: this has happened too often.
        """
        self._readings = None
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise UserError(
                f"data: {self._restarts} loader workers have died ({str(error).splitlines()[0]}); "
                "give fewer --workers, or the machine more memory and more shared memory (/dev/shm)."
            ) from error
        _log.warning("A loader worker died (%s); starting new ones at the same place.", str(error).splitlines()[0])


class _Guarded(Dataset[Parcel]):
    """Whole batches; an error comes back as a value, because the loader would wrap an exception in its own traceback."""

    def __init__(self, reader: SoundReader) -> None:
        self._reader = reader

    def __getitems__(self, places: list[tuple[int, int]]) -> Parcel | DatasetError:
        try:
            return Parcel.pack(self._reader.read(places))
        except DatasetError as error:
            return error


class _Endless(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """A batch sampler over an iterator."""

    def __init__(self, batches: Iterator[list[tuple[int, int]]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self._batches


@contextmanager
def _children_unwatched() -> Iterator[None]:
    """Take back the signal handler that PyTorch's loader installs when it starts.

    When a worker dies it raises wherever the program is: in the middle of a step, say, which could then neither be finished nor repeated.
    The loader also notices such a death when a batch does not come, and that is early enough.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _unchanged(outcome: Any) -> Any:
    """Workers already put batches together."""
    return outcome


def _prepare_worker(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the main process decides when workers end. One thread each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
