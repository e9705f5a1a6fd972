"""Who is drawn: the distributions that training relies on, and the keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from next3d.head.model import HeadModel, Joint
from next3d.render.cameras import project
from next3d.synthetic.looks import sample_look
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import (
    PORTRAIT_CAMERAS,
    WIDE_CAMERAS,
    CameraRange,
    keyed_camera,
    keyed_params,
    sample_camera,
    sample_expression,
    sample_gaze,
    sample_jaw,
    sample_params,
)
from next3d.types import Camera


def test_jaw_is_often_closed_and_otherwise_spread_over_its_range(rng: torch.Generator) -> None:
    jaw = sample_jaw(rng, 20_000)
    assert jaw.min() >= 0
    assert jaw.max() <= 0.35
    assert abs(float((jaw < 0.03).float().mean()) - 0.4) < 0.02
    counts = torch.histc(jaw[jaw >= 0.03], bins=8, min=0.03, max=0.35)
    assert counts.min() > 0.9 * counts.mean(), "wide-open mouths are as common as half-open ones"


def test_gaze_fills_its_range_and_not_more(rng: torch.Generator) -> None:
    gaze = sample_gaze(rng, 5000)
    limit = torch.tensor([0.25, 0.4])
    assert (gaze.abs() <= limit).all()
    assert (gaze.abs() > 0.8 * limit).float().mean(dim=0).min() > 0.08


def test_poses_turn_both_eyes_alike_and_the_head_a_little(head: HeadModel, rng: torch.Generator) -> None:
    pose = sample_params(head, rng, 50).pose
    assert torch.equal(pose[:, Joint.LEFT_EYE], pose[:, Joint.RIGHT_EYE])
    assert 0 < pose[:, [Joint.GLOBAL, Joint.NECK]].abs().max() < 0.1


def test_expressions_blink_smile_and_are_lopsided(rng: torch.Generator) -> None:
    names = ("eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "mouthSmileRight", "unknownThing")
    left, right, smile_left, smile_right, unknown = sample_expression(names, rng, torch.zeros(10_000, 2)).unbind(dim=1)
    assert abs(float((left > 0.2).float().mean()) - 0.12) < 0.03
    assert ((left > 0.85) & (right > 0.85)).float().mean() > 0.04, "eyes close completely now and then"
    smiling = smile_left > 0
    assert 0.2 < smiling.float().mean() < 0.5
    assert ((smile_left - smile_right).abs()[smiling] > 0.02).float().mean() > 0.3
    assert not unknown.any()


def test_cameras_look_at_the_origin_from_the_portrait_distance(rng: torch.Generator) -> None:
    camera = sample_camera(rng, 4000)
    position, forward = camera.cam2world[:, :3, 3], camera.cam2world[:, :3, 2]
    torch.testing.assert_close(position, -2.7 * forward, rtol=0, atol=1e-5)
    yaw, pitch = torch.atan2(position[:, 0], position[:, 2]), torch.asin(position[:, 1] / 2.7)
    assert abs(float(yaw.std()) - 0.3) < 0.02
    assert abs(float(pitch.std()) - 0.15) < 0.01
    assert torch.allclose(camera.intrinsics[:, 0, 0], torch.tensor(4.2647))


def test_a_wide_range_is_even_tilted_near_and_far(rng: torch.Generator) -> None:
    camera = sample_camera(rng, 4000, WIDE_CAMERAS)
    position, forward = camera.cam2world[:, :3, 3], camera.cam2world[:, :3, 2]
    distance = position.norm(dim=1)
    torch.testing.assert_close(position, -distance[:, None] * forward, rtol=0, atol=1e-5)
    yaw = torch.atan2(position[:, 0], position[:, 2])
    counts = torch.histc(yaw, bins=6, min=-math.pi / 2, max=math.pi / 2)
    assert counts.sum() == 4000
    assert counts.min() > 0.85 * counts.mean()
    level = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]).expand_as(forward))
    right = camera.cam2world[:, :3, 0]
    roll = torch.acos(((level / level.norm(dim=1, keepdim=True)) * right).sum(dim=1).clamp(-1, 1))
    for values, low, high in (
        (distance / 2.7, 0.85, 1.15),
        (camera.intrinsics[:, 0, 0] / 4.2647, 0.85, 1.15),
        (roll, 0.0, math.radians(15)),
    ):
        assert low - 1e-3 < values.min() < low + 0.02 * high
        assert high - 0.02 * high < values.max() < high + 1e-3
    gram = camera.cam2world[:, :3, :3].mT @ camera.cam2world[:, :3, :3]
    torch.testing.assert_close(gram, torch.eye(3).expand_as(gram), rtol=0, atol=1e-5)
    assert (torch.linalg.det(camera.cam2world[:, :3, :3]) > 0.99).all()


def test_wide_cameras_change_the_view_alone(head: HeadModel) -> None:
    """Same seed, same people, same moment; and landmarks are where label and head put them."""
    for index in range(3):
        near, wide = (render_sample(head, 8, index, 48, cameras=cameras) for cameras in (PORTRAIT_CAMERAS, WIDE_CAMERAS))
        assert all(np.array_equal(near.head[name], wide.head[name]) for name in near.head)
        assert not np.array_equal(near.label, wide.label)
        camera = Camera.from_label(torch.from_numpy(wide.label)[None])
        shown = (project(torch.from_numpy(wide.landmarks_3d)[None], camera)[0, :, :2] + 1) * 24
        np.testing.assert_allclose(wide.landmarks_2d, shown.numpy(), atol=1e-3)
        row, column = np.floor(wide.landmarks_2d[30, ::-1]).astype(int)
        nose = float((wide.landmarks_3d[30] - camera.cam2world[0, :3, 3].numpy()) @ camera.cam2world[0, :3, 2].numpy())
        seen = wide.depth[row - 1 : row + 2, column - 1 : column + 2]
        assert np.abs(seen[seen > 0] - nose).min() < 0.02, "the tip of the nose is seen there"


def test_cameras_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="distance is"):
        CameraRange(distance=0.9)


def test_draws_depend_on_seed_and_index_only(head: HeadModel) -> None:
    assert torch.equal(keyed_params(head, 5, 7).expression, keyed_params(head, 5, 7).expression)
    assert not torch.equal(keyed_params(head, 5, 7).shape, keyed_params(head, 5, 8).shape)
    assert not torch.equal(keyed_params(head, 5, 7).shape, keyed_params(head, 6, 7).shape)
    assert not torch.equal(keyed_camera(5, 7).cam2world, keyed_camera(5, 8).cam2world)
    assert str(sample_look(5, 7)) == str(sample_look(5, 7)) != str(sample_look(5, 8))
