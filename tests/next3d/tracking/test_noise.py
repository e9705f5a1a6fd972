"""What is known of a detector's errors, and how a pose is described to it."""

from __future__ import annotations

import torch

from next3d.head import load_head
from next3d.head.flame import load_flame
from next3d.head.model import axis_angle_to_matrix
from next3d.tracking import noise as noise_module
from next3d.tracking.noise import HABIT_STRENGTH, SLOPE_STRENGTH, detector_noise, plain_noise, pose_features, save_noise, upright_angle
from next3d.tracking.points import point_model
from tests.flame_files import fake_flame

FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""From the axes of a head that looks into a camera to the camera's."""


def test_rolling_heads_have_the_same_pose():
    """A head that leans to its shoulder is the same head in a turned picture."""
    turn = axis_angle_to_matrix(torch.tensor([[-0.2, 0.4, 0.0]]))
    roll = axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.5]]))
    plain, leaning = FACING @ turn, roll @ FACING @ turn
    torch.testing.assert_close(pose_features(plain)[:, :2], pose_features(leaning)[:, :2], atol=0.03, rtol=0)
    torch.testing.assert_close(upright_angle(roll @ FACING), torch.tensor([0.5]))


def test_looking_aside_and_down_is_told_apart():
    aside = pose_features(FACING @ axis_angle_to_matrix(torch.tensor([[0.0, 0.3, 0.0]])))[0]
    down = pose_features(FACING @ axis_angle_to_matrix(torch.tensor([[0.3, 0.0, 0.0]])))[0]
    assert aside[0] > 0.25
    assert abs(float(aside[1])) < 1e-6
    assert down[1] > 0.25
    assert abs(float(down[0])) < 1e-6


def test_what_is_stored_comes_back_damped(tmp_path, monkeypatch):
    """The origin of depths stays free; what synthetic heads taught counts in part."""
    head = load_head("procedural")
    monkeypatch.setattr(noise_module, "HABITS_FILE", tmp_path / "habits.safetensors")
    noise_module._detector_noise.cache_clear()
    plain = plain_noise(point_model(head))
    save_noise(plain.map(lambda table: table + 1))
    back = detector_noise(head)
    noise_module._detector_noise.cache_clear()
    torch.testing.assert_close(back.offset, torch.full_like(back.offset, HABIT_STRENGTH))
    torch.testing.assert_close(back.slopes, torch.full_like(back.slopes, SLOPE_STRENGTH))
    torch.testing.assert_close(back.factors, plain.factors + 1, atol=1e-3, rtol=1e-3)


def test_other_heads_have_a_plain_detector(tmp_path):
    head = load_flame(fake_flame().write(tmp_path))
    found = detector_noise(head)
    assert not found.offset.any()
    assert found.factors[:, 2].all(), "where depths begin is free"
