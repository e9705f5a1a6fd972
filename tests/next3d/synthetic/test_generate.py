"""Data sets: bytes, split, format, and what happens when things go wrong."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from next3d.commands.main import root, run_command
from next3d.head.model import HeadModel
from next3d.media.portrait_files import EncodedPortrait
from next3d.synthetic import generate
from next3d.synthetic.generate import SyntheticConfig, render_chunk, write_dataset

COUNT = 10
CONFIG = SyntheticConfig(count=COUNT, resolution=32, seed=3)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("data") / "data.zip"
    write_dataset(CONFIG, target)
    return target


def test_equal_seeds_give_equal_bytes_on_any_number_of_workers(archive: Path, tmp_path: Path) -> None:
    write_dataset(CONFIG, tmp_path / "again.zip", workers=2)
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_a_sample_does_not_depend_on_its_neighbours(archive: Path) -> None:
    for index in (0, 7, 9):
        alone = render_chunk(CONFIG, index, index + 1)[0]
        with zipfile.ZipFile(archive) as file:
            assert alone.files["images"] == file.read(f"images/00000/img{index:08d}.png")


def test_other_seeds_give_other_people(archive: Path) -> None:
    other = SyntheticConfig(count=1, resolution=32, seed=4)
    with zipfile.ZipFile(archive) as file:
        assert render_chunk(other, 0, 1)[0].files["images"] != file.read("images/00000/img00000000.png")


def test_folder_and_zip_hold_the_same_files(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_dataset(CONFIG, folder)
    with zipfile.ZipFile(archive) as file:
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert names == set(file.namelist())
        assert all((folder / name).read_bytes() == file.read(name) for name in names)
        assert all(entry.compress_type == zipfile.ZIP_STORED and entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in file.infolist())


def test_the_tables_are_as_documented(archive: Path, head: HeadModel) -> None:
    with zipfile.ZipFile(archive) as file:
        description = json.loads(file.read("dataset.json"))
        heads, landmarks = (np.load(io.BytesIO(file.read(name))) for name in ("heads.npz", "landmarks.npz"))
    assert (description["format"], description["format_version"], description["resolution"]) == ("next3d-portraits", 1, 32)
    assert description["head"] == {"id": head.identifier, "fingerprint": head.fingerprint()}
    names = [name for name, _ in description["labels"]]
    assert names[-1] == "images/00000/img00000009.png"
    assert all(len(label) == 25 for _, label in description["labels"])
    assert heads["names"].tolist() == names
    assert heads["identity"].tolist() == list(range(COUNT))
    shapes = {name: heads[name].shape for name in heads.files if name not in ("names", "identity")}
    assert shapes == {
        "shape": (COUNT, len(head.shape_names)),
        "expression": (COUNT, len(head.expression_names)),
        "pose": (COUNT, 5, 3),
        "translation": (COUNT, 3),
        "scale": (COUNT,),
    }
    assert all(heads[name].dtype == np.float32 for name in shapes)
    assert landmarks["landmarks_2d"].shape == (COUNT, 68, 2)
    assert landmarks["landmarks_3d"].shape == (COUNT, 68, 3)


def test_the_images_are_as_documented(archive: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        description = json.loads(file.read("dataset.json"))
        image, segmentation, depth = (
            Image.open(io.BytesIO(file.read(f"{kind}/00000/img00000002.png"))) for kind in ("images", "segmentation", "depth")
        )
    assert (image.mode, segmentation.mode) == ("RGB", "L")
    assert image.size == segmentation.size == depth.size == (32, 32)
    assert description["segmentation_classes"] == ["background", "skin", "eyes", "mouth", "teeth", "hair", "clothes", "extra"]
    assert np.asarray(segmentation).max() < len(description["segmentation_classes"])
    metres = np.asarray(depth).astype(float) * description["depth_unit"]
    assert 2.3 < metres[metres > 0].min() < metres.max() < 3.3


def test_further_truth_and_several_images_of_one_person(tmp_path: Path, head: HeadModel) -> None:
    config = SyntheticConfig(count=4, resolution=48, seed=3, per_identity=2, further_truth=True)
    write_dataset(config, tmp_path / "data")
    heads, landmarks = (np.load(tmp_path / "data" / name) for name in ("heads.npz", "landmarks.npz"))
    assert heads["identity"].tolist() == [0, 0, 1, 1]
    assert np.array_equal(heads["shape"][0], heads["shape"][1])
    assert not np.array_equal(heads["shape"][1], heads["shape"][2])
    assert not np.array_equal(heads["expression"][0], heads["expression"][1])
    assert landmarks["dense_2d"].shape == (4, 478, 2)
    assert landmarks["dense_3d"].shape == (4, 478, 3)
    normals = np.asarray(Image.open(tmp_path / "data/normals/00000/img00000000.png")).astype(float)
    depth = np.asarray(Image.open(tmp_path / "data/depth/00000/img00000000.png"))
    there = depth > 0
    assert not normals[~there].any()
    np.testing.assert_allclose(np.linalg.norm((normals[there] - 128) / 127, axis=1), 1, atol=0.02)
    alone = SyntheticConfig(count=1, resolution=48, seed=3)
    assert render_chunk(alone, 0, 1)[0].files["images"] == (tmp_path / "data/images/00000/img00000000.png").read_bytes()


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(config: SyntheticConfig, workers: int) -> Iterator[EncodedPortrait]:
        yield from render_chunk(config, 0, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "render_all", stop)
    for name in ("data.zip", "data"):
        with pytest.raises(KeyboardInterrupt):
            write_dataset(CONFIG, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_no_target(tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    arguments = ["data", "synthetic", "--num", "100000", "--resolution", "16", "--workers", "1", "--out", str(target)]
    with subprocess.Popen([sys.executable, "-m", "next3d", *arguments], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, "it had begun to write"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()


def test_an_existing_data_set_is_replaced_only_by_force(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    target.write_bytes(b"precious")
    with pytest.raises(UserError, match="already exists"):
        write_dataset(CONFIG, target)
    assert target.read_bytes() == b"precious"
    write_dataset(CONFIG, target, force=True)
    assert target.read_bytes() == archive.read_bytes()


def test_force_does_not_remove_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother.txt").write_text("dear mother")
    with pytest.raises(UserError, match="not a data set"):
        write_dataset(CONFIG, tmp_path / "letters", force=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num", "0", "--out", "{folder}/a.zip"],
        ["--num", "5", "--resolution", "7", "--out", "{folder}/a.zip"],
        ["--num", "5", "--seed", "-1", "--out", "{folder}/a.zip"],
        ["--num", "5", "--per-identity", "0", "--out", "{folder}/a.zip"],
        ["--num", "5"],
        ["--num", "5", "--out", "{folder}/file/a.zip"],
        ["--num", "5", "--out", "{folder}/file"],
        ["--num", "five", "--out", "{folder}/a.zip"],
    ],
    ids=["no portraits", "tiny", "negative seed", "nobody", "no target", "target below a file", "target exists", "not a number"],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    code = run_command(root, ["data", "synthetic", *(text.format(folder=tmp_path) for text in arguments)])
    assert code == 2
    assert capsys.readouterr().err.strip().count("\n") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_reader_finds_nothing_wrong(archive: Path) -> None:
    assert run_command(root, ["data", "check", str(archive)]) == 0


def test_the_command_takes_cameras_in_degrees_and_percent(tmp_path: Path) -> None:
    arguments = ["data", "synthetic", "--num", "6", "--resolution", "16", "--workers", "1", "--out", str(tmp_path / "data")]
    assert run_command(root, [*arguments, "--yaw-std", "0", "--pitch-std", "0", "--roll", "10", "--distance", "20"]) == 0
    labels = np.array([label for _, label in json.loads((tmp_path / "data/dataset.json").read_text())["labels"]])
    position, right = labels[:, [3, 7, 11]], labels[:, [0, 4, 8]]
    np.testing.assert_allclose(position[:, :2], 0, atol=1e-6)
    assert 0.8 * 2.7 <= position[:, 2].min() < position[:, 2].max() <= 1.2 * 2.7
    roll = np.degrees(np.abs(np.arctan2(right[:, 1], right[:, 0])))
    assert 2 < roll.max() <= 10
    np.testing.assert_allclose(labels[:, 16], 4.2647)
