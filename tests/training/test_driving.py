"""A driving folder does what the head that was filmed into it did, frame by frame, without being read as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import DatasetError
from next3d.checkpoint import load_generator
from next3d.generator import Generator
from next3d.media.performance import HeadPerformance, MotionPerformance, front_camera
from next3d.media.scene import VideoConfig, film, head_of
from next3d.types import HeadMesh
from tests.head_files import write_driving_folder, write_head
from tests.models import ToyHead, toy_head
from tests.training.factory import small_head
from training.dataset import open_dataset
from training.driving import DrivingFolder, DrivingHeads, natural_key, open_driving

NAMES = ["a/img2", "a/img9", "a/img10", "b/img1"]


class Filmed(MotionPerformance):
    """The toy head, deformed anew in every frame, seen by an orbiting camera."""

    still = False

    def __init__(self, toy: ToyHead) -> None:
        super().__init__("orbit", len(NAMES))
        self.toy = toy

    def mesh(self, index: int, tiles: range) -> HeadMesh:
        return self.toy.mesh(len(tiles), seed=index)


@pytest.fixture(scope="module")
def toy() -> ToyHead:
    return toy_head()


@pytest.fixture
def folder(toy: ToyHead, tmp_path: Path) -> Path:
    return write_driving_folder(tmp_path / "drive", Filmed(toy), toy.topology, NAMES)


def test_frames_come_in_natural_order_with_their_heads_and_cameras(toy: ToyHead, folder: Path):
    drive, filmed = DrivingFolder(folder, toy.topology), Filmed(toy)
    assert drive.frames == len(NAMES)
    for index in (3, 0, 1, 2):
        mesh, written = drive.mesh(index, range(2, 5)), filmed.mesh(index, range(1))
        assert mesh.vertices.shape == (3, *written.vertices.shape[1:])
        assert torch.allclose(mesh.vertices, written.vertices, atol=1e-6)
        assert torch.allclose(mesh.landmarks, written.landmarks, atol=1e-6)
        assert torch.allclose(drive.camera(index).to_label(), filmed.camera(index).to_label(), atol=1e-6)


@pytest.mark.parametrize(
    "names",
    [["f1.png", "f2.png", "f10.png", "f10b.png"], ["02/1.png", "10/0.png"], ["1", "1a", "a", "a0001", "a2"], ["", "x²3", "²"]],
    ids=str,
)
def test_natural_order(names: list[str]):
    assert sorted(names, key=natural_key) == names


def test_the_portrait_camera_and_the_own_landmarks_can_be_chosen(toy: ToyHead, folder: Path):
    for path in folder.rglob("*_kpt2d.txt"):
        path.unlink()
    drive = DrivingFolder(folder, toy.topology, landmarks=False, labelled_cameras=False)
    assert torch.equal(drive.camera(2).to_label(), front_camera().to_label())
    assert torch.allclose(drive.mesh(2, range(1)).landmarks, Filmed(toy).mesh(2, range(1)).landmarks, atol=1e-6)


def test_only_the_frames_that_are_wanted_must_be_there(toy: ToyHead, folder: Path):
    (folder / "b" / "img1.obj").unlink()
    assert DrivingFolder(folder, toy.topology, limit=3).frames == 3
    assert DrivingFolder(folder.rename(folder.parent / "again"), toy.topology, limit=1).frames == 1


def test_landmarks_may_be_named_as_in_data_sets_and_labels_may_be_an_object(toy: ToyHead, folder: Path):
    for path in folder.rglob("*_kpt2d.txt"):
        path.rename(path.with_name(path.name.replace("_kpt2d", "")))
    index = json.loads((folder / "dataset.json").read_text())
    labels = {name.replace(".png", ".obj").replace("/", "\\"): label for name, label in index["labels"]}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert DrivingFolder(folder, toy.topology).mesh(3, range(1)).landmarks.shape == (1, 68, 3)


def test_a_mesh_is_read_when_its_frame_is_due_and_once(toy: ToyHead, folder: Path):
    (folder / "a" / "img10.obj").write_text("v 0 0")
    drive = DrivingFolder(folder, toy.topology)
    before = drive.mesh(1, range(1))
    shutil.rmtree(folder / "a")
    assert torch.equal(drive.mesh(1, range(1, 2)).vertices, before.vertices), "the parts of one frame share a reading"
    with pytest.raises(DatasetError, match=r"img10_kpt2d\.txt"):
        drive.mesh(2, range(1))


@dataclass(frozen=True)
class Damage:
    do: Callable[[Path], object]
    message: str


def relabel(change: Callable[[list], object]) -> Callable[[Path], None]:
    """Change the list of labels; its first row is the last frame's."""

    def do(folder: Path) -> None:
        index = json.loads((folder / "dataset.json").read_text())
        change(index["labels"])
        (folder / "dataset.json").write_text(json.dumps(index))

    return do


