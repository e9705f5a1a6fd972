"""Bad input to `train`: exit code 2, one sentence that names the file, and nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from next3d.commands.data_check import check
from next3d.commands.main import run_command
from next3d.commands.train import train
from tests.training.factory import edit_index, sample_name, sphere_obj, zip_folder

FIRST = sample_name(0)


@dataclass(frozen=True)
class Damage:
    """One way in which a data set can be broken."""

    do: Callable[[Path], Path | None]
    """Breaks the data set at the path; returns another path to give to the command, if it made one."""
    names: str
    """The file that the message must name."""
    says: str
    """What else it must contain."""


def change_labels(change: Callable[[list], object], folder: str = "images512x512/") -> Callable[[Path], None]:
    return lambda path: edit_index(path / f"{folder}dataset.json", lambda index: change(index["labels"]))


def change_index(folder: str = "", **entries: object) -> Callable[[Path], None]:
    return lambda path: edit_index(path / folder / "dataset.json", lambda index: index.update(entries))


def rewrite(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(content) and None


def truncate_zip(path: Path) -> Path:
    target = zip_folder(path, path.parent / "data.zip")
    target.write_bytes(target.read_bytes()[:-500])
    return target


def damage_zip(path: Path) -> Path:
    """A byte changed inside a stored image: the archive's checksum notices."""
    target = zip_folder(path, path.parent / "data.zip")
    data = bytearray(target.read_bytes())
    data[data.find(b"IDAT") + 20] ^= 0xFF
    target.write_bytes(data)
    return target


def remove(pattern: str) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        for found in list(path.glob(pattern)):
            found.unlink()

    return do


