"""Shape directions: how many, how large, and that each does what its name says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from next3d.head.model import Joint, LinearHeadModel
from next3d.head.procedural import CM_TO_WORLD, procedural_head
from next3d.head.shapes import BLEND_STRENGTH, BLENDS, LID_SHAPES

CM = CM_TO_WORLD


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    return procedural_head()


def moved_landmarks(head: LinearHeadModel, name: str, amount: float = 2.0) -> Tensor:
    """[68, 3]: displacement of the landmarks, cm."""
    params = head.neutral(1)
    params.shape[0, head.shape_index(name)] = amount
    return (head(params).landmarks[0] - head(head.neutral(1)).landmarks[0]) / CM


def test_at_least_sixty_of_sensible_size(head: LinearHeadModel) -> None:
    assert len(set(head.shape_names)) == len(head.shape_names) >= 60
    largest = head.shape_directions.norm(dim=1).amax(0) * 2.5 / CM
    for name, reach in zip(head.shape_names, largest.tolist(), strict=True):
        assert 0.04 < reach < 1.0, name


def test_no_direction_repeats_another(head: LinearHeadModel) -> None:
    flat = torch.nn.functional.normalize(head.shape_directions.flatten(0, 1), dim=0)
    alike = (flat.T @ flat).abs() - torch.eye(flat.shape[1])
    assert alike.max() < 0.95


def test_blends_are_sums_of_features_that_exist(head: LinearHeadModel) -> None:
    for name, parts in BLENDS.items():
        total = sum(BLEND_STRENGTH * share * head.shape_directions[..., head.shape_index(part)] for part, share in parts.items())
        assert isinstance(total, Tensor)
        torch.testing.assert_close(head.shape_directions[..., head.shape_index(name)], total, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "landmark", "axis", "sign"),
    [
        ("midface_length", 33, 1, -1), ("jaw_projection", 8, 2, 1), ("face_taper", 16, 0, 1), ("nose_tip_width", 30, 0, 0),
        ("columella", 33, 1, -1), ("nostril_flare", 35, 0, 1), ("brow_distance", 22, 0, 1), ("brow_angle", 26, 1, 1),
        ("brow_angle", 22, 1, -1), ("mouth_corners", 54, 1, 1), ("upper_lip_fullness", 51, 1, 1), ("upper_lip_fullness", 57, 1, 0),
        ("lower_lip_fullness", 57, 1, -1), ("philtrum_length", 51, 1, -1), ("lid_height", 43, 1, 1), ("lid_slant", 44, 1, 1),
        ("nose_root", 27, 2, 1), ("masculine", 8, 1, -1), ("childlike", 8, 1, 1),
    ],
)  # fmt: skip
def test_names_mean_what_they_say(head: LinearHeadModel, name: str, landmark: int, axis: int, sign: int) -> None:
    change = float(moved_landmarks(head, name)[landmark, axis])
    assert change * sign > 0.05 if sign else abs(change) < 0.03


def test_lips_stay_closed_whoever_it_is(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = head.neutral(20)
    params.shape.copy_(torch.randn(params.shape.shape, generator=rng).clamp(-2.2, 2.2))
    landmarks = head(params).landmarks
    assert (landmarks[:, 61:64] - landmarks[:, [67, 66, 65]]).norm(dim=-1).max() < 1e-2 * CM


def test_lid_shapes_leave_eyeballs_and_joints_alone(head: LinearHeadModel) -> None:
    for name in LID_SHAPES:
        index = head.shape_index(name)
        assert not head.joint_shape_directions[..., index].any()
        assert not head.shape_directions[head.topology.regions["left_eye"], :, index].any()


def test_eyes_stay_on_their_joints(head: LinearHeadModel, rng: torch.Generator) -> None:
    """The centre of each eyeball is its joint, for any identity."""
    shape = torch.randn(len(head.shape_names), generator=rng)
    joints = head.joints + head.joint_shape_directions @ shape
    vertices = head.template + head.shape_directions @ shape
    for side, joint in (("left", Joint.LEFT_EYE), ("right", Joint.RIGHT_EYE)):
        ball = vertices[head.topology.regions[f"{side}_eye"]]
        distance = (ball - joints[joint]).norm(dim=1)
        assert (distance - distance.mean()).abs().max() < 1e-4
