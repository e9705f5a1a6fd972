"""FLAME from files of its form: numbers, posing, landmarks; an independent calculation in NumPy is the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.head import FLAME_VARIABLE, load_head
from next3d.head.flame import load_flame, mirror_map
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix, yaw_in_view
from next3d.render.cameras import orbit_camera
from tests.flame_files import EYE_RADIUS, FakeFlame, dump_npy, dump_python2, fake_flame

FAKE = fake_flame()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAKE.write(tmp_path_factory.mktemp("flame") / "FLAME2020", style="chumpy")


@pytest.fixture(scope="module")
def head(folder: Path) -> LinearHeadModel:
    return load_flame(folder)


def random_params(head: LinearHeadModel, count: int, generator: torch.Generator) -> HeadParams:
    rest = head.neutral(count)
    return HeadParams(
        shape=torch.randn(rest.shape.shape, generator=generator),
        expression=torch.randn(rest.expression.shape, generator=generator),
        pose=0.4 * torch.randn(rest.pose.shape, generator=generator),
        translation=0.1 * torch.randn(rest.translation.shape, generator=generator),
        scale=1 + 0.1 * torch.randn(count, generator=generator),
    )


def vertices_by_hand(record: dict[str, np.ndarray], params: HeadParams) -> np.ndarray:
    """One head [V, 3] by homogeneous matrices, joint by joint (FLAME, Eq. 1-5)."""
    shape, expression, pose = (getattr(params, name)[0].double().numpy() for name in ("shape", "expression", "pose"))
    shaped = record["v_template"] + record["shapedirs"] @ np.concatenate([shape, expression])
    joints = record["J_regressor"] @ shaped
    turns = Rotation.from_rotvec(pose).as_matrix()
    bent = shaped + record["posedirs"] @ np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    moved = np.zeros_like(bent)
    chain: dict[int, np.ndarray] = {}
    for joint, parent in ((0, None), (1, 0), (2, 1), (3, 1), (4, 1)):
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = turns[joint], joints[joint] - (0 if parent is None else joints[parent])
        chain[joint] = step if parent is None else chain[parent] @ step
        about = bent - joints[joint]
        moved += record["weights"][:, joint, None] * (about @ chain[joint][:3, :3].T + chain[joint][:3, 3])
    return OBJECT_TO_WORLD * float(params.scale) * moved + params.translation[0].double().numpy()


def test_neutral_is_the_template_in_world_units(head: LinearHeadModel) -> None:
    expected = torch.from_numpy(FAKE.record["v_template"] * OBJECT_TO_WORLD).float()
    torch.testing.assert_close(head(head.neutral(2)).vertices, expected.expand(2, -1, -1), rtol=0, atol=1e-6)


def test_joints_are_regressed_from_the_shaped_head(head: LinearHeadModel) -> None:
    regressor, directions = FAKE.record["J_regressor"], FAKE.record["shapedirs"]
    torch.testing.assert_close(head.joints.double().numpy(), regressor @ FAKE.record["v_template"], rtol=0, atol=2e-8)
    expected = np.einsum("jv,vak->jak", regressor, directions)
    moving = torch.cat([head.joint_shape_directions, head.joint_expression_directions], dim=2)
    torch.testing.assert_close(moving.double().numpy(), expected, rtol=0, atol=2e-8)


def test_posing_equals_the_calculation_by_hand(head: LinearHeadModel, rng: torch.Generator) -> None:
    for _ in range(3):
        params = random_params(head, 1, rng)
        found = head(params).vertices[0].double().numpy()
        np.testing.assert_allclose(found, vertices_by_hand(FAKE.record, params), rtol=0, atol=5e-6)


def test_correctives_vanish_at_rest_and_only_there(head: LinearHeadModel, folder: Path) -> None:
    other = load_flame(folder)
    other.pose_directions = None
    turned = head.neutral(1)
    turned.pose[0, Joint.GLOBAL] = torch.tensor([0.2, 0.3, 0.1])  # the global rotation bends nothing
    assert torch.equal(head(turned).vertices, other(turned).vertices)
    turned.pose[0, Joint.JAW, 0] = 0.3
    assert (head(turned).vertices - other(turned).vertices).abs().max() > 1e-4


@pytest.mark.parametrize(("joint", "place"), [(Joint.JAW, "chin"), (Joint.LEFT_EYE, "left pupil"), (Joint.RIGHT_EYE, "right pupil")])
def test_positive_x_opens_the_jaw_and_lowers_the_eyes_and_positive_y_turns_to_the_left(
    head: LinearHeadModel, joint: Joint, place: str
) -> None:
    template = head.template
    moving = template[:, 2] + 10 * head.weights[:, joint] if place != "chin" else template[:, 2] - template[:, 1]
    vertex = int(moving.argmax())
    head = load_flame_without_correctives(head)
    for axis, (coordinate, sign) in {0: (1, -1), 1: (0, 1)}.items():
        params = head.neutral(1)
        params.pose[0, joint, axis] = 0.2
        moved = head(params).vertices[0, vertex] - OBJECT_TO_WORLD * template[vertex]
        assert sign * moved[coordinate] > 0.15 * OBJECT_TO_WORLD * EYE_RADIUS


def load_flame_without_correctives(head: LinearHeadModel) -> LinearHeadModel:
    """The random correctives would hide the direction of a turn."""
    import copy

    head = copy.deepcopy(head)
    head.pose_directions = None
    return head


def test_gradients_reach_every_parameter(folder: Path, rng: torch.Generator) -> None:
    """Central differences along a random direction, in double precision; through the contour landmarks, too."""
    model = load_flame(folder).double()
    params = random_params(model, 1, rng).map(lambda tensor: tensor.double().requires_grad_())
    probe = torch.randn(1, 68, 3, generator=rng).double()

    def loss(at: HeadParams) -> Tensor:
        mesh = model(at)
        return ((model.topology.outline_landmarks(mesh.vertices, yaw_in_view(at.pose)) + mesh.landmarks) * probe).sum()

    loss(params).backward()
    for name, tensor in vars(params).items():
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name
        step = 1e-6 * torch.randn(tensor.shape, generator=rng).double()
        with torch.no_grad():
            difference = loss(replace(params, **{name: tensor + step})) - loss(replace(params, **{name: tensor - step}))
        torch.testing.assert_close(2 * (tensor.grad * step).sum(), difference, rtol=1e-4, atol=1e-10)


def test_every_way_of_writing_gives_the_same_model(tmp_path: Path, head: LinearHeadModel) -> None:
    for style in ("plain", "modern", "chumpy"):
        other = load_flame(FAKE.write(tmp_path / style, style=style))
        assert other.fingerprint() == head.fingerprint(), style


def test_another_number_is_another_fingerprint(tmp_path: Path, head: LinearHeadModel) -> None:
    changed = FAKE.record["shapedirs"].copy()
    changed[7, 1, 350] += 1e-3
    assert load_flame(FAKE.changed(shapedirs=changed).write(tmp_path)).fingerprint() != head.fingerprint()


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("FLAME2020/generic_model.pkl", "flame-2020"),
        ("flame_2023/generic_model.pkl", "flame-2023"),
        ("models/flame2023.pkl", "flame-2023"),
        ("FLAME2020/flame2023_no_jaw.pkl", "flame-2023"),
        ("models/generic_model.pkl", "flame"),
        ("models/female_model.pkl", "flame"),
    ],
)
def test_the_version_is_read_from_names_and_not_invented(tmp_path: Path, place: str, expected: str) -> None:
    path = tmp_path / place
    FAKE.write(path.parent, name=path.name)
    assert load_flame(path).identifier == load_flame(path.parent).identifier == expected


def test_triangles_keep_the_models_order_and_get_their_own_texture(head: LinearHeadModel) -> None:
    """The OBJ file has its triangles in another order; landmarks count in the model's."""
    assert torch.equal(head.topology.faces, torch.from_numpy(FAKE.record["f"].astype(np.int64)))
    expected = FAKE.uvs[FAKE.uv_faces]
    torch.testing.assert_close(head.topology.uvs[head.topology.uv_faces], expected, rtol=0, atol=1e-7)


