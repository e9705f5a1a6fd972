from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from dnnlib.errors import DatasetError
from tests.training.factory import sample_name
from training.dataset import open_dataset
from training.loader import load_batches


def test_workers_change_nothing(published: Path):
    """The same batches in the same order, whoever reads them."""
    dataset = open_dataset(published)
    alone = list(islice(load_batches(dataset, seed=0, start=30, size=4), 6))
    helped = list(islice(load_batches(dataset, seed=0, start=30, size=4, workers=2), 6))
    for one, two in zip(alone, helped, strict=True):
        assert torch.equal(one.index, two.index)
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(dataset.head_mesh(one).vertices, dataset.head_mesh(two).vertices)


def test_resumed_stream_goes_on_where_the_uncut_one_would(published: Path):
    dataset = open_dataset(published)
    uncut = list(islice(load_batches(dataset, seed=5, start=0, size=8), 60))  # more than two epochs
    resumed = next(load_batches(dataset, seed=5, start=59 * 8, size=8))
    assert torch.equal(resumed.pixels, uncut[59].pixels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_one_sentence(small_published: Path, workers: int):
    (small_published / "images512x512" / sample_name(3)).write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=rf"{sample_name(3)}: is not a readable image") as caught:
        list(islice(load_batches(open_dataset(small_published), seed=0, start=0, size=8, workers=workers), 1))
    assert "\n" not in str(caught.value)


def test_ranks_share_every_batch(published: Path):
    """The shares, put together in the order of the ranks, are the batches of one process."""
    dataset = open_dataset(published)
    whole = [batch.index for batch in islice(load_batches(dataset, seed=3, start=8, size=8), 3)]
    shares = [list(islice(load_batches(dataset, seed=3, start=8, size=8, rank=rank, ranks=4), 3)) for rank in range(4)]
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number].index for share in shares]), batch)
    with pytest.raises(ValueError, match="rank 0 of 3, 8 items"):
        next(load_batches(dataset, seed=3, start=0, size=8, ranks=3))
