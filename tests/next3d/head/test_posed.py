"""A head that was written as files is read as it was; anything else is named in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dnnlib.errors import DatasetError
from next3d.head.posed import PosedHeadReader, read_landmarks
from tests.head_files import write_head
from tests.models import ToyHead

Files = tuple[bytes, bytes]


@pytest.fixture
def files(toy: ToyHead, tmp_path: Path) -> Files:
    """The content of an OBJ and a landmark file."""
    obj, landmarks = write_head(tmp_path, "demo", toy.mesh(1, seed=3), toy.topology)
    return obj.read_bytes(), landmarks.read_bytes()


def test_files_hold_the_head_that_was_written(toy: ToyHead, files: Files):
    mesh = PosedHeadReader(toy.topology).read(files[0], "a.obj", read_landmarks(files[1], "a.txt"))
    written = toy.mesh(1, seed=3)
    assert torch.allclose(mesh.vertices, written.vertices, atol=1e-6)
    assert torch.allclose(mesh.landmarks, written.landmarks, atol=1e-6)


def test_the_embedding_stands_in_for_the_landmark_file(toy: ToyHead, files: Files):
    mesh = PosedHeadReader(toy.topology).read(files[0], "a.obj")
    assert torch.allclose(mesh.landmarks, toy.mesh(1, seed=3).landmarks, atol=1e-6)


def faces_backwards(data: bytes) -> bytes:
    lines = data.splitlines()
    faces = [line for line in lines if line.startswith(b"f ")]
    return b"\n".join([line for line in lines if not line.startswith(b"f ")] + faces[::-1]) + b"\n"


def faces_first(data: bytes) -> bytes:
    lines = data.splitlines()
    return b"\n".join([b"# exported", *sorted(lines, key=lambda line: not line.startswith(b"f "))]) + b"\n"


def without_faces(data: bytes) -> bytes:
    return b"\n".join(line for line in data.splitlines() if not line.startswith(b"f ")) + b"\n"


def other_triangles(data: bytes) -> bytes:
    head, _, last = data.rstrip().rpartition(b"\nf ")
    return head + b"\nf " + b" ".join([b"1", *last.split()[1:]]) + b"\n"


def triangle_into_nowhere(data: bytes) -> bytes:
    return data + b"f 1 2 9999\n"


def windows_lines(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("change", [faces_backwards, faces_first, without_faces, windows_lines])
def test_what_does_not_change_the_head_does_not_matter(toy: ToyHead, files: Files, change: Callable[[bytes], bytes]):
    reader = PosedHeadReader(toy.topology)
    assert torch.equal(reader.read(change(files[0]), "a.obj").vertices, reader.read(files[0], "a.obj").vertices)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"v 0 0 0\n" + data, r"483 vertices, but the network's mesh has 482"),
        (other_triangles, "other triangles"),
        (triangle_into_nowhere, "9999"),
        (lambda data: data.replace(b"v ", b"v nan ", 1), "vertex 1 is NaN"),
        (lambda data: b"", "expected an OBJ mesh"),
        (lambda data: b"\x00\xff" * 500, "expected an OBJ mesh"),
    ],
    ids=["vertex too many", "other triangles", "triangle into nowhere", "NaN", "empty", "binary"],
)
def test_other_meshes_are_named(toy: ToyHead, files: Files, change: Callable[[bytes], bytes], message: str):
    with pytest.raises(DatasetError, match=message) as error:
        PosedHeadReader(toy.topology).read(change(files[0]), "a.obj")
    assert str(error.value).startswith("a.obj: ")


def test_triangles_are_looked_at_again_when_they_change(toy: ToyHead, files: Files):
    reader = PosedHeadReader(toy.topology)
    for _ in range(2):
        reader.read(files[0], "a.obj")
        with pytest.raises(DatasetError, match="other triangles"):
            reader.read(other_triangles(files[0]), "b.obj")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"0 0 0\n" * 67, "holds 201 numbers, expected 68 lines"),
        (b"0 0\n" * 68, "holds 136 numbers"),
        (b"x y z\n" * 68, "not a text file of numbers"),
        (b"nan 0 0\n" * 68, "all finite"),
        (b"", "holds 0 numbers"),
    ],
    ids=["too few", "two columns", "words", "NaN", "empty"],
)
def test_other_landmarks_are_named(data: bytes, message: str):
    with pytest.raises(DatasetError, match=rf"^a\.txt: .*{message}"):
        read_landmarks(data, "a.txt")


@pytest.mark.parametrize("unit", [2.5, 1000.0], ids=["world units", "millimetres"])
def test_landmarks_that_lie_elsewhere_are_named(toy: ToyHead, files: Files, unit: float):
    elsewhere = read_landmarks(files[1], "a.txt") * unit
    with pytest.raises(DatasetError, match="far from it"):
        PosedHeadReader(toy.topology).read(files[0], "a.obj", elsewhere)


def test_a_mesh_in_the_published_layout_is_read(shared_dir: Path):
    from next3d.head.obj import read_topology

    folder = shared_dir / "next3d-layout-sample"
    meshes = sorted(folder.glob("meshes512x512/**/*.obj"))
    topology = replace(read_topology(meshes[0].read_bytes(), "first"), landmark_faces=None)
    reader = PosedHeadReader(topology)
    for path in meshes:
        landmarks = folder / "lms512x512" / path.parent.name / f"{path.stem}.txt"
        mesh = reader.read(path.read_bytes(), str(path), read_landmarks(landmarks.read_bytes(), str(landmarks)))
        assert mesh.vertices.shape == (1, 5023, 3)
        assert 0.2 < mesh.vertices.abs().max() < 0.6, "a head in world units"