def contour_row(head: LinearHeadModel, yaw: float) -> int:
    """Which row of the file the jaw's landmarks of the template come from."""
    vertices = head.template[None]
    points = head.topology.outline_landmarks(vertices, torch.tensor([yaw]))[0, :17]
    faces = torch.from_numpy(np.stack(FAKE.landmarks["dynamic_lmk_faces_idx"]))
    weights = torch.from_numpy(np.stack(FAKE.landmarks["dynamic_lmk_bary_coords"])).float()
    rows = (vertices[0][head.topology.faces[faces]] * weights[..., None]).sum(2)  # [79, 17, 3]
    return int((rows - points).abs().amax(dim=(1, 2)).argmin())


@pytest.mark.parametrize(
    ("degrees", "row"),
    [(0, 0), (0.4, 0), (-0.4, 0), (-1, 1), (-38.7, 39), (-39, 39), (-80, 39), (0.6, 40), (1, 40), (20, 59), (39, 78), (75, 78)],
)
def test_the_contour_follows_the_yaw(head: LinearHeadModel, degrees: float, row: int) -> None:
    assert contour_row(head, math.radians(degrees)) == row


def test_contours_of_a_batch_are_those_of_its_rows(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = random_params(head, 4, rng)
    vertices, yaw = head(params).vertices, yaw_in_view(params.pose)
    together = head.topology.outline_landmarks(vertices, yaw)
    alone = [head.topology.outline_landmarks(vertices[row : row + 1], yaw[row : row + 1]) for row in range(4)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together[:, 17:], head.topology.landmarks(vertices)[:, 17:]), "only the jaw's landmarks wander"


def test_other_topologies_have_no_contour() -> None:
    procedural = load_head("procedural")
    with pytest.raises(ValueError, match="no contour landmarks"):
        procedural.topology.outline_landmarks(torch.zeros(1, 9000, 3), torch.zeros(1))


def test_yaw_counts_global_and_neck_but_not_nods_tilts_and_the_jaw() -> None:
    pose = torch.zeros(4, 5, 3)
    pose[0, Joint.GLOBAL, 1], pose[0, Joint.NECK, 1] = 0.2, 0.3
    pose[1, Joint.GLOBAL, 2], pose[1, Joint.NECK, 0] = 0.7, -0.5
    pose[2, Joint.JAW], pose[2, Joint.LEFT_EYE] = 0.5, 0.5
    pose[3, Joint.GLOBAL, 1], pose[3, Joint.NECK, 0] = -0.4, 0.6
    torch.testing.assert_close(yaw_in_view(pose), torch.tensor([0.5, 0.0, 0.0, -0.4]), rtol=0, atol=1e-6)


def test_turning_the_camera_is_turning_the_head_the_other_way() -> None:
    """A camera that swings to the person's left sees the head turned to its right."""
    pose = torch.zeros(3, 5, 3)
    pose[2, Joint.GLOBAL, 1] = 0.3
    camera = orbit_camera(torch.tensor([0.0, 0.3, 0.3]), torch.zeros(3))
    assert camera.cam2world[1, 0, 3] > 0
    torch.testing.assert_close(yaw_in_view(pose, camera), torch.tensor([0.0, -0.3, 0.0]), rtol=0, atol=1e-5)


def test_landmarks_of_separate_files_are_the_same(tmp_path: Path, head: LinearHeadModel) -> None:
    """FLAME's other users have a static embedding of 51 points and a dynamic one, with other names inside."""
    FAKE.write(tmp_path)
    (tmp_path / "landmark_embedding.npy").unlink()
    entries = FAKE.landmarks
    static = {"lmk_face_idx": entries["static_lmk_faces_idx"], "lmk_b_coords": entries["static_lmk_bary_coords"]}
    dynamic = {"lmk_face_idx": entries["dynamic_lmk_faces_idx"], "lmk_b_coords": entries["dynamic_lmk_bary_coords"]}
    (tmp_path / "flame_static_embedding.pkl").write_bytes(dump_python2(static))
    (tmp_path / "flame_dynamic_embedding.npy").write_bytes(dump_npy(dynamic))
    other = load_flame(tmp_path)
    assert other.fingerprint() == head.fingerprint()
    for name in ("contour_faces", "contour_barycentrics"):
        assert torch.equal(getattr(other.topology, name), getattr(head.topology, name)), name


def test_tensors_in_the_embedding_are_read(tmp_path: Path, head: LinearHeadModel) -> None:
    """DECA's landmark_embedding.npy holds the contour as tensors of torch, which are objects of their own in a pickle."""
    FAKE.write(tmp_path)
    tensors = {key: torch.from_numpy(np.stack(FAKE.landmarks[key])) for key in ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")}
    (tmp_path / "landmark_embedding.npy").write_bytes(dump_npy({**FAKE.landmarks, **tensors}))
    other = load_flame(tmp_path)
    for name in ("contour_faces", "contour_barycentrics"):
        assert torch.equal(getattr(other.topology, name), getattr(head.topology, name)), name


def test_without_a_contour_there_are_still_68_landmarks(tmp_path: Path, head: LinearHeadModel) -> None:
    FAKE.write(tmp_path)
    full = {key: value for key, value in FAKE.landmarks.items() if key.startswith("full")}
    (tmp_path / "landmark_embedding.npy").write_bytes(dump_npy(full))
    other = load_flame(tmp_path)
    assert other.topology.contour_faces is None
    assert torch.equal(other(other.neutral(1)).landmarks, head(head.neutral(1)).landmarks)


def test_the_mirror_map_pairs_vertices_or_is_not_there(head: LinearHeadModel, tmp_path: Path) -> None:
    order = head.topology.mirror_vertices
    assert order is not None
    assert torch.equal(order[order], torch.arange(len(order)))
    flipped = head.template[order] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(flipped, head.template, rtol=0, atol=1e-6)
    lopsided = FAKE.record["v_template"] * np.where(FAKE.record["v_template"][:, :1] > 0, 1.1, 1.0)
    assert mirror_map(lopsided) is None


def test_eyeballs_are_found_as_separate_parts(head: LinearHeadModel) -> None:
    regions = head.topology.regions
    assert torch.equal(regions["left_eye"], head.weights[:, Joint.LEFT_EYE] == 1)
    assert torch.equal(regions["right_eye"], head.weights[:, Joint.RIGHT_EYE] == 1)
    assert (head.template[regions["left_iris"], 2] > 0.05 + 0.8 * EYE_RADIUS).all()
    assert not (regions["left_iris"] & ~regions["left_eye"]).any()


def test_load_head_finds_it_by_name_and_by_path(head: LinearHeadModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FLAME_VARIABLE, str(folder))
    for name in ("flame", str(folder), str(folder / "generic_model.pkl")):
        found = load_head(name)
        assert found.identifier == "flame-2020"
        assert found.fingerprint() == head.fingerprint()
    assert head.shape_names[299] == "shape299"
    assert head.expression_names[0] == "expression000"


def test_files_may_lie_one_folder_up_and_have_other_cases(tmp_path: Path, head: LinearHeadModel) -> None:
    FAKE.write(tmp_path / "data")
    (tmp_path / "data" / "FLAME").mkdir()
    (tmp_path / "data" / "generic_model.pkl").rename(tmp_path / "data" / "FLAME" / "Generic_Model.PKL")
    (tmp_path / "data" / "head_template.obj").rename(tmp_path / "data" / "Head_Template.obj")
    for path in (tmp_path, tmp_path / "data", tmp_path / "data" / "FLAME" / "Generic_Model.PKL"):
        assert load_flame(path).fingerprint() == head.fingerprint()


def test_rotations_about_the_root_are_rigid(head: LinearHeadModel) -> None:
    params = head.neutral(1)
    params.pose[0, Joint.GLOBAL] = torch.tensor([0.1, -0.7, 0.3])
    turn = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL])
    root = head.joints[Joint.GLOBAL]
    expected = OBJECT_TO_WORLD * ((head.template - root) @ turn[0].T + root)
    torch.testing.assert_close(head(params).vertices[0], expected, rtol=0, atol=1e-6)


