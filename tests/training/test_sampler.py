from __future__ import annotations

import random
from itertools import islice

import pytest
import torch

from training.sampler import LaneOrder, Order, SampleOrder, shares


def read(order: Order, start: int, size: int, batches: int, rank: int = 0, ranks: int = 1) -> list[int]:
    """Items of some batches."""
    return torch.cat([order.items(positions) for positions in islice(shares(start, size, rank, ranks), batches)]).tolist()


def test_every_epoch_shows_every_item_once():
    items = SampleOrder(7, seed=1).items(torch.arange(21)).reshape(3, 7)
    assert all(sorted(epoch.tolist()) == list(range(7)) for epoch in items)
    assert not torch.equal(items[0], items[1])


def test_order_does_not_depend_on_batches_or_on_where_one_starts():
    stream = read(SampleOrder(7, seed=1), 0, 4, 9)
    assert read(SampleOrder(7, seed=1), 6, 5, 6) == stream[6:36]
    assert stream != read(SampleOrder(7, seed=2), 0, 4, 9)


EPOCHS = 30


def random_layouts(count: int) -> list[tuple[list[int], int, int]]:
    """Shards of random sizes, batches and groups: always whole groups, and a sample per lane."""
    rng, found = random.Random(0), []
    while len(found) < count:
        group, lanes = rng.choice([1, 2, 4]), rng.randint(1, 6)
        sizes = [rng.randint(1, rng.choice([2, 9, 40])) for _ in range(rng.randint(1, 9))]
        if sum(sizes) >= lanes:
            found.append((sizes, group * lanes, group))
    return found


LAYOUTS = [
    ([5], 4, 2),
    ([3, 3, 3], 4, 1),
    ([10, 1, 7, 30, 2], 8, 4),
    ([16, 16, 16, 16], 8, 2),
    ([4, 9, 2, 8, 8, 3], 6, 3),
    ([2], 2, 1),
    *random_layouts(8),
]


@pytest.mark.parametrize(("sizes", "batch", "group"), LAYOUTS, ids=str)
def test_lanes_show_every_sample_at_most_once_per_epoch(sizes: list[int], batch: int, group: int):
    """All but fewer samples than lanes are shown, and who is left out changes."""
    order = LaneOrder(sizes, 0, batch, group)
    shown: list[list[int]] = [[] for _ in range(EPOCHS)]
    for lane in range(order.lanes):
        steps = torch.arange(EPOCHS * order.span)
        positions = steps // group * batch + lane * group + steps % group
        for epoch, items in enumerate(order.items(positions).reshape(EPOCHS, order.span).tolist()):
            shown[epoch] += items
    for items in shown:
        assert len(set(items)) == len(items) > sum(sizes) - order.lanes
        assert set(items) <= set(range(sum(sizes)))
    assert {item for items in shown for item in items} == set(range(sum(sizes)))


@pytest.mark.parametrize(("sizes", "batch", "group"), LAYOUTS, ids=str)
def test_lanes_depend_on_the_position_alone(sizes: list[int], batch: int, group: int):
    """Not on where one starts, nor on how many processes share a batch."""
    whole = read(LaneOrder(sizes, 3, batch, group), 0, batch, 40)
    assert read(LaneOrder(sizes, 3, batch, group), 17 * batch, batch, 23) == whole[17 * batch :]
    for ranks in {ranks for ranks in (1, 2, 3, 4) if batch % (ranks * group) == 0}:
        parts = [torch.tensor(read(LaneOrder(sizes, 3, batch, group), 0, batch, 40, rank, ranks)).reshape(40, -1) for rank in range(ranks)]
        assert torch.cat(parts, dim=1).flatten().tolist() == whole
    if sum(sizes) > 2:
        assert whole != read(LaneOrder(sizes, 4, batch, group), 0, batch, 40)


@pytest.mark.parametrize(("sizes", "batch", "group"), LAYOUTS, ids=str)
def test_lanes_announce_the_shards_that_they_read(sizes: list[int], batch: int, group: int):
    """The first batch from a position on reads shards of the first round; a lane reads few shards at once."""
    order = LaneOrder(sizes, 1, batch, group)
    for start in range(0, 20 * batch, batch):
        for lane in range(order.lanes):
            first = start + lane * group
            needed = {order.shard_of(item) for item in order.items(torch.arange(first, first + group)).tolist()}
            assert needed <= set(order.ahead(start, range(lane, lane + 1), group))
            assert order.shard_of(int(order.items(torch.tensor([first])))) == order.ahead(start, range(lane, lane + 1), 1)[0]


def test_a_lane_stays_in_its_shards():
    """Eight shards of equal size and four lanes: in one epoch each lane reads two shards, one after the other."""
    order = LaneOrder([20] * 8, 5, 8, 2)
    items = torch.tensor(
        [[order.shard_of(item) for item in order.items(torch.arange(8 * step, 8 * step + 8)).tolist()] for step in range(20)]
    )
    for lane in range(4):
        runs = items[:, 2 * lane : 2 * lane + 2].flatten()
        assert (runs[:20] == runs[0]).all()
        assert (runs[20:] == runs[20]).all()
    assert len(set(items.flatten().tolist())) == 8


def test_spares_are_functions_of_the_position():
    order, flat = LaneOrder([6, 6], 0, 4, 2), SampleOrder(12, 0)
    near = [order.spare(position, 8, 0) for position in range(40)]
    assert set(near) == set(range(6, 12))
    assert near == [LaneOrder([6, 6], 0, 4, 2).spare(position, 8, 0) for position in range(40)]
    assert {order.spare(position, 8, 5) for position in range(200)} == set(range(12))
    assert {flat.spare(position, 8, 0) for position in range(200)} == set(range(12))


def test_lanes_need_a_sample_each():
    with pytest.raises(ValueError, match="3 samples, batches of 8, groups of 2"):
        LaneOrder([3], 0, 8, 2)