DAMAGES = {
    "no index": Damage(lambda folder: (folder / "dataset.json").unlink(), "has no dataset.json"),
    "empty": Damage(lambda folder: (shutil.rmtree(folder), folder.mkdir()), "has no dataset.json"),
    "no json": Damage(lambda folder: (folder / "dataset.json").write_bytes(b"\xff{"), "not valid JSON"),
    "no labels": Damage(lambda folder: (folder / "dataset.json").write_text('{"labels": []}'), "the entry 'labels'"),
    "short label": Damage(relabel(lambda labels: labels[0][1].pop()), "24 numbers"),
    "huge number": Damage(relabel(lambda labels: labels[0][1].__setitem__(3, 10**400)), "finite numbers"),
    "no camera": Damage(relabel(lambda labels: labels[0].__setitem__(1, [0.0] * 25)), "not a camera"),
    "nameless": Damage(relabel(lambda labels: labels[0].__setitem__(0, "")), "does not exist"),
    "outside": Damage(relabel(lambda labels: labels[0].__setitem__(0, "../../etc/x.png")), "does not exist"),
    "missing mesh": Damage(lambda folder: (folder / "a" / "img9.obj").unlink(), "img9.obj: does not exist"),
    "missing landmarks": Damage(lambda folder: (folder / "a" / "img9_kpt2d.txt").unlink(), "img9_kpt2d.txt: does not exist"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_folder_that_cannot_drive_is_refused_when_it_is_opened(toy: ToyHead, folder: Path, damage: Damage):
    damage.do(folder)
    with pytest.raises(DatasetError, match=damage.message) as error:
        DrivingFolder(folder, toy.topology)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("landmarks", [True, False])
def test_a_film_of_the_head_model_drives_as_the_head_model_does(network_file: Path, tmp_path: Path, landmarks: bool):
    generator = load_generator(network_file)
    assert isinstance(generator, Generator)
    model = HeadPerformance(head_of(generator), "jaw", (3,), frames=3)
    folder = write_driving_folder(tmp_path, model, generator.topology, ["0", "1", "2"])
    drive = DrivingFolder(folder, generator.topology, landmarks=landmarks)
    config = VideoConfig(seeds=(3,), columns=1, rows=1, size=32)
    for driven, own in zip(film(generator, drive, config), film(generator, model, config), strict=True):
        assert np.abs(driven.astype(int) - own).max() <= 1
    moved = replace(config, columns=2)
    assert next(film(generator, drive, moved)).shape == (32, 64, 3), "the spare tile shows the mesh"


def test_one_pose_for_all_frames_is_a_still_video(toy: ToyHead, tmp_path: Path):
    """What changes from frame to frame comes from the files and from nowhere else."""
    label = front_camera().to_label()[0].tolist()
    for name in ("1", "2"):
        write_head(tmp_path, name, toy.mesh(1), toy.topology)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1.png": label, "2.png": label}}))
    drive = DrivingFolder(tmp_path, toy.topology)
    assert torch.equal(drive.mesh(0, range(1)).vertices, drive.mesh(1, range(1)).vertices)


def test_a_data_set_with_head_parameters_drives_by_its_head_model(toy: ToyHead, own: Path):
    drive, dataset = open_driving(own, small_head().topology, limit=3), open_dataset(own, 32)
    assert isinstance(drive, DrivingHeads)
    assert drive.frames == 3
    for index, name in enumerate(sorted(dataset.names, key=natural_key)[:3]):
        sample = dataset[dataset.names.index(name)]
        assert torch.equal(drive.mesh(index, range(2)).vertices[1:], dataset.contents.heads.mesh(sample.head).vertices)
        assert torch.allclose(drive.camera(index).to_label(), sample.label.reshape(1, 25))
    still = open_driving(own, small_head().topology, labelled_cameras=False)
    assert torch.equal(still.camera(2).to_label(), front_camera().to_label())
    with pytest.raises(DatasetError, match="another mesh than the network's"):
        open_driving(own, toy.topology)


def test_a_folder_of_meshes_is_opened_as_one(toy: ToyHead, folder: Path):
    assert isinstance(open_driving(folder, toy.topology), DrivingFolder)
