from __future__ import annotations

import json
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import DatasetError, UserError
from next3d.head.model import HeadParams
from tests.training.factory import edit_index, sample_name, write_own
from training.dataset import PortraitDataset, open_dataset
from training.loader import load_batches
from training.shard_writer import ShardConfig, ShardReport, write_shards


def shard(source: Path, target: Path, *, kilobytes: int = 30, seed: int = 0, keep_last: int = 0, workers: int = 1) -> ShardReport:
    config = ShardConfig(source=str(source), seed=seed, shard_bytes=1000 * kilobytes, keep_last=keep_last)
    return write_shards(config, target, workers=workers)


@pytest.fixture
def sharded(own: Path, tmp_path: Path) -> Path:
    """The ten images of `own` in some shards."""
    shard(own, tmp_path / "sharded")
    return tmp_path / "sharded"


def by_name(dataset: PortraitDataset) -> dict[str, int]:
    return {dataset.original_name(row): row for row in range(len(dataset))}


def test_shards_hold_what_the_source_does(own: Path, sharded: Path):
    """Every image, label and head, in another order."""
    source, dataset = open_dataset(own), open_dataset(sharded)
    rows = by_name(dataset)
    assert list(rows) != source.names
    assert len(dataset.shard_sizes) > 1
    assert sum(dataset.shard_sizes) == len(dataset) == 10
    expected, found = source.read(range(10)), dataset.read([rows[name] for name in source.names])
    assert torch.equal(expected.pixels, found.pixels)
    assert torch.equal(expected.camera.to_label(), found.camera.to_label())
    assert torch.equal(source.head_mesh(expected).vertices, dataset.head_mesh(found).vertices)
    assert dataset.head_name == "small"
    assert dataset.resolution == 32


def test_shards_of_meshes(small_published: Path, tmp_path: Path):
    """The published layout keeps its meshes, and its topology whoever comes first; damaged samples are left out by name."""
    (small_published / "images512x512" / sample_name(5)).write_bytes(b"nothing")
    report = shard(small_published, tmp_path / "sharded", kilobytes=60)
    assert report.samples == 7
    assert [sample_name(5) in message for message in report.broken] == [True]
    source, dataset = open_dataset(small_published), open_dataset(tmp_path / "sharded")
    rows = by_name(dataset)
    for number in (0, 3, 7):
        name = f"images512x512/{sample_name(number)}"
        one, two = source.read([source.names.index(name)]), dataset.read([rows[name]])
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(source.head_mesh(one).landmarks, dataset.head_mesh(two).landmarks)
        assert torch.equal(source.head_mesh(one).vertices, dataset.head_mesh(two).vertices)
    assert torch.equal(source.topology.guide_colors, dataset.topology.guide_colors)


def test_same_input_same_bytes(small_published: Path, tmp_path: Path):
    """Whatever the number of processes; another seed is another order."""
    for name, seed, workers in (("one", 0, 1), ("two", 0, 2), ("other", 1, 1)):
        shard(small_published, tmp_path / name, kilobytes=60, seed=seed, workers=workers)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 4
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    assert (tmp_path / "one/shards/000000.tar").read_bytes() != (tmp_path / "other/shards/000000.tar").read_bytes()


def test_a_shard_alone_is_a_webdataset(own: Path, sharded: Path):
    """A plain WebDataset reader finds images, labels and heads."""
    webdataset = pytest.importorskip("webdataset")
    source = open_dataset(own)
    tars = [str(path) for path in sorted((sharded / "shards").iterdir())]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    assert len(samples) == 10
    for sample in samples:
        row = source.names.index(sample["json"]["name"])
        assert np.array_equal(sample["png"], source[row].pixels)
        assert sample["json"]["label"] == source.labels[row].tolist()
        head = source[row].head
        assert isinstance(head, HeadParams)
        assert sample["json"]["head"]["pose"] == head.pose[0].tolist()


def test_held_out_samples_stay_at_the_end(own: Path, tmp_path: Path):
    """`--holdout` leaves out the same images as in the source, and the last shard is cut."""
    shard(own, tmp_path / "sharded", keep_last=4)
    kept = open_dataset(tmp_path / "sharded").without_last(4)
    assert {kept.original_name(row) for row in range(6)} == set(open_dataset(own).names[:6])
    assert sum(kept.shard_sizes) == 6
    assert kept.read([5]).pixels.shape == (1, 3, 32, 32)


