"""The order in which training sees a data set: endless, shuffled, and a function of the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.randomness import Draws


@dataclass
class SampleOrder:
    """Which item of a data set lies at each position of the endless stream of samples.

    Position p is item p mod n of the shuffled epoch p div n, so that any process can compute its share of any batch, and a run that
    resumes at position p reads what the uncut run would have read.
    """

    count: int
    """Items in the data set."""
    seed: int
    _epoch: tuple[int, Tensor] | None = field(default=None, repr=False)

    def items(self, positions: Tensor) -> Tensor:
        """Data set items [N] int64 at global positions [N] int64."""
        epochs = positions // self.count
        places = positions % self.count
        found = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            inside = epochs == epoch
            found[inside] = self._order(epoch)[places[inside]]
        return found

    def batches(self, start: int, size: int, rank: int = 0, ranks: int = 1) -> Iterator[list[int]]:
        """A rank's contiguous share of consecutive batches of `size` items, from global position `start` on, without end."""
        share = size // ranks
        while True:
            first = start + rank * share
            yield self.items(torch.arange(first, first + share)).tolist()
            start += size

    def _order(self, epoch: int) -> Tensor:
        """The epoch's permutation; the latest one is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, Draws(self.seed).permutation("epoch", epoch, self.count))
        return self._epoch[1]