def change_table(**changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        table = dict(np.load(path / "heads.npz"))
        for name, change in changes.items():
            table[name] = change(table[name])
        np.savez(path / "heads.npz", **table)

    return do


def nan_in_row_3(array: np.ndarray) -> np.ndarray:
    array[3] = np.nan
    return array


FIRST_MESH = f"meshes512x512/{FIRST[:-4]}.obj"
FIRST_LANDMARKS = f"lms512x512/{FIRST[:-4]}.txt"

PUBLISHED = {
    "missing label": Damage(change_labels(lambda labels: labels.pop(0)), FIRST, "has no label in"),
    "NaN in a label": Damage(change_labels(lambda labels: labels[0][1].__setitem__(2, float("nan"))), FIRST, "NaN or infinity"),
    "infinity in a label": Damage(change_labels(lambda labels: labels[0][1].__setitem__(2, float("inf"))), FIRST, "NaN or infinity"),
    "short label": Damage(change_labels(lambda labels: labels[0][1].pop()), FIRST, "has 24 numbers, expected 25"),
    "long label": Damage(change_labels(lambda labels: labels[0][1].append(1.0)), FIRST, "has 26 numbers, expected 25"),
    "text in a label": Damage(change_labels(lambda labels: labels[0][1].__setitem__(2, "a")), FIRST, "not a list of numbers"),
    "label is no camera": Damage(change_labels(lambda labels: labels[0].__setitem__(1, [1.0] * 25)), FIRST, "is not a camera"),
    "labels are null": Damage(
        lambda path: edit_index(path / "images512x512/dataset.json", lambda i: i.update(labels=None)), "dataset.json", "labels"
    ),
    "index is no JSON": Damage(rewrite("images512x512/dataset.json", b'{"labels": ['), "dataset.json", "not valid JSON"),
    "image of another size": Damage(
        lambda path: Image.new("RGB", (16, 16)).save(path / "images512x512" / FIRST),
        FIRST,
        "is 16x16 pixels, but the data set's",
    ),
    "corrupt image": Damage(rewrite(f"images512x512/{FIRST}", b"\x89PNG\r\n\x1a\n broken"), FIRST, "not a readable image"),
    "other vertex count": Damage(rewrite(FIRST_MESH, (sphere_obj() + "v 0 0 0\n").encode()), "", "vertices, expected"),
    "NaN in a mesh": Damage(rewrite(FIRST_MESH, sphere_obj().replace("v 0.0000", "v nan", 1).encode()), FIRST[:-4], "NaN or infinite"),
    "mesh is no OBJ": Damage(rewrite(FIRST_MESH, b"nothing"), FIRST[:-4], "expected an OBJ mesh"),
    "short landmarks": Damage(rewrite(FIRST_LANDMARKS, b"0 0 0\n" * 67), FIRST[:-4], "holds 201 numbers, expected 68 lines"),
    "text in landmarks": Damage(rewrite(FIRST_LANDMARKS, b"a b c\n" * 68), FIRST[:-4], "not a text file of numbers"),
    "no landmarks at all": Damage(remove("lms512x512/**/*.txt"), "lms512x512", "none of the 8 images"),
    "no meshes at all": Damage(remove("meshes512x512/**/*.obj"), "meshes512x512", "none of the 8 images"),
    "no images": Damage(remove("images512x512/**/*.png"), "images512x512", "holds no images"),
    "no index": Damage(remove("images512x512/dataset.json"), "faces", "is not a data set"),
    "truncated zip": Damage(truncate_zip, "data.zip", "not a complete zip file"),
    "damaged zip": Damage(damage_zip, "data.zip:", "is damaged"),
    "no such path": Damage(lambda path: path / "nowhere", "nowhere", "does not exist"),
    "neither folder nor zip": Damage(lambda path: path / "images512x512" / FIRST, FIRST, "not a complete zip file"),
}

OWN = {
    "newer format": Damage(change_index(format_version=2), "dataset.json", "format_version 2, this program reads up to 1; update next3d"),
    "other format": Damage(change_index(format="something"), "dataset.json", "is not the index of a data set"),
    "no resolution": Damage(change_index(resolution="big"), "dataset.json", "'resolution' must be"),
    "other head": Damage(change_index(head={"id": "small-1", "fingerprint": "0" * 64}), "dataset.json", "make the data set again"),
    "newer head": Damage(change_index(head={"id": "small-2", "fingerprint": "0" * 64}), "dataset.json", "head model 'small-2'"),
    "unknown head": Damage(
        change_index(head={"id": "flamingo-1", "fingerprint": "0" * 64}), "dataset.json", "'flamingo-1' cannot be loaded"
    ),
    "no head": Damage(change_index(head=None), "dataset.json", "'head' must hold"),
    "missing label": Damage(change_labels(lambda labels: labels.pop(0), ""), "img00000000.png", "has no label in"),
    "images that are missing": Damage(remove("images/00000/img0000000[0-4].png"), "img0000000", "cannot be read (No such file"),
    "no image at all": Damage(remove("images/**/*.png"), "img00000000.png", "does not exist, nor does any other image"),
    "wrong resolution": Damage(change_index(resolution=64), "images/00000/", "is 32x32 pixels, but the data set's images are 64x64"),
    "no table": Damage(remove("heads.npz"), "heads.npz", "cannot be read"),
    "damaged table": Damage(rewrite("heads.npz", b"PK nothing"), "heads.npz", "not a readable NumPy archive"),
    "other expression count": Damage(
        change_table(expression=lambda a: np.zeros((10, 7), a.dtype)), "heads.npz", "[10, 2], but it is float32 [10, 7]"
    ),
    "rows missing": Damage(change_table(pose=lambda a: a[:9]), "heads.npz", "field 'pose' must be float32 [10, 5, 3]"),
    "NaN in the table": Damage(change_table(scale=nan_in_row_3), "heads.npz", "images/00000/img00000003.png is NaN"),
    "names in another order": Damage(change_table(names=lambda a: a[::-1]), "heads.npz", "in the order of the labels"),
}


def arguments(data: Path, outdir: Path, *more: str) -> list[str]:
    size = ["--cfg", "tiny", "--batch", "8", "--kimg", "0.008", "--threads", "1"]
    return ["--outdir", str(outdir), "--data", str(data), "--max-broken", "0", *size, *more]


def assert_one_sentence(captured: pytest.CaptureFixture[str], *parts: str) -> None:
    lines = [line for line in captured.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1, f"expected one line, got {lines}"
    assert lines[0].startswith("Error: ")
    assert all(part in lines[0] for part in parts), lines[0]


@pytest.mark.parametrize("damage", PUBLISHED.values(), ids=PUBLISHED)
def test_damaged_published_data(damage: Damage, small_published: Path, tmp_path: Path, capfd):
    data = damage.do(small_published) or small_published
    assert run_command(train, arguments(data, tmp_path / "runs")) == 2
    assert_one_sentence(capfd, damage.names, damage.says)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("damage", OWN.values(), ids=OWN)
def test_damaged_own_data(damage: Damage, own: Path, tmp_path: Path, capfd):
    data = damage.do(own) or own
    assert run_command(train, arguments(data, tmp_path / "runs")) == 2
    assert_one_sentence(capfd, damage.names, damage.says)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--cfg", "huge-4096"], "unknown preset 'huge-4096'; choose one of"),
        (["--cfg", "demo-64"], "its images are 32x32 pixels, but 64x64 are wanted"),
        (["--batch", "10", "--batch-gpu", "4"], "--batch=10 is not a multiple of --batch-gpu=4"),
        (["--batch", "6"], "minibatch standard deviation"),
        (["--gpc_reg_prob", "2"], "'--gpc-reg-prob'"),
        (["--holdout", "8"], "8 images, of which 8 are to be held out"),
        (["--resume", "nowhere.state"], "nowhere.state"),
        (["--metrics", "beauty"], "beauty"),
        (["--snap", "often"], "--snap"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_impossible_options(more: list[str], says: str, small_published: Path, tmp_path: Path, capfd):
    assert run_command(train, arguments(small_published, tmp_path / "runs", *more)) == 2
    assert_one_sentence(capfd, says)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("suffix", [".state", ".safetensors"])
def test_damaged_checkpoint(suffix: str, small_published: Path, tmp_path: Path, capfd):
    broken = tmp_path / f"network-000001{suffix}"
    broken.write_bytes(b"\x10\x00\x00\x00nothing of the kind")
    assert run_command(train, arguments(small_published, tmp_path / "runs", "--resume", str(broken))) == 2
    assert_one_sentence(capfd, broken.name, "not a readable safetensors file")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_output_folder(small_published: Path, tmp_path: Path, capfd):
    tmp_path.chmod(0o500)
    try:
        assert run_command(train, arguments(small_published, tmp_path / "runs")) == 2
        assert_one_sentence(capfd, "no permission to write")
    finally:
        tmp_path.chmod(0o700)


def test_output_folder_that_is_a_file(small_published: Path, tmp_path: Path, capfd):
    (tmp_path / "runs").write_text("not a folder")
    assert run_command(train, arguments(small_published, tmp_path / "runs")) == 2
    assert_one_sentence(capfd, str(tmp_path / "runs"), "not a folder")


def test_check_command_says_what_is_wrong(own: Path, capfd):
    assert run_command(check, [str(own)]) == 0
    assert "10 images of 32², heads of 108 vertices; no problems." in capfd.readouterr().out
    (own / "images/00000/img00000004.png").write_bytes(b"nothing")
    (own / "images/00000/img00000006.png").write_bytes(b"nothing")
    assert run_command(check, [str(own)]) == 2
    captured = capfd.readouterr()
    assert "8 images" in captured.out
    assert "2 problems" in captured.out
    assert [line.partition(":")[0][-7:] for line in captured.err.splitlines()] == ["004.png", "006.png"]