def test_no_more_images_can_keep_their_places_than_there_are(own: Path, tmp_path: Path):
    with pytest.raises(UserError, match="give a smaller number"):
        shard(own, tmp_path / "sharded", keep_last=1000)
    assert not (tmp_path / "sharded").exists()


def test_training_reads_lanes(sharded: Path):
    """The stream over shards is that of any number of processes, workers and starts."""
    dataset = open_dataset(sharded)
    whole = [batch.index for batch in islice(load_batches(dataset, seed=2, start=0, size=4, group=2), 12)]
    for rank in range(2):
        part = load_batches(dataset, seed=2, start=16, size=4, group=2, rank=rank, ranks=2, workers=rank)
        for number, batch in enumerate(islice(part, 8)):
            assert torch.equal(batch.index, whole[4 + number][2 * rank : 2 * rank + 2])
        part.close()


def test_damage_inside_a_shard_is_a_broken_sample(sharded: Path):
    """The checksum finds a single byte; the sample is named as it was before it came into the shard."""
    path = sharded / "shards/000000.tar"
    data = bytearray(path.read_bytes())
    data[512 + 60] ^= 1
    path.write_bytes(data)
    dataset = open_dataset(sharded)
    with pytest.raises(DatasetError, match=r"000000\.tar:000000-000000\.png \(images/00000/img\d+\.png\): is damaged"):
        dataset[0]
    stream = load_batches(dataset, seed=0, start=0, size=4, group=2, max_broken=1)
    assert all(0 not in batch.index for batch in islice(stream, 6))
    assert set(stream.broken.found) == {0}


def forget(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


DAMAGE = {
    "shard that is missing": ("shards/000001.tar", forget, "000001.tar: does not exist"),
    "shard that is cut": ("shards/000001.tar", cut, "but dataset.json says"),
    "table that is cut": ("samples.npz", cut, "not a readable NumPy archive"),
    "table that is missing": ("heads.npz", forget, "heads.npz: cannot be read"),
    "newer format": ("dataset.json", lambda path: edit_index(path, lambda i: i.update(format_version=2)), "reads up to 1; update next3d"),
    "name outside": (
        "dataset.json",
        lambda path: edit_index(path, lambda i: i["shards"][0].update(name="../x.tar")),
        "'shards' must be a list of files",
    ),
    "other head": (
        "dataset.json",
        lambda path: edit_index(path, lambda i: i["head"].update(fingerprint="0" * 64)),
        "make the data set again",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_sets_are_one_sentence(kind: str, sharded: Path):
    name, damage, says = DAMAGE[kind]
    damage(sharded / name)
    with pytest.raises(DatasetError) as caught:
        open_dataset(sharded)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sharding_leaves_nothing_half_written(own: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"without \.zip"):
        shard(own, tmp_path / "a.zip")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        shard(own, tmp_path / "taken")
    for path in (own / "images").rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="cannot be read, for example"):
        shard(own, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "taken"]


def test_shards_can_be_sharded_again(sharded: Path, tmp_path: Path):
    shard(sharded, tmp_path / "again", kilobytes=1000, seed=4)
    again = open_dataset(tmp_path / "again")
    assert again.shard_sizes == (10,)
    assert set(by_name(again)) == set(by_name(open_dataset(sharded)))
    with tarfile.open(tmp_path / "again/shards/000000.tar") as archive:
        described = json.loads(archive.extractfile("000000-000003.json").read())
    assert described["name"] == again.original_name(3)


def test_identities_come_along(own: Path, tmp_path: Path):
    table = dict(np.load(own / "heads.npz"))
    np.savez(own / "heads.npz", **table, identity=np.arange(10, dtype=np.int32) // 3)
    shard(own, tmp_path / "sharded")
    dataset = open_dataset(tmp_path / "sharded")
    assert [int(dataset.original_name(row)[-6:-4]) // 3 for row in range(10)] == dataset.identities.tolist()


def test_zip_is_a_source(tmp_path: Path, knows_small_head: None):
    shard(write_own(tmp_path / "own.zip", 4, 16), tmp_path / "sharded")
    assert len(open_dataset(tmp_path / "sharded")) == 4
