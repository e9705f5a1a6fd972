"""Who is drawn: the distributions that training relies on, and the keys."""

from __future__ import annotations

import torch

from next3d.head.model import HeadModel, Joint
from next3d.synthetic.looks import sample_look
from next3d.synthetic.sampling import keyed_camera, keyed_params, sample_camera, sample_expression, sample_gaze, sample_jaw, sample_params


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


def test_draws_depend_on_seed_and_index_only(head: HeadModel) -> None:
    assert torch.equal(keyed_params(head, 5, 7).expression, keyed_params(head, 5, 7).expression)
    assert not torch.equal(keyed_params(head, 5, 7).shape, keyed_params(head, 5, 8).shape)
    assert not torch.equal(keyed_params(head, 5, 7).shape, keyed_params(head, 6, 7).shape)
    assert not torch.equal(keyed_camera(5, 7).cam2world, keyed_camera(5, 8).cam2world)
    assert str(sample_look(5, 7)) == str(sample_look(5, 7)) != str(sample_look(5, 8))
