from __future__ import annotations

from itertools import islice

import torch

from training.sampler import SampleOrder


def test_every_epoch_shows_every_item_once():
    items = SampleOrder(7, seed=1).items(torch.arange(21)).reshape(3, 7)
    assert all(sorted(epoch.tolist()) == list(range(7)) for epoch in items)
    assert not torch.equal(items[0], items[1])


def test_order_does_not_depend_on_batches_or_on_where_one_starts():
    stream = [item for batch in islice(SampleOrder(7, seed=1).batches(0, 4), 9) for item in batch]
    late = [item for batch in islice(SampleOrder(7, seed=1).batches(6, 5), 6) for item in batch]
    assert late == stream[6:36]
    assert stream != [item for batch in islice(SampleOrder(7, seed=2).batches(0, 4), 9) for item in batch]
