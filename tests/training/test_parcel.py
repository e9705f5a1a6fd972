from __future__ import annotations

import pickle
from pathlib import Path

import torch

from training.broken import Reading
from training.dataset import open_dataset
from training.parcel import Parcel


def test_a_parcel_holds_the_batch(own: Path, small_published: Path):
    """Parameters and meshes, every type and shape; all of it in one block, and what is sent beside it is short."""
    for path in (own, small_published):
        reading = Reading(open_dataset(path).read([5, 0, 3]), [(7, "broken")])
        parcel = Parcel.pack(reading)
        found = parcel.unpack()
        assert torch.equal(found.batch.pixels, reading.batch.pixels)
        assert torch.equal(found.batch.index, reading.batch.index)
        assert torch.equal(found.batch.camera.to_label(), reading.batch.camera.to_label())
        assert type(found.batch.head) is type(reading.batch.head)
        for name, value in vars(reading.batch.head).items():
            assert torch.equal(getattr(found.batch.head, name), value)
        assert found.broken == [(7, "broken")]
        assert all(tensor.data_ptr() % 8 == 0 for tensor in vars(found.batch.head).values())
        assert len(pickle.dumps((parcel.layout, parcel.head, parcel.broken))) < 4096
