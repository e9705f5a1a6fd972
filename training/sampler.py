"""The orders in which training sees a data set: endless, shuffled, and functions of the seed and the position alone.

Any process can compute its share of any batch, and a run that resumes at position p reads what the uncut run would have read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from training.randomness import Draws

_LARGEST_DRAW = 1 << 24


class Order(Protocol):
    """Which item of a data set lies at each position of the stream of samples."""

    def items(self, positions: Tensor) -> Tensor:
        """Data set items [N] int64 at global positions [N] int64."""

    def spare(self, position: int, item: int, attempt: int) -> int:
        """What is shown at `position` in place of `item`, which cannot be read; another one for every attempt, with luck."""


def shares(start: int, size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
    """A rank's contiguous share [size / ranks] of the positions of consecutive batches, from global position `start` on, without end."""
    share = size // ranks
    while True:
        first = start + rank * share
        yield torch.arange(first, first + share)
        start += size


class SampleOrder:
    """Position p is item p mod n of the shuffled epoch p div n: for data whose files are all equally near."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self._draws = Draws(seed)
        self._epoch: tuple[int, Tensor] | None = None

    def items(self, positions: Tensor) -> Tensor:
        """Data set items [N] int64 at global positions [N] int64."""
        epochs = positions // self.count
        places = positions % self.count
        found = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            inside = epochs == epoch
            found[inside] = self._order(epoch)[places[inside]]
        return found

    def spare(self, position: int, item: int, attempt: int) -> int:
        """Any item."""
        return _draw(self._draws, position, attempt, self.count)

    def _order(self, epoch: int) -> Tensor:
        """The epoch's permutation; the latest one is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._draws.permutation("epoch", epoch, self.count))
        return self._epoch[1]


class LaneOrder:
    """An order that reads shards one after the other, for data that is far away or too large for any cache.

    A batch consists of lanes, each as long as a group of the minibatch standard deviation, so that every way in which processes may
    share a batch gives whole lanes to each. In every epoch the shards are permuted, laid end to end and cut into spans of equal length,
    one per lane. A lane walks through its span shard by shard; the samples of a shard are permuted, too.

    So no sample occurs twice in an epoch; fewer samples than there are lanes, at the end of the last shard, are left out of it (others
    the next time); and a process reads only the shards of its lanes, one or two per lane at a time.
    """

    def __init__(self, sizes: Sequence[int], seed: int, batch: int, group: int) -> None:
        """Lay out the lanes.

        Args:
            sizes: samples in each shard; shard s holds the items that follow those of shard s - 1.
            seed: key of the order.
            batch: samples per step, over all processes.
            group: consecutive samples of a batch that a lane provides.

        Raises:
            ValueError: the batch is no multiple of the group, or there are fewer samples than lanes.
        """
        if batch % group or sum(sizes) < batch // group:
            raise ValueError(f"order: {sum(sizes)} samples, batches of {batch}, groups of {group}; need whole groups and a sample for each")
        self.lanes = batch // group
        self.span = sum(sizes) // self.lanes
        """Samples that a lane provides per epoch."""
        self._draws = Draws(seed)
        self._batch, self._group = batch, group
        self._sizes = torch.tensor(sizes)
        self._ends = self._sizes.cumsum(0)
        self._layouts: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()
        self._insides: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

    def items(self, positions: Tensor) -> Tensor:
        """Data set items [N] int64 at global positions [N] int64."""
        place = positions % self._batch
        step = positions // self._batch * self._group + place % self._group
        epochs, inside = step // self.span, place // self._group * self.span + step % self.span
        found = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            shards, ends = self._layout(epoch)
            chosen = (epochs == epoch).nonzero()[:, 0]
            slots = torch.searchsorted(ends, inside[chosen], right=True)
            for slot in slots.unique().tolist():
                shard = int(shards[slot])
                here = chosen[slots == slot]
                offset = inside[here] - (ends[slot] - self._sizes[shard])
                found[here] = self._ends[shard] - self._sizes[shard] + self._inside(epoch, shard)[offset]
        return found

    def spare(self, position: int, item: int, attempt: int) -> int:
        """An item of the same shard, which is at hand; after some failures any item."""
        if attempt >= 4:
            return _draw(self._draws, position, attempt, int(self._ends[-1]))
        shard = self.shard_of(item)
        size = int(self._sizes[shard])
        return int(self._ends[shard]) - size + _draw(self._draws, position, attempt, size)

    def shard_of(self, item: int) -> int:
        """The shard that holds an item."""
        return int(torch.searchsorted(self._ends, item, right=True))

    def lanes_of(self, rank: int, ranks: int) -> range:
        """The lanes that a process reads, also in part."""
        share = self._batch // ranks
        return range(rank * share // self._group, -(-(rank + 1) * share // self._group))

    def ahead(self, position: int, lanes: range, count: int = 2) -> list[int]:
        """Shards that some lanes read from the batch at `position` on: what each reads now, then what each reads next, and so on."""
        walks = [self._walk(position, lane) for lane in lanes]
        rounds = [[next(walk) for walk in walks] for _ in range(count)]
        return list(dict.fromkeys(shard for shards in rounds for shard in shards))

    def _walk(self, position: int, lane: int) -> Iterator[int]:
        """The shards that a lane goes through, without end."""
        step = position // self._batch * self._group
        epoch, inside = step // self.span, step % self.span
        while True:
            shards, ends = self._layout(epoch)
            first = int(torch.searchsorted(ends, lane * self.span + inside, right=True))
            last = int(torch.searchsorted(ends, (lane + 1) * self.span - 1, right=True))
            yield from shards[first : last + 1].tolist()
            epoch, inside = epoch + 1, 0

    def _layout(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Shards in the order of this epoch, and where each ends."""
        if epoch not in self._layouts:
            shards = self._draws.permutation("shards", epoch, len(self._sizes))
            self._layouts[epoch] = shards, self._sizes[shards].cumsum(0)
            _forget(self._layouts, 3)
        return self._layouts[epoch]

    def _inside(self, epoch: int, shard: int) -> Tensor:
        """The samples of a shard in the order of this epoch."""
        key = epoch, shard
        if key not in self._insides:
            self._insides[key] = self._draws.permutation(f"inside shard {shard}", epoch, int(self._sizes[shard]))
        self._insides.move_to_end(key)
        _forget(self._insides, 2 * self.lanes + 2)
        return self._insides[key]


def _draw(draws: Draws, position: int, attempt: int, count: int) -> int:
    return int(draws.below(f"spare {attempt}", torch.tensor([position]), min(count, _LARGEST_DRAW))[0])


def _forget(kept: OrderedDict, most: int) -> None:
    """Leave the latest entries."""
    while len(kept) > most:
        kept.popitem(last=False)
