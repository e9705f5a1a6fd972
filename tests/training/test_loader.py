from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from itertools import islice
from pathlib import Path

import pytest
import torch

import training.broken
from dnnlib.errors import DatasetError
from tests.training.factory import sample_name
from training.broken import BrokenFiles
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


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_samples_are_replaced_and_counted(small_published: Path, workers: int, caplog: pytest.LogCaptureFixture):
    """One line per file, whatever the epochs; the sound ones stay where they were; a resumed stream shows the same."""
    sound = [batch.index for batch in islice(load_batches(open_dataset(small_published), seed=0, start=0, size=8), 5)]
    images = small_published / "images512x512"
    for number in (3, 6):
        (images / sample_name(number)).write_bytes(b"nothing")
    dataset = open_dataset(small_published)
    bad = {dataset.names.index(f"images512x512/{sample_name(number)}") for number in (3, 6)}
    stream = load_batches(dataset, seed=0, start=0, size=8, workers=workers, max_broken=2)
    with caplog.at_level(logging.WARNING):
        shown = [batch.index for batch in islice(stream, 5)]
    assert set(stream.broken.found) == bad
    assert stream.broken.over_ranks() == 2
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["Broken sample 1", "Broken sample 2"]
    for before, after in zip(sound, shown, strict=True):
        for one, two in zip(before.tolist(), after.tolist(), strict=True):
            assert two not in bad if one in bad else two == one
    resumed = load_batches(dataset, seed=0, start=24, size=8, rank=1, ranks=2, max_broken=2)
    assert torch.equal(next(resumed).index, shown[3][4:])
    stream.close()


def test_too_many_broken_samples_end_the_run(small_published: Path):
    for number in (3, 6):
        (small_published / "images512x512" / sample_name(number)).write_bytes(b"nothing")
    stream = load_batches(open_dataset(small_published), seed=0, start=0, size=8, max_broken=1)
    with pytest.raises(DatasetError, match="2 of its 8 samples cannot be read, more than --max-broken 1 allows"):
        next(stream)


def test_nothing_but_broken_samples_is_an_error(small_published: Path):
    dataset = open_dataset(small_published)
    for number in range(8):
        (small_published / "images512x512" / sample_name(number)).write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"not a readable image.* So are 31 others"):
        next(load_batches(dataset, seed=0, start=0, size=8, max_broken=100))


def test_a_lost_worker_is_replaced(published: Path, caplog: pytest.LogCaptureFixture):
    """Killed from outside, as the kernel does when memory runs out: the stream goes on where it was."""
    dataset = open_dataset(published)
    expected = [batch.index for batch in islice(load_batches(dataset, seed=0, start=0, size=8), 6)]
    stream = load_batches(dataset, seed=0, start=0, size=8, workers=1)
    found = [next(stream).index]
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    with caplog.at_level(logging.WARNING):
        found += [batch.index for batch in islice(stream, 5)]
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    assert "A loader worker died" in caplog.text
    stream.close()


def test_broken_samples_of_all_processes_are_counted_once(small_published: Path, monkeypatch: pytest.MonkeyPatch):
    """What two processes met both is one; together they may be too many."""
    broken = BrokenFiles(open_dataset(small_published), 3)
    broken.add([(1, "one"), (4, "four"), (1, "one")])
    monkeypatch.setattr(training.broken, "gather_rows", lambda mine: torch.cat([mine, torch.tensor([4, 6])]))
    assert broken.over_ranks() == 3
    monkeypatch.setattr(training.broken, "gather_rows", lambda mine: torch.cat([mine, torch.tensor([2, 6])]))
    with pytest.raises(DatasetError, match="4 of its 8 samples cannot be read, more than --max-broken 3 allows"):
        broken.over_ranks()
