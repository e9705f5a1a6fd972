"""Heads from the files of other trackers: a known head is written as each of them writes it, and comes back where it was seen."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torch import Tensor

from dnnlib.errors import UserError
from next3d.head import load_head
from next3d.head.flame import load_flame
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix
from next3d.render.cameras import PORTRAIT_FOCAL, PORTRAIT_RADIUS
from next3d.tracking.importers import ImportedHead, open_heads, place_in_crop
from next3d.tracking.importers.place import ANCHORS
from next3d.tracking.types import CropFrame, HeadFit
from tests.flame_files import fake_flame

FRAME = CropFrame(left=130.0, top=85.0, side=240.0)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> LinearHeadModel:
    return load_flame(fake_flame().write(tmp_path_factory.mktemp("flame")))


@pytest.fixture
def known(head: LinearHeadModel, rng: torch.Generator) -> HeadParams:
    """A head with the coefficients that DECA has, turned, its mouth open, its eyes straight."""
    params = head.neutral(1)
    params.shape[0, :100] = torch.randn(100, generator=rng)
    params.expression[0, :50] = torch.randn(50, generator=rng)
    params.pose[0, Joint.GLOBAL] = torch.tensor([0.1, 0.4, -0.15])
    params.pose[0, Joint.JAW] = torch.tensor([0.12, 0.02, 0.0])
    return replace(params, translation=torch.tensor([[0.05, -0.04, -0.1]]))


def crop_view(points: Tensor) -> np.ndarray:
    """Photo coordinates [K, 2] of world points [K, 3] before the crop's camera."""
    depth = PORTRAIT_RADIUS - points[:, 2:]
    unit = points[:, :2] * points.new_tensor([1.0, -1.0]) / depth * PORTRAIT_FOCAL + 0.5
    return FRAME.to_photo(unit.double().numpy())


def detected(landmarks: np.ndarray) -> np.ndarray:
    """What a perfect detector finds [478, 3] where landmarks [68, 2] are seen."""
    points = np.zeros((478, 3))
    for ours, theirs in ANCHORS.items():
        points[theirs, :2] = landmarks[ours]
    return points


def shown(head: LinearHeadModel, fit: HeadFit) -> np.ndarray:
    """Photo coordinates [V, 2] of a placed head."""
    return crop_view(head(fit.params).vertices[0])


def codes(params: HeadParams) -> dict[str, np.ndarray]:
    pose = params.pose[0].double().numpy()
    return {
        "shape": params.shape[:, :100].numpy(),
        "exp": params.expression[:, :50].numpy(),
        "pose": np.concatenate([pose[Joint.GLOBAL], pose[Joint.JAW]])[None].astype(np.float32),
    }


def track(params: HeadParams, frames: int = 1) -> dict[str, np.ndarray]:
    pose = params.pose[0].numpy()
    rows = {
        "expr": params.expression.numpy(),
        "rotation": pose[None, Joint.GLOBAL],
        "neck_pose": pose[None, Joint.NECK],
        "jaw_pose": pose[None, Joint.JAW],
        "eyes_pose": pose[None, [Joint.LEFT_EYE, Joint.RIGHT_EYE]].reshape(1, 6),
        "translation": params.translation.numpy() / OBJECT_TO_WORLD,
    }
    before = {key: np.zeros((frames - 1, *row.shape[1:]), np.float32) for key, row in rows.items()}
    return {"shape": params.shape[0].numpy(), **{key: np.concatenate([before[key], row]) for key, row in rows.items()}}


def found(files: Path, kind: str, head: LinearHeadModel, name: str, index: int | None = None) -> ImportedHead:
    imported = open_heads(files, kind, head).find(name, index)  # type: ignore[arg-type]
    assert imported is not None
    return imported


@pytest.mark.parametrize("tracker", ["emoca", "vhap"])
def test_without_a_camera_landmarks_say_where_the_head_is(tracker: str, head: LinearHeadModel, known: HeadParams, tmp_path: Path) -> None:
    """A head in front of the camera comes back to where every vertex was seen, except for what turning with the line of sight changes."""
    if tracker == "emoca":
        (tmp_path / "results" / "anna00").mkdir(parents=True)
        for name, array in codes(known).items():
            np.save(tmp_path / "results" / "anna00" / f"{name}.npy", array[0])
    else:
        known.pose[0, Joint.LEFT_EYE] = torch.tensor([0.1, -0.2, 0.0])
        np.savez(tmp_path / "tracked_flame_params_3.npz", **track(known))
    mesh = head(replace(known, translation=torch.tensor([[0.0, 0.0, 0.1]])))
    middle = mesh.landmarks[0, list(ANCHORS)].mean(0) * torch.tensor([1.0, 1.0, 0.0])  # in the crop's middle there is no turn
    imported = found(tmp_path, tracker, head, "photos/anna.jpg")
    assert imported.lacks_gaze is (tracker == "emoca")
    fit = place_in_crop(head, imported, FRAME, detected(crop_view(mesh.landmarks[0] - middle)))
    assert abs(shown(head, fit) - crop_view(mesh.vertices[0] - middle)).max() < 0.05
    assert fit.error < 1e-3
    torch.testing.assert_close(fit.params.expression, known.expression)


