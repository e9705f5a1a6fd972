"""Motions are functions of time alone: they loop, start at rest and move only what they are named after."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch

from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.media.motions import (
    GAZE_YAW,
    JAW_OPEN,
    MOTIONS,
    ORBIT_YAW,
    TURN_YAW,
    gaze_angles,
    orbit_angles,
    set_expressions,
    turn_angles,
    walk_position,
)

POSING = [name for name, motion in MOTIONS.items() if motion.pose is not None]
FRAMES = 48


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("procedural")


def distance(first: HeadParams, second: HeadParams) -> float:
    """Largest difference of any parameter."""
    return max(float((getattr(first, f.name) - getattr(second, f.name)).abs().max()) for f in fields(HeadParams))


def at(head: HeadModel, name: str, t: float) -> HeadParams:
    pose = MOTIONS[name].pose
    assert pose is not None
    return pose(head, head.neutral(2), t)


@pytest.mark.parametrize("name", POSING)
def test_a_motion_loops_without_a_jump(head: HeadModel, name: str):
    params = [at(head, name, index / FRAMES) for index in range(FRAMES)]
    steps = [distance(params[index], params[(index + 1) % FRAMES]) for index in range(FRAMES)]
    swing = max(distance(params[0], p) for p in params)
    assert swing > 0.2, "nothing moves"
    assert distance(params[0], head.neutral(2)) < 1e-6, "the first frame is the face at rest"
    assert max(steps) < 0.6 * swing


@pytest.mark.parametrize("name", POSING)
def test_the_head_at_rest_is_not_changed(head: HeadModel, name: str):
    pose = MOTIONS[name].pose
    assert pose is not None
    rest = head.neutral(1)
    pose(head, rest, 0.2)
    assert distance(rest, head.neutral(1)) == 0


def test_gaze_moves_the_eyes_to_both_sides_and_nothing_below_them(head: HeadModel):
    params = [at(head, "gaze", index / FRAMES) for index in range(FRAMES)]
    yaw = torch.stack([p.pose[0, Joint.LEFT_EYE, 1] for p in params])
    assert yaw.max() == pytest.approx(GAZE_YAW, rel=0.02)
    assert yaw.min() == pytest.approx(-GAZE_YAW, rel=0.02)
    for p in params:
        assert torch.equal(p.pose[:, Joint.LEFT_EYE], p.pose[:, Joint.RIGHT_EYE])
        assert p.pose[:, : Joint.LEFT_EYE].abs().max() == 0
    assert gaze_angles(0.125) == pytest.approx((0.25, 0.4 * math.sin(math.pi / 4)))


def test_jaw_opens_wide_and_only_the_jaw_moves(head: HeadModel):
    opened = at(head, "jaw", 0.25)
    assert opened.pose[0, Joint.JAW, 0] == pytest.approx(JAW_OPEN)
    opened.pose[:, Joint.JAW] = 0
    assert distance(opened, head.neutral(2)) == 0


def test_blink_shuts_both_eyes_fully(head: HeadModel):
    shut = dict(zip(head.expression_names, at(head, "blink", 0.25).expression[0].tolist(), strict=True))
    assert shut.pop("eyeBlinkLeft") == pytest.approx(1)
    assert shut.pop("eyeBlinkRight") == pytest.approx(1)
    assert not any(shut.values())


def test_expressions_follow_each_other_with_the_eyes_ahead(head: HeadModel):
    shown = [at(head, "expression", (index + 0.5) / 4) for index in range(4)]
    assert all((p.pose == 0).all() for p in shown)
    strongest = {head.expression_names[int(p.expression[0].argmax())].removesuffix("Left") for p in shown}
    assert len(strongest) == 4


def test_a_short_name_sets_both_sides_and_unknown_names_are_left_out(head: HeadModel):
    values = set_expressions(head, torch.zeros(1, len(head.expression_names)), {"mouthSmile": 0.5, "mouthLeft": 0.3, "nonsense": 1.0})
    found = {name: round(value, 6) for name, value in zip(head.expression_names, values[0].tolist(), strict=True) if value}
    assert found == {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "mouthLeft": 0.3}


def test_the_orbit_starts_in_front_and_reaches_both_sides():
    angles = [orbit_angles(index / FRAMES) for index in range(FRAMES)]
    assert angles[0] == (0, 0)
    assert max(yaw for yaw, _ in angles) == pytest.approx(ORBIT_YAW)
    assert min(yaw for yaw, _ in angles) == pytest.approx(-ORBIT_YAW)


def test_the_turn_stays_level_and_reaches_both_sides():
    angles = [turn_angles(index / FRAMES) for index in range(FRAMES)]
    assert angles[0] == (0, 0)
    assert max(yaw for yaw, _ in angles) == pytest.approx(TURN_YAW)
    assert min(yaw for yaw, _ in angles) == pytest.approx(-TURN_YAW)
    assert all(pitch == 0 for _, pitch in angles)


def test_whoever_talks_moves_everything_over_its_range(head: HeadModel):
    params = [at(head, "talk", index / 200) for index in range(200)]
    jaw = torch.stack([p.pose[0, Joint.JAW, 0] for p in params])
    yaw = torch.stack([p.pose[0, Joint.RIGHT_EYE, 1] for p in params])
    assert (float(jaw.min()), float(jaw.max())) == pytest.approx((0, JAW_OPEN), abs=0.01)
    assert (float(yaw.min()), float(yaw.max())) == pytest.approx((-GAZE_YAW, GAZE_YAW), abs=0.01)
    top = dict(zip(head.expression_names, torch.cat([p.expression for p in params]).amax(dim=0).tolist(), strict=True))
    assert min(top["eyeBlinkLeft"], top["eyeBlinkRight"], top["mouthSmileLeft"]) > 0.98
    assert top["mouthPucker"] > 0.7
    assert top["browInnerUp"] > 0.7


def test_a_walk_visits_every_face_and_returns():
    positions = [walk_position(4, 1, index / 400) for index in range(400)]
    assert [first for first, _, _ in positions[::100]] == [1, 2, 3, 0]
    assert all(second == (first + 1) % 4 for first, second, _ in positions)
    assert all(fraction == pytest.approx(0, abs=1e-9) for _, _, fraction in positions[::100])
    assert positions[99][2] > 0.99, "the next face is reached before the walk leaves it"
