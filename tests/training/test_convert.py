from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib.errors import UserError
from next3d.commands.data_check import check
from next3d.commands.data_convert import convert
from next3d.commands.data_shard import shard
from next3d.commands.main import run_command
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from tests.training.factory import sample_name
from tests.training.test_dataset import same_items
from training.convert import ConvertConfig, ConvertReport, convert_dataset
from training.dataset import open_dataset
from training.shard_writer import ShardConfig, write_shards


def converted(source: Path, target: Path, **settings: object) -> ConvertReport:
    return convert_dataset(ConvertConfig(source=str(source), **settings), target)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic portraits with all of their truth."""
    target = tmp_path_factory.mktemp("truth") / "data.zip"
    write_dataset(SyntheticConfig(count=2, resolution=32, further_truth=True), target)
    return target


def test_containers_hold_the_same(truth: Path, tmp_path: Path):
    """Zip → folder → zip: every file comes back, byte for byte where it is an image."""
    assert converted(truth, tmp_path / "folder").count == 2
    converted(tmp_path / "folder", tmp_path / "again.zip")
    first, second = open_dataset(truth), open_dataset(tmp_path / "again.zip")
    assert same_items(first, second)
    storages = first.contents.storage, second.contents.storage
    assert storages[0].names == storages[1].names
    for name in storages[0].names:
        if name.endswith(".png"):
            assert storages[0].read(name) == storages[1].read(name)
    indices = [json.loads(storage.read("dataset.json")) for storage in storages]
    assert indices[0] == indices[1]


def test_smaller_images(truth: Path, tmp_path: Path):
    """They are what training at that resolution sees; landmarks move along, and truth that cannot is left out and said."""
    report = converted(truth, tmp_path / "small", resolution=16)
    assert same_items(open_dataset(truth, 16), open_dataset(tmp_path / "small"))
    assert len(report.notes) == 1
    assert "left out" in report.notes[0]
    assert not (tmp_path / "small/depth").exists()
    large = open_dataset(truth).contents.storage.read("landmarks.npz")
    (tmp_path / "large.npz").write_bytes(large)
    before, after = np.load(tmp_path / "large.npz"), np.load(tmp_path / "small/landmarks.npz")
    assert np.array_equal(before["landmarks_2d"] / 2, after["landmarks_2d"])
    assert np.array_equal(before["landmarks_3d"], after["landmarks_3d"])


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_other_formats(own: Path, tmp_path: Path, ending: str):
    converted(own, tmp_path / "out", image_format=ending)
    dataset = open_dataset(tmp_path / "out")
    assert all(name.endswith(f".{ending}") for name in dataset.names)
    difference = dataset.read([1, 7]).image - open_dataset(own).read([1, 7]).image
    assert 0 < difference.abs().mean() < 0.03


def test_meshes_stay_meshes(small_published: Path, tmp_path: Path):
    """The published layout stays what it is, smaller, without what is broken; nobody claims to have fitted heads."""
    (small_published / "images512x512" / sample_name(5)).write_bytes(b"nothing")
    report = converted(small_published, tmp_path / "out.zip", resolution=16)
    assert "fitted" in report.notes[0]
    assert (report.count, len(report.broken)) == (7, 1)
    dataset = open_dataset(tmp_path / "out.zip")
    source = open_dataset(small_published, 16)
    assert [name.partition("/")[2] for name in dataset.names] == [
        name.partition("/")[2] for name in source.names if sample_name(5) not in name
    ]
    rows = [row for row, name in enumerate(source.names) if sample_name(5) not in name]
    assert torch.equal(dataset.read(range(7)).pixels, source.read(rows).pixels)
    assert torch.equal(dataset.head_mesh(dataset.read([6])).vertices, source.head_mesh(source.read([rows[6]])).vertices)


def test_shards_become_a_folder_again(own: Path, tmp_path: Path):
    write_shards(ShardConfig(source=str(own), shard_bytes=30_000), tmp_path / "shards")
    converted(tmp_path / "shards", tmp_path / "folder")
    source, dataset = open_dataset(own), open_dataset(tmp_path / "folder")
    assert sorted(dataset.names) == sorted(source.names)
    rows = [dataset.names.index(name) for name in source.names]
    assert torch.equal(dataset.read(rows).pixels, source.read(range(10)).pixels)


def test_names_that_would_meet(own: Path, tmp_path: Path):
    """`a.png` and `a.jpg` cannot both become `a.webp`; nothing is left behind."""
    names = [f"images/00000/img{index:08d}.png" for index in (0, 1)]
    twin = names[0].replace(".png", ".jpg")
    with Image.open(own / names[1]) as image:
        image.save(own / twin)
    (own / names[1]).unlink()
    for path in (own / "dataset.json",):
        path.write_text(path.read_text().replace(names[1], twin))
    table = dict(np.load(own / "heads.npz"))
    table["names"] = np.array([twin if name == names[1] else name for name in table["names"]])
    np.savez(own / "heads.npz", **table)
    with pytest.raises(UserError, match=r"two of its images would be called images/00000/img00000000\.webp"):
        converted(own, tmp_path / "out", image_format="webp")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]


def test_an_older_set_stays_until_the_new_one_is_whole(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also when the last step of all fails."""
    converted(own, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    rename = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target == tmp_path / "out" and not source.name.endswith(".old"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        convert_dataset(ConvertConfig(source=str(own), resolution=16), tmp_path / "out", force=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "own"]


def test_commands(own: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Convert, shard and check work together; an existing target needs --force; a damaged shard fails the check."""
    (own / "images/00000/img00000004.png").write_bytes(b"nothing")
    assert run_command(convert, [str(own), str(tmp_path / "a.zip"), "--resolution", "16"]) == 0
    captured = capfd.readouterr()
    assert "9 images of 16², 1 left out" in captured.out
    assert "img00000004.png" in captured.err
    arguments = [str(tmp_path / "a.zip"), str(tmp_path / "shards"), "--shard-mb", "0.02"]
    assert run_command(shard, arguments) == 0
    assert run_command(shard, arguments) == 2
    assert "replace it with --force" in capfd.readouterr().err
    assert run_command(shard, [*arguments, "--force", "--seed", "3"]) == 0
    assert run_command(check, [str(tmp_path / "shards")]) == 0
    assert f"9 images of 16² in {len(list((tmp_path / 'shards/shards').iterdir()))} shards" in capfd.readouterr().out
    tar = tmp_path / "shards/shards/000000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    assert run_command(check, [str(tmp_path / "shards")]) == 2
    problems = capfd.readouterr().err.splitlines()
    assert len(problems) == 2
    assert "000000.tar: has another SHA-256" in problems[0]
    assert "is damaged (checksum)" in problems[1]
