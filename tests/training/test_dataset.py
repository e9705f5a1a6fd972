from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib.errors import DatasetError
from next3d.head.model import OBJECT_TO_WORLD, HeadParams
from tests.training.factory import (
    VERTICES,
    camera_label,
    edit_index,
    sample_name,
    small_head,
    sphere_obj,
    write_own,
    write_published,
    zip_folder,
)
from training.check import check_dataset
from training.dataset import PortraitDataset, open_dataset

FIXTURE = Path(__file__).parents[1] / "fixtures" / "portraits-version-1"


def same_items(first: PortraitDataset, second: PortraitDataset) -> bool:
    one, two = first.read(range(len(first))), second.read(range(len(second)))
    meshes = first.head_mesh(one), second.head_mesh(two)
    return (
        torch.equal(one.pixels, two.pixels)
        and torch.equal(one.camera.to_label(), two.camera.to_label())
        and torch.equal(meshes[0].vertices, meshes[1].vertices)
        and torch.equal(meshes[0].landmarks, meshes[1].landmarks)
    )


def test_published_layout_is_read_as_it_is(published: Path, caplog: pytest.LogCaptureFixture):
    """Nested folders, spaces in names, every colour mode; samples without landmarks are left out with one counted message."""
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(published)
    assert len(dataset) == 197
    assert [record.getMessage() for record in caplog.records] == [
        f"{published}: 3 of 200 images are left out (3 without landmarks in lms512x512)."
    ]
    assert not {f"images512x512/{sample_name(missing)}" for missing in (5, 17, 18)} & set(dataset.names)
    batch = dataset.read([0, 1, 2, 3, 4])
    assert batch.image.shape == (5, 3, 32, 32)
    assert -1 <= batch.image.min() < batch.image.max() <= 1
    number = next(n for n in range(200) if dataset.names[3].endswith(sample_name(n)))
    torch.testing.assert_close(batch.camera.to_label()[3], torch.tensor(camera_label(number)))


def test_published_meshes_come_out_in_world_units(published: Path):
    dataset = open_dataset(published)
    first = dataset.names.index(f"images512x512/{sample_name(0)}")
    mesh = dataset.head_mesh(dataset.read([first]))
    assert mesh.vertices.shape == (1, VERTICES, 3)
    assert mesh.landmarks.shape == (1, 68, 3)
    extent = mesh.vertices.amax(dim=1) - mesh.vertices.amin(dim=1)
    torch.testing.assert_close(extent[0, 1].item(), 0.22 * OBJECT_TO_WORLD, rtol=0, atol=1e-3)
    assert dataset.head_name == ""
    assert len(dataset.topology.guide_colors) == VERTICES


def test_the_image_folder_will_do_as_path(published: Path):
    assert open_dataset(published / "images512x512").names == open_dataset(published).names


def test_folder_and_zips_hold_the_same(tmp_path: Path):
    folder = write_published(tmp_path / "faces", 6, 32, number="64")
    bare = zip_folder(folder, tmp_path / "bare.zip")
    shutil.move(folder, tmp_path / "outer" / "faces")
    wrapped = zip_folder(tmp_path / "outer", tmp_path / "wrapped.zip")
    assert same_items(open_dataset(bare), open_dataset(tmp_path / "outer" / "faces"))
    assert same_items(open_dataset(bare), open_dataset(wrapped))


def test_own_layout_gives_the_meshes_of_its_parameters(own: Path, tmp_path: Path):
    dataset = open_dataset(own)
    batch = dataset.read([9, 0])
    assert isinstance(batch.head, HeadParams)
    assert dataset.head_name == "small"
    expected = small_head()(batch.head)
    assert torch.equal(dataset.head_mesh(batch).vertices, expected.vertices)
    assert batch.head.pose[0, 2, 0] == np.float32(0.3)
    assert batch.head.pose[1, 2, 0] == 0
    assert same_items(dataset, open_dataset(write_own(tmp_path / "zipped.zip", 10, 32)))