def test_a_fake_has_what_the_real_one_has() -> None:
    """The tests' own files stay true to FLAME's form."""
    assert isinstance(FAKE, FakeFlame)
    assert FAKE.record["shapedirs"].shape[1:] == (3, 400)
    assert FAKE.record["posedirs"].shape[1:] == (3, 36)
    assert FAKE.record["kintree_table"][0, 0] == 2**32 - 1


def detector_file(folder: Path, **changes: np.ndarray) -> Path:
    """`mediapipe_landmark_embedding.npz` with three points on the first triangles."""
    entries = {
        "lmk_face_idx": np.array([0, 1, 5]),
        "lmk_b_coords": np.array([[1.0, 0, 0], [0.2, 0.3, 0.5], [0, 0.5, 0.5]]),
        "landmark_indices": np.array([276, 1, 33]),
    }
    np.savez(folder / "mediapipe_landmark_embedding.npz", **{**entries, **changes})
    return folder


def test_points_of_the_detector_lie_on_the_triangles_that_the_file_names(tmp_path: Path, head: LinearHeadModel) -> None:
    """They do not count in the fingerprint: data and model agree without them."""
    model = load_flame(detector_file(FAKE.write(tmp_path)))
    assert model.detector_points is not None
    assert model.detector_points.numbers.tolist() == [276, 1, 33]
    corners = model.template[model.topology.faces[1]]
    expected = 0.2 * corners[0] + 0.3 * corners[1] + 0.5 * corners[2]
    torch.testing.assert_close(model.detector_points.embedding.place(model.template)[1], expected)
    assert model.fingerprint() == head.fingerprint()
    assert head.detector_points is None


BAD_POINTS = {
    "another model's triangle": ({"lmk_face_idx": np.array([0, 1, 999_999])}, "names triangle"),
    "no such point": ({"landmark_indices": np.array([0, 1, 478])}, "names point 478"),
    "too few numbers": ({"landmark_indices": np.array([0, 1])}, "landmark_indices"),
    "objects": ({"landmark_indices": np.array([None, 1, 2], dtype=object)}, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
def test_bad_points_of_the_detector_are_named(case: str, tmp_path: Path) -> None:
    changes, complaint = BAD_POINTS[case]
    folder = detector_file(FAKE.write(tmp_path), **changes)
    with pytest.raises(DatasetError, match=complaint):
        load_flame(folder)
