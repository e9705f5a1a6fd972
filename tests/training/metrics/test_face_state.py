"""What faces show: expression apart from identity and pose, mirror images, distances of known size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams, Joint, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.render.cameras import mirrored_camera, orbit_camera
from next3d.synthetic.sampling import sample_camera, sample_params
from training.metrics.face_state import (
    FaceState,
    avatar_controls,
    expression_distance,
    eye_distance,
    gaze_distance,
    landmark_distance,
    mirrored_state,
    pose_distance,
    true_state,
)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("procedural")


@pytest.fixture(scope="module")
def params(head) -> HeadParams:
    return sample_params(head, torch.Generator().manual_seed(1), 6)


def state_of(head: HeadModel, params: HeadParams) -> FaceState:
    return true_state(head, params, sample_camera(torch.Generator().manual_seed(2), 6), avatar_controls(head))


def test_axis_angle_is_inverted(rng):
    rotation = torch.randn(20, 3, generator=rng)
    rotation[0] = 0
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(rotation)), rotation, atol=1e-5, rtol=1e-4)


def test_rows_hold_everything(head, params):
    state = state_of(head, params)
    again = FaceState.from_rows(state.to_rows())
    for name, value in vars(state).items():
        assert torch.equal(vars(again)[name], value), name


def test_mirror_images_show_the_mirrored_state(head, params):
    camera, known = sample_camera(torch.Generator().manual_seed(2), 6), avatar_controls(head)
    direct = true_state(head, head.mirror(params), mirrored_camera(camera), known)
    seen = mirrored_state(true_state(head, params, camera, known), known)
    for name, value in vars(seen).items():
        torch.testing.assert_close(vars(direct)[name], value, atol=2e-4, rtol=0, msg=name)


def test_expression_is_apart_from_who_and_where(head, params):
    moved = replace(params, shape=-params.shape, translation=params.translation + 0.1, scale=1.1 * params.scale)
    pose = moved.pose.clone()
    pose[:, [Joint.GLOBAL, Joint.NECK, Joint.LEFT_EYE, Joint.RIGHT_EYE]] += 0.2
    before, after = state_of(head, params), state_of(head, replace(moved, pose=pose))
    assert torch.equal(before.expression, after.expression)
    assert expression_distance(before, after).max() == 0
    neutral = state_of(head, replace(params, expression=0 * params.expression, pose=0 * params.pose))
    assert neutral.expression.abs().max() < 1e-6
    assert (expression_distance(before, neutral) > 1).all()


def test_distances_have_the_size_of_the_mistake(head, params):
    state = state_of(head, params)
    turn = axis_angle_to_matrix(torch.tensor([[0.0, 0.1, 0.0]]))
    turned = replace(state, rotation=matrix_to_axis_angle(turn @ axis_angle_to_matrix(state.rotation)))
    torch.testing.assert_close(pose_distance(state, turned), torch.full([6], 5.7296), atol=1e-3, rtol=0)
    ahead = replace(state, gaze=torch.zeros(6, 2))
    aside = replace(state, gaze=torch.tensor([0.0, 0.2]).expand(6, 2))
    torch.testing.assert_close(gaze_distance(ahead, aside), torch.full([6], 11.459), atol=1e-3, rtol=0)
    shifted = replace(state, landmarks=state.landmarks + torch.tensor([2 / 64, 0.0]))
    torch.testing.assert_close(landmark_distance(state, shifted, 64), torch.ones(6))


def test_rotation_is_relative_to_the_camera(head):
    """A camera that went to the face's left sees the head turned to the picture's left."""
    neutral = head.neutral(1)
    state = true_state(head, neutral, orbit_camera(torch.tensor([0.3]), torch.tensor([0.0])), avatar_controls(head))
    torch.testing.assert_close(state.rotation, torch.tensor([[0.0, -0.3, 0.0]]), atol=1e-5, rtol=0)


def test_eye_distance_does_not_shrink_with_the_turn(head):
    yaw = torch.tensor([0.0, 0.6])
    found = eye_distance(head, head.neutral(2), orbit_camera(yaw, torch.zeros(2)), 64)
    assert found[1] == pytest.approx(float(found[0]), rel=0.05)
    camera = orbit_camera(yaw, torch.zeros(2))
    landmarks = true_state(head, head.neutral(2), camera, avatar_controls(head)).landmarks
    assert found[0] == pytest.approx(32 * float((landmarks[0, 36] - landmarks[0, 45]).norm()), rel=0.02)