@pytest.mark.parametrize("ending", [".mat", ".npz", ".npy", ".pkl"])
@pytest.mark.parametrize("form", ["loader", "demonstration"])
def test_deca_heads_are_as_large_and_where_deca_saw_them(
    ending: str, form: str, head: LinearHeadModel, known: HeadParams, tmp_path: Path
) -> None:
    """Middle and size of the face agree with the orthographic picture, in photo pixels; perspective may differ."""
    cam = np.array([[8.0, 0.01, 0.02]])
    tform = np.array([[0.9, 0.0, -95.0], [0.0, 0.9, -70.0], [0.0, 0.0, 1.0]])
    stored = {**codes(known), "cam": cam, "tform": tform[None] if form == "loader" else np.linalg.inv(tform).T[None]}
    path = tmp_path / "anna" / f"anna{ending}"
    path.parent.mkdir()
    if ending == ".mat":
        scipy.io.savemat(path, stored)
    elif ending == ".npz":
        np.savez(path, **stored)
    else:
        path.write_bytes(pickle.dumps(stored)) if ending == ".pkl" else np.save(path, np.array(stored, dtype=object))
    upright = head(replace(known, translation=torch.zeros(1, 3))).landmarks[0].double().numpy() / OBJECT_TO_WORLD
    in_crop = 112 * (1 + cam[0, 0] * (upright[:, :2] + cam[0, 1:]) * (1, -1))
    seen = (in_crop - tform[:2, 2]) / 0.9
    fit = place_in_crop(head, found(tmp_path, "deca", head, "anna.png"), FRAME, detected(seen))
    placed = crop_view(head(fit.params).landmarks[0])[list(ANCHORS)]
    expected = seen[list(ANCHORS)]
    assert abs(placed.mean(0) - expected.mean(0)).max() < 2
    assert np.linalg.norm(placed - placed.mean(0)) == pytest.approx(np.linalg.norm(expected - expected.mean(0)), rel=0.04)
    assert fit.error < 0.05


