"""FLAME files that are missing, damaged, hostile or of another model: one sentence each, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib.errors import ConfigError, DatasetError, UserError
from next3d.head import FLAME_VARIABLE, load_head
from next3d.head.flame import load_flame
from next3d.head.obj import ObjMesh, write_obj
from tests.flame_files import FakeFlame, dump_model, dump_npy, dump_python2, fake_flame, stand_ins

FAKE = fake_flame()
COUNT = len(FAKE.record["v_template"])


def test_without_a_path_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FLAME_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=r"no FLAME here.*https://flame\.is\.tue\.mpg\.de.*--flame FOLDER or set NEXT3D_FLAME"):
        load_head("flame")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("generic_model.pkl", r"no FLAME here, expected flame2023\.pkl or generic_model\.pkl; get it at https://flame"),
        ("head_template.obj", r"has no head_template\.obj.*put it beside generic_model\.pkl"),
        ("landmark_embedding.npy", r"has no landmark_embedding\.npy.*put it beside generic_model\.pkl"),
    ],
)
def test_every_missing_file_is_named(tmp_path: Path, missing: str, message: str) -> None:
    FAKE.write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=message):
        load_flame(tmp_path)


def test_a_path_that_leads_nowhere_and_several_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file or folder"):
        load_flame(tmp_path / "none")
    FAKE.write(tmp_path / "FLAME2020")
    FAKE.write(tmp_path / "FLAME2023", name="flame2023.pkl")
    with pytest.raises(ConfigError, match=r"holds several FLAME models \(.*flame2023\.pkl, .*generic_model\.pkl\)"):
        load_flame(tmp_path)
    assert load_flame(tmp_path / "FLAME2023").identifier == "flame-2023"
    (tmp_path / "FLAME2023").rename(tmp_path / "FLAME2019")
    (tmp_path / "FLAME2019" / "flame2023.pkl").rename(tmp_path / "FLAME2019" / "generic_model.pkl")
    with pytest.raises(ConfigError, match=r"holds several FLAME models \(.*FLAME2019/generic_model\.pkl, .*FLAME2020/generic_model\.pkl\)"):
        load_flame(tmp_path)


def changed(key: str, change: Callable[[np.ndarray], np.ndarray]) -> FakeFlame:
    return FAKE.changed(**{key: change(FAKE.record[key].copy())})


def set_entry(index: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[index] = value
        return array

    return change


BAD_MODELS = {
    "no shapedirs": (FAKE.changed(shapedirs=None), "has no 'shapedirs'"),
    "short template": (
        changed("v_template", lambda a: a[:-1]),
        rf"'shapedirs' has shape .* expected \[{COUNT - 1}, 3, 400\]",
    ),
    "flat template": (changed("v_template", np.ravel), "'v_template' has shape"),
    "few directions": (changed("shapedirs", lambda a: a[:, :, :110]), r"'shapedirs' has shape .* expected"),
    "SMPL's correctives": (changed("posedirs", lambda a: np.repeat(a, 6, 2)), "'posedirs' has shape"),
    "NaN": (changed("posedirs", set_entry((3, 1, 7), np.nan)), "'posedirs' holds NaN, infinite or absurd numbers"),
    "infinite joints": (changed("J_regressor", set_entry((1, 7), np.inf)), "'J_regressor.data' holds NaN, infinite"),
    "weights": (changed("weights", set_entry((3, 1), 5)), "rows of 'weights' must be positive and sum to one"),
    "negative weights": (changed("weights", lambda a: a - np.eye(5)[1] + np.eye(5)[0]), "rows of 'weights'"),
    "another tree": (changed("kintree_table", set_entry((0, 4), 2)), r"'kintree_table' gives the joints the parents \[-1, 0, 1, 1, 2\]"),
    "SMPL's tree": (FAKE.changed(kintree_table=np.zeros((2, 24), np.uint32)), "is this a FLAME model"),
    "a face too far": (changed("f", set_entry((9, 2), COUNT)), rf"'f' names vertex {COUNT}, but there are {COUNT}"),
    "quads": (changed("f", lambda a: a[:, [0, 1, 2, 2]]), "'f' has shape"),
    "a regressor of others": (changed("J_regressor", lambda a: a[:, 1:]), "'J_regressor' has shape"),
    "mirrored": (changed("v_template", lambda a: a * [-1, 1, 1]), "left eye must lie at larger x"),
    "text for numbers": (FAKE.changed(v_template="abc"), "'v_template' is a str"),
    "objects for numbers": (FAKE.changed(v_template=[[1.0, 2.0], [3.0]]), "expected an array of numbers"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_what_is_wrong_with_a_model_is_named(tmp_path: Path, name: str) -> None:
    fake, message = BAD_MODELS[name]
    FAKE.write(tmp_path)
    (tmp_path / "generic_model.pkl").write_bytes(dump_model(fake.record, "chumpy"))
    with pytest.raises(DatasetError, match=message) as caught:
        load_flame(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "generic_model.pkl"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("indices", np.array([COUNT, 0, 1], np.int32)),
        ("indices", np.array([-1, 0, 1], np.int32)),
        ("indptr", np.array([0, 2, 1, 3, 3, 3], np.int32)),
        ("indptr", np.array([0, 1, 2, 3, 3, 9], np.int32)),
        ("_shape", (5, 2**40)),
        ("_shape", (2**40, 5)),
        ("data", np.zeros((3, 1))),
        ("data", "text"),
    ],
)
def test_a_damaged_sparse_matrix_writes_nowhere(tmp_path: Path, part: str, value: object) -> None:
    """Compressed rows; scipy itself would trust these indices."""
    FAKE.write(tmp_path)
    state = {
        "data": np.ones(3), "indices": np.arange(3, dtype=np.int32), "indptr": np.array([0, 1, 2, 3, 3, 3], np.int32), "_shape": (5, COUNT),
    }  # fmt: skip
    with stand_ins() as (_, sparse):
        matrix = sparse(np.zeros((5, COUNT)), "csr_matrix")
        vars(matrix).update({**state, part: value})
        (tmp_path / "generic_model.pkl").write_bytes(dump_python2({**FAKE.record, "J_regressor": matrix}))
    with pytest.raises(DatasetError):
        load_flame(tmp_path)


BAD_LANDMARKS = {
    "a triangle too far": ({"full_lmk_faces_idx": np.full((1, 68), 10**6)}, "names triangle 1000000"),
    "weights": ({"full_lmk_bary_coords": np.zeros((1, 68, 3))}, "must hold barycentric coordinates that sum to one"),
    "too few": (
        {"full_lmk_faces_idx": np.zeros((1, 60), int), "full_lmk_bary_coords": np.full((1, 60, 3), 1 / 3)},
        "has 60 landmarks, expected 68",
    ),
    "rows of a contour": (
        {"dynamic_lmk_faces_idx": np.zeros((40, 17), int), "dynamic_lmk_bary_coords": np.full((40, 17, 3), 1 / 3)},
        r"shape \[40, 17\], expected \[79, 17\]",
    ),
    "shapes": ({"dynamic_lmk_bary_coords": np.full((79, 16, 3), 1 / 3)}, "'dynamic_lmk_bary_coords' has shape"),
}


@pytest.mark.parametrize("name", BAD_LANDMARKS)
def test_what_is_wrong_with_landmarks_is_named(tmp_path: Path, name: str) -> None:
    entries, message = BAD_LANDMARKS[name]
    FAKE.write(tmp_path)
    (tmp_path / "landmark_embedding.npy").write_bytes(dump_npy({**FAKE.landmarks, **entries}))
    with pytest.raises(DatasetError, match=rf"landmark_embedding\.npy: .*{message}"):
        load_flame(tmp_path)


def test_51_landmarks_need_their_contour(tmp_path: Path) -> None:
    FAKE.write(tmp_path)
    (tmp_path / "landmark_embedding.npy").unlink()
    static = {"lmk_face_idx": FAKE.landmarks["static_lmk_faces_idx"], "lmk_b_coords": FAKE.landmarks["static_lmk_bary_coords"]}
    (tmp_path / "flame_static_embedding.pkl").write_bytes(dump_python2(static))
    with pytest.raises(DatasetError, match=r"has 51 landmarks, expected 68, or 51 with flame_dynamic_embedding\.npy"):
        load_flame(tmp_path)


def test_a_template_of_another_mesh_is_refused(tmp_path: Path) -> None:
    FAKE.write(tmp_path)
    mesh = FAKE.template()
    faces = mesh.faces.clone()
    faces[4] = faces[4, [1, 0, 2]]
    write_obj(tmp_path / "head_template.obj", ObjMesh(mesh.vertices, faces, mesh.uvs, mesh.uv_faces))
    with pytest.raises(DatasetError, match=r"head_template\.obj: its triangles are not those of the model"):
        load_flame(tmp_path)
    write_obj(tmp_path / "head_template.obj", ObjMesh(mesh.vertices, mesh.faces, torch.zeros(0, 2), torch.zeros_like(faces)))
    with pytest.raises(DatasetError, match="has no texture coordinates"):
        load_flame(tmp_path)


class Bomb:
    """An object whose pickle calls a function when it is read in the usual way."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "system"), (eval, "eval"), (os.mkdir, "mkdir"), (np.fromfile, "fromfile")], ids=lambda x: str(x)
)
@pytest.mark.parametrize("file", ["generic_model.pkl", "landmark_embedding.npy", "FLAME_masks.pkl"])
def test_hostile_files_are_refused_by_name_and_run_nothing(
    tmp_path: Path, file: str, function: Callable[..., object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    FAKE.write(tmp_path)
    command = {"system": "mkdir done", "eval": "__import__('os').mkdir('done')"}.get(named, "done")
    bomb = Bomb(function, command)
    if file.endswith(".npy"):
        (tmp_path / file).write_bytes(dump_npy({**FAKE.landmarks, "more": bomb}))
    else:
        record = FAKE.record if file.startswith("generic") else {}
        (tmp_path / file).write_bytes(pickle.dumps({**record, "more": bomb}, protocol=2))
    with pytest.raises(UserError, match=named) as caught:
        load_flame(tmp_path)
    assert file in str(caught.value)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("wrapper", ["chumpy.ch.Ch", "chumpy.reordering.Select"])
def test_objects_of_chumpy_are_never_made(tmp_path: Path, wrapper: str) -> None:
    """A wrapper that is called like a function, or one that holds no plain array, is refused; neither needs chumpy."""
    module, _, name = wrapper.rpartition(".")
    FAKE.write(tmp_path)
    called = b"\x80\x02}U\nv_templatec" + f"{module}\n{name}\n".encode() + b"U\x01x\x85Rs."
    (tmp_path / "generic_model.pkl").write_bytes(called)
    with pytest.raises(UserError, match=wrapper):
        load_flame(tmp_path)


@pytest.mark.parametrize("file", ["generic_model.pkl", "landmark_embedding.npy", "head_template.obj"])
def test_truncated_files_end_in_one_sentence(tmp_path: Path, file: str) -> None:
    FAKE.write(tmp_path, style="chumpy")
    data = (tmp_path / file).read_bytes()
    rng = np.random.default_rng(0)
    for length in [0, 1, 8, 40, *rng.integers(0, len(data), 20).tolist(), len(data) - 40]:
        (tmp_path / file).write_bytes(data[:length])
        with pytest.raises(UserError, match=file) as caught:
            load_flame(tmp_path)
        assert "\n" not in str(caught.value)


def test_flipped_bytes_end_in_one_sentence_or_in_a_head(tmp_path: Path) -> None:
    """Of the parts that are structure: the beginning, and the small arrays at the end."""
    FAKE.write(tmp_path, style="chumpy")
    path = tmp_path / "generic_model.pkl"
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    messages = []
    for position in [*rng.integers(0, 300, 20).tolist(), *rng.integers(len(data) - 9000, len(data), 20).tolist()]:
        path.write_bytes(data[:position] + bytes([data[position] ^ int(rng.integers(1, 256))]) + data[position + 1 :])
        try:
            load_flame(tmp_path)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert not any("\n" in message for message in messages)


def test_plain_files_of_the_right_name_are_refused(tmp_path: Path) -> None:
    FAKE.write(tmp_path)
    (tmp_path / "landmark_embedding.npy").write_bytes(dump_npy({})[:0] + b"\x93NUMPY" + bytes(200))
    with pytest.raises(UserError, match=r"landmark_embedding\.npy"):
        load_flame(tmp_path)
    np.save(tmp_path / "landmark_embedding.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"landmark_embedding\.npy"):
        load_flame(tmp_path)
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(DatasetError, match="holds one list, expected a dictionary"):
        load_flame(tmp_path)


def test_masks_of_vertices_become_regions(tmp_path: Path) -> None:
    """Where FLAME's own masks lie beside the model they are used; other entries of that file are passed over."""
    FAKE.write(tmp_path)
    ear = np.array([30, 31, 32])
    (tmp_path / "FLAME_masks.pkl").write_bytes(dump_python2({"left_ear": ear, "nose": np.arange(5), "scalp": np.arange(20, 40)}))
    head = load_flame(tmp_path)
    regions = head.topology.regions
    outside = ~regions["face"] & ~regions["mouth_interior"]
    assert regions["left_ear"].nonzero().ravel().tolist() == [i for i in ear if outside[i]]
    assert not (regions["left_ear"] & regions["scalp"]).any()
    assert "nose" not in regions
    assert head.fingerprint() == load_flame(FAKE.write(tmp_path / "without")).fingerprint(), "masks are no part of the model"
    (tmp_path / "FLAME_masks.pkl").write_bytes(dump_python2({"left_ear": np.array([COUNT])}))
    with pytest.raises(DatasetError, match=rf"FLAME_masks\.pkl: 'left_ear' names vertex {COUNT}"):
        load_flame(tmp_path)


def test_a_uv_mask_beside_the_model_is_used(tmp_path: Path) -> None:
    FAKE.write(tmp_path)
    made = load_flame(tmp_path).topology.uv_mask
    assert made.shape == (1, 256, 256)
    assert 0 < made.mean() < 1
    Image.new("L", (8, 8), 51).save(tmp_path / "uv_face_eye_mask.png")
    torch.testing.assert_close(load_flame(tmp_path).topology.uv_mask, torch.full((1, 8, 8), 0.2))