def test_resolution_asks_for_smaller_images(own: Path):
    half, full = open_dataset(own, 16), open_dataset(own)
    assert (half.resolution, half.stored_resolution, full.resolution) == (16, 32, 32)
    small, large = half.read([1]).image, full.read([1]).image
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(large, 2), rtol=0, atol=2 / 127)
    with pytest.raises(DatasetError, match="32x32 pixels, but 64x64 are wanted"):
        open_dataset(own, 64)


def test_images_come_back_exactly(own: Path):
    dataset = open_dataset(own)
    with Image.open(own / dataset.names[2]) as image:
        stored = np.asarray(image)
    assert np.array_equal(dataset[2].pixels, stored)


def test_holding_out_leaves_the_first_items(own: Path):
    dataset = open_dataset(own)
    kept = dataset.without_last(3)
    assert (len(kept), len(kept.labels)) == (7, 7)
    assert torch.equal(kept.read([6]).pixels, dataset.read([6]).pixels)
    with pytest.raises(DatasetError, match="10 images, of which 10"):
        dataset.without_last(10)


def test_identities_are_those_of_the_items(own: Path):
    assert open_dataset(own).identities is None
    table = dict(np.load(own / "heads.npz"))
    np.savez(own / "heads.npz", **table, identity=np.arange(10, dtype=np.int32) // 3)
    assert open_dataset(own).without_last(3).identities.tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_a_missing_image_is_a_broken_sample(own: Path, tmp_path: Path):
    """An interrupted copy: in a folder or a zip, it is one problem beside the others, and the rest is used."""
    (own / "images/00000/img00000002.png").unlink()
    (own / "images/00000/img00000006.png").write_bytes(b"nothing")
    for path in (own, zip_folder(own, tmp_path / "own.zip")):
        report = check_dataset(path)
        assert report.count == 8
        assert ["img00000002.png" in report.problems[0], "img00000006.png" in report.problems[1]] == [True, True]
        assert open_dataset(path).read_sound([2]).index.tolist() == [3]


def test_check_finds_every_problem(small_published: Path):
    """A wrong label, a damaged image, an image of another size and a wrong mesh are all reported, by name; the rest is counted."""
    images, meshes = small_published / "images512x512", small_published / "meshes512x512"
    names = [sample_name(index) for index in range(8)]
    edit_index(images / "dataset.json", lambda index: index["labels"][0][1].__setitem__(3, float("nan")))
    (images / names[1]).write_bytes(b"nothing")
    Image.new("RGB", (8, 8)).save(images / names[2])
    (meshes / names[4]).with_suffix(".obj").write_text(sphere_obj() + "v 0 0 0\n")
    report = check_dataset(small_published)
    assert report.count == 4
    assert len(report.problems) == 4
    for name in (names[0], names[1], names[2], names[4]):
        stem = name.rpartition(".")[0]
        assert sum(stem in problem for problem in report.problems) == 1
    assert "4 problems" in report.summary()
    assert check_dataset(small_published.parent / "nowhere").problems == [
        f"{small_published.parent / 'nowhere'}: does not exist; expected a data set, as a folder or a zip file."
    ]


def test_version_1_stays_readable(knows_small_head: None):
    """The stored files are what version 1 of the format looked like; they never change. How they were made: write_own(path, 2, 16)."""
    dataset = open_dataset(FIXTURE)
    assert json.loads((FIXTURE / "dataset.json").read_text())["format_version"] == 1
    assert (len(dataset), dataset.resolution) == (2, 16)
    batch = dataset.read([0, 1])
    assert isinstance(batch.head, HeadParams)
    torch.testing.assert_close(batch.camera.to_label()[1], torch.tensor(camera_label(1)))
    assert batch.head.pose[1, 2, 0] == np.float32(0.3)
    assert dataset.head_mesh(batch).vertices.shape == (2, VERTICES, 3)
    assert batch.pixels[:, :, 8, 8].tolist() == [[120, 90, 72], [187, 140, 112]]