def exported(folder: Path, params: HeadParams, cam2world: np.ndarray, focal: float, centre: tuple[float, float]) -> Path:
    folder.mkdir(parents=True)
    np.savez(folder / "00004.npz", **track(params))
    frame = {
        "timestep_index": 4,
        "flame_param_path": "00004.npz",
        "transform_matrix": (cam2world @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist(),
        "fl_x": focal,
        "fl_y": focal,
        "cx": centre[0],
        "cy": centre[1],
        "w": 640,
        "h": 480,
    }
    (folder / "transforms.json").write_text(json.dumps({"frames": [frame]}))
    return folder


def other_camera(direction: tuple[float, float, float]) -> np.ndarray:
    """Somewhere in the other tracker's world, object units, OpenCV axes."""
    cam2world = np.eye(4)
    turn = axis_angle_to_matrix(torch.tensor(direction, dtype=torch.float64)).numpy()
    cam2world[:3, :3] = turn @ np.diag([1.0, -1.0, -1.0])
    cam2world[:3, 3] = turn @ (0.02, 0.01, 1.1)
    return cam2world


def test_a_pinhole_camera_on_the_crop_itself_is_kept_to_the_pixel(head: LinearHeadModel, known: HeadParams, tmp_path: Path) -> None:
    """With the crop's own focal length and middle, every vertex of the head stays where it was, whatever world it comes from."""
    cam2world = other_camera((0.2, -0.5, 0.1))
    focal, centre = PORTRAIT_FOCAL * FRAME.side, (FRAME.left + FRAME.side / 2, FRAME.top + FRAME.side / 2)
    exported(tmp_path / "film", known, cam2world, focal, centre)
    local = (head(known).vertices[0].double().numpy() / OBJECT_TO_WORLD - cam2world[:3, 3]) @ cam2world[:3, :3]
    seen = local[:, :2] / local[:, 2:] * focal + centre
    fit = place_in_crop(head, found(tmp_path, "vhap", head, "film.mp4", 4), FRAME, detected(np.zeros((68, 2))))
    assert abs(shown(head, fit) - seen).max() < 0.05
    assert open_heads(tmp_path, "vhap", head).find("film.mp4", 5) is None


def test_a_crop_beside_the_middle_shows_the_same_side_of_the_head(head: LinearHeadModel, known: HeadParams, tmp_path: Path) -> None:
    """Another principal point and focal length: same place and size in the photo, and the vertices within what perspective changes."""
    cam2world, focal, centre = other_camera((0.1, 0.2, 0.0)), 700.0, (420.0, 100.0)
    exported(tmp_path / "film_export", known, cam2world, focal, centre)

    def pinhole(points: Tensor) -> np.ndarray:
        local = (points.double().numpy() / OBJECT_TO_WORLD - cam2world[:3, 3]) @ cam2world[:3, :3]
        return np.asarray(local[:, :2] / local[:, 2:] * focal + centre)

    mesh = head(known)
    seen = pinhole(mesh.landmarks[0])
    frame = CropFrame(*(seen[list(ANCHORS)].mean(0) - 100), 200.0)
    fit = place_in_crop(head, found(tmp_path, "vhap", head, "film.mp4", 4), frame, detected(seen))
    assert fit.error < 0.04
    assert fit.params.translation[0, :2].abs().max() < 0.3


class Nasty:
    """What a harmful pickle asks for."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def _npy(value: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(value, dtype=object), allow_pickle=True)
    return stream.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


GOOD = {"shape": np.zeros((1, 100)), "exp": np.zeros((1, 50)), "pose": np.zeros((1, 6))}
BAD = {
    "pickle that runs something": ("deca", "a.pkl", pickle.dumps(Nasty()), "posix"),
    "object array that runs something": ("deca", "a.npy", _npy(Nasty()), "posix"),
    "text": ("deca", "a.mat", b"not a matlab file at all, only text" * 20, "cannot be read"),
    "empty file": ("deca", "a.npz", b"", "cannot be read"),
    "cut short": ("deca", "a.npz", _npz(**GOOD)[:300], "cannot be read"),
    "no pose": ("deca", "a.npz", _npz(shape=GOOD["shape"], exp=GOOD["exp"]), "'pose'"),
    "meshes instead of codes": ("deca", "a.npz", _npz(verts=np.zeros((5023, 3))), "encode"),
    "pose of another width": ("deca", "a.npz", _npz(**{**GOOD, "pose": np.zeros((1, 7))}), "6 numbers"),
    "more shapes than FLAME": ("deca", "a.npz", _npz(**{**GOOD, "shape": np.zeros((1, 301))}), "up to 300"),
    "not finite": ("deca", "a.npz", _npz(**{**GOOD, "exp": np.full((1, 50), np.nan)}), "NaN"),
    "no crop": ("deca", "a.npz", _npz(**GOOD, cam=np.ones((1, 3)), tform=np.ones((1, 3, 3))), "tform"),
    "EMOCA with objects": ("emoca", "a/pose.npy", _npy(Nasty()), "plain numbers"),
    "EMOCA without shape": ("emoca", "a/pose.npy", b"", "no shape.npy"),
    "VHAP without rotation": ("vhap", "tracked_flame_params_1.npz", _npz(shape=np.zeros(300)), "'rotation'"),
    "VHAP export that is a list": ("vhap", "transforms.json", b"[]", "transforms.json"),
    "VHAP export that leaves its folder": (
        "vhap",
        "transforms.json",
        json.dumps(
            {
                "frames": [
                    {"timestep_index": 0, "flame_param_path": "../../x.npz", "transform_matrix": np.eye(4).tolist()}
                    | {"fl_x": 1, "cx": 1, "cy": 1}
                ]
            }
        ).encode(),
        "leaves the folder",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_and_nothing_in_them_runs(
    case: str, head: LinearHeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name, content, complaint = BAD[case]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if case == "EMOCA with objects":
        np.save(path.with_name("shape.npy"), np.zeros(100))
        np.save(path.with_name("exp.npy"), np.zeros(50))
    with pytest.raises(UserError, match=complaint) as caught:
        open_heads(tmp_path / "results", kind, head).find("a.png", 0 if kind == "vhap" else None)  # type: ignore[arg-type]
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
    assert not (tmp_path / "harmed").exists()


def test_other_head_models_and_empty_folders_are_refused(head: LinearHeadModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--head flame"):
        open_heads(tmp_path, "deca", load_head("procedural"))
    for kind in ("deca", "emoca", "vhap"):
        with pytest.raises(UserError, match=kind.upper()):
            open_heads(tmp_path, kind, head)  # type: ignore[arg-type]


def _emoca(folder: Path, mark: float) -> None:
    folder.mkdir(parents=True)
    for name, array in {**GOOD, "exp": np.full((1, 50), mark)}.items():
        np.save(folder / f"{name}.npy", array)


def test_files_find_their_pictures(head: LinearHeadModel, tmp_path: Path) -> None:
    """Names that repeat are told apart by their folders; frames come in natural order, the first face of each; others have none."""
    _emoca(tmp_path / "paris" / "anna00", 1)
    _emoca(tmp_path / "rome" / "anna00", 2)
    _emoca(tmp_path / "walk" / "000009_000", 3)
    _emoca(tmp_path / "walk" / "000010_000", 4)
    _emoca(tmp_path / "walk" / "000010_001", 5)
    heads = open_heads(tmp_path, "emoca", head)

    def mark(name: str, index: int | None = None) -> float | None:
        imported = heads.find(name, index)
        return None if imported is None else float(imported.params.expression[0, 0])

    assert (mark("photos/paris/Anna.JPG"), mark("photos/rome/anna.png")) == (1, 2)
    assert [mark("walk.mp4", index) for index in range(3)] == [3, 4, None]
    assert mark("berta.png") is None
    with pytest.raises(UserError, match="several"):
        heads.find("anna.png")
