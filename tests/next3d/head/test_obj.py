"""OBJ files: what is written is read again, what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib.errors import ConfigError, DatasetError
from next3d.head import load_head
from next3d.head.obj import ObjMesh, mesh_guide_colors, read_obj, read_topology, read_uv_mask, read_vertices, write_obj

QUAD = b"""# a unit square
mtllib none.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0.5
vt 0 0
vt 1 0
vt 1 1
vt 0 1
vn 0 0 1
s off
f 1/1/1 2/2/1 3/3/1 4/4/1
"""


def head_mesh() -> ObjMesh:
    head = load_head("procedural")
    topology = head.topology
    return ObjMesh(head(head.neutral(1)).vertices[0], topology.faces, topology.uvs, topology.uv_faces)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    mesh = head_mesh()
    write_obj(tmp_path / "head.obj", mesh)
    data = (tmp_path / "head.obj").read_bytes()
    again = read_obj(data, "head.obj")
    for name, tensor in vars(mesh).items():
        assert torch.equal(getattr(again, name), tensor), name
    assert torch.equal(read_vertices(data, "head.obj"), mesh.vertices)


def test_polygons_become_fans_and_other_lines_are_passed_over() -> None:
    mesh = read_obj(QUAD, "quad.obj")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.uv_faces.tolist() == mesh.faces.tolist()
    assert mesh.vertices[3].tolist() == [0, 1, 0.5]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"f 1/1/1 2/2/1 3/3/1 4/4/1", b"f -4/-4 -3/-3 -2/-2 -1/-1"),
        (b"f 1/1/1 2/2/1 3/3/1 4/4/1", b"f 1/1 2/2 3/3 4/4"),
        (b"\n", b"\r\n"),
        (b"v 1 0 0\n", b"# in between\nv 1 0 0 1.0\n"),
        (b"v 0 1 0.5", b"v 0.0 1e0 5e-1"),
    ],
    ids=["negative indices", "no normals", "Windows line ends", "scattered lines with weights", "exponents"],
)
def test_spellings_of_the_same_mesh(old: bytes, new: bytes) -> None:
    plain, other = read_obj(QUAD, "quad.obj"), read_obj(QUAD.replace(old, new), "quad.obj")
    for name, tensor in vars(plain).items():
        assert torch.equal(getattr(other, name), tensor), name


def test_meshes_without_uvs_are_meshes_but_no_topology() -> None:
    bare = QUAD.replace(b"vt", b"#").replace(b"f 1/1/1 2/2/1 3/3/1 4/4/1", b"f 1//1 2//1 3//1 4//1")
    assert read_obj(bare, "bare.obj").uvs.shape == (0, 2)
    with pytest.raises(DatasetError, match=r"bare\.obj: has no texture coordinates"):
        read_topology(bare, "bare.obj")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"v 1 1 0", b"v 1 1", 'starts with "v " does not hold 3 numbers'),
        (b"v 1 1 0", b"v 1 one 0", 'starts with "v " does not hold 3 numbers'),
        (b"v 1 1 0", b"v 1 nan 0", "vertex 3 is NaN or infinite"),
        (b"v 1 1 0", b"v 1 inf 0", "vertex 3 is NaN or infinite"),
        (b"vt 1 1", b"vt 1 nan", "texture coordinate is NaN"),
        (b"v 0 1 0.5\n", b"", "names vertex 4, but there are 3"),
        (b"vt 0 1\n", b"", "names texture coordinate 4, but there are 3"),
        (b"f 1/1/1", b"f 0/1/1", "names vertex 0"),
        (b"f 1/1/1", b"f x/1/1", "cannot read the face"),
        (b"f 1/1/1 2/2/1 3/3/1 4/4/1", b"f 1/1/1 2/2/1", "fewer than three corners"),
        (b"f 1/1/1 2/2/1 3/3/1 4/4/1", b"", "has no faces"),
        (b"v ", b"w ", 'has no lines that start with "v "'),
    ],
)
def test_damage_is_named(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=r"^some/quad\.obj: ") as caught:
        read_topology(QUAD.replace(old, new), "some/quad.obj")
    assert message in str(caught.value)


def test_another_number_of_vertices_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"quad\.obj: 4 vertices, expected 5023"):
        read_vertices(QUAD, "quad.obj", expected=5023)


def test_uvs_outside_the_atlas_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"leave \[0, 1\]"):
        read_topology(QUAD.replace(b"vt 1 1", b"vt 3 1"), "quad.obj")


def test_separate_small_parts_are_painted_more_strongly() -> None:
    """On an eyeball alone, colours span nearly the whole range; on the head they only drift."""
    head = load_head("procedural")
    colors = mesh_guide_colors(head(head.neutral(1)).vertices[0], head.topology.faces)
    assert colors.abs().max() <= 1
    ball = colors[head.topology.regions["left_eye"]]
    assert ((ball.amax(0) - ball.amin(0)) > 1.8).all()
    assert colors[head.topology.regions["face"]].abs().max() <= 0.61


def test_masks_are_square_images(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255], [51, 0]], dtype=np.uint8)).save(tmp_path / "mask.png")
    torch.testing.assert_close(read_uv_mask(tmp_path / "mask.png"), torch.tensor([[[0.0, 1.0], [0.2, 0.0]]]))
    topology = read_topology(QUAD, "quad.obj", tmp_path / "mask.png")
    assert topology.uv_mask.shape == (1, 2, 2)
    Image.new("L", (3, 2)).save(tmp_path / "wide.png")
    with pytest.raises(DatasetError, match=r"wide\.png: is 3x2 pixels"):
        read_uv_mask(tmp_path / "wide.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"text\.png: is not a readable image"):
        read_uv_mask(tmp_path / "text.png")


def test_a_path_gives_a_rigid_head(tmp_path: Path) -> None:
    write_obj(tmp_path / "face.obj", head_mesh())
    head = load_head(str(tmp_path / "face.obj"))
    assert head.expression_names == ()
    assert head.topology.landmark_faces is None
    with pytest.raises(ValueError, match="landmarks must come with the data"):
        head(head.neutral(1))
    with pytest.raises(ConfigError, match="there is no such file"):
        load_head(str(tmp_path / "none.obj"))


def test_the_published_layout(shared_dir: Path) -> None:
    path = shared_dir / "next3d-layout-sample/meshes512x512/00000/img00000000.obj"
    topology = read_topology(path.read_bytes(), path.name)
    assert topology.faces.shape == (9976, 3)
    assert topology.uvs.shape == (5118, 2)
    assert len(topology.guide_colors) == len(read_vertices(path.read_bytes(), path.name)) == 5023
    assert (topology.uv_mask == 1).all()
