"""The 52 blend shapes by ARKit's names: which there are, and what those that work together do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from next3d.head.expressions import JAW_OPEN
from next3d.head.model import Joint, LinearHeadModel
from next3d.head.procedural import CM_TO_WORLD, procedural_head

CM = CM_TO_WORLD
SIDED = (
    "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "browDown", "browOuterUp",
    "cheekSquint", "noseSneer", "mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthPress", "mouthLowerDown",
    "mouthUpperUp", "mouth", "jaw",
)  # fmt: skip
MIDDLE = (
    "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "browInnerUp", "cheekPuff", "tongueOut",
)  # fmt: skip


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    return procedural_head()


def posed(head: LinearHeadModel, jaw: float = 0.0, **expression: float) -> Tensor:
    """Vertices [V, 3], cm."""
    params = head.neutral(1)
    params.pose[0, Joint.JAW, 0] = jaw
    for name, value in expression.items():
        params.expression[0, head.expression_index(name)] = value
    return head(params).vertices[0] / CM


def test_the_52_names(head: LinearHeadModel) -> None:
    expected = [name + side for name in SIDED for side in ("Left", "Right")] + list(MIDDLE)
    assert len(expected) == 52
    assert sorted(head.expression_names) == sorted(expected)


def test_every_direction_moves_something_and_not_too_far(head: LinearHeadModel) -> None:
    largest = head.expression_directions.norm(dim=1).amax(0) * 2.5 / CM
    for name, reach in zip(head.expression_names, largest.tolist(), strict=True):
        assert 0.08 < reach < 4.5, name


def test_jaw_open_is_the_joint_at_its_limit(head: LinearHeadModel) -> None:
    """Equal at full strength; half way the blend shape cuts the arc by little."""
    torch.testing.assert_close(posed(head, jawOpen=1.0), posed(head, JAW_OPEN), rtol=0, atol=1e-3)
    assert (posed(head, jawOpen=0.5) - posed(head, JAW_OPEN / 2)).norm(dim=1).max() < 0.25


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_mouth_close_shuts_an_open_jaw(head: LinearHeadModel, strength: float) -> None:
    upper, lower = [61, 62, 63], [67, 66, 65]
    for close, low, high in ((0.0, 0.5, 9.0), (strength, 0.0, 1e-3)):
        landmarks = head.topology.landmarks(posed(head, jawOpen=strength, mouthClose=close)[None])[0]
        gap = (landmarks[upper] - landmarks[lower]).norm(dim=1)
        assert low <= gap.min() <= gap.max() < high
    chin = head.topology.landmarks(posed(head, jawOpen=strength, mouthClose=strength)[None])[0, 8]
    assert chin[1] < head.topology.landmarks(posed(head)[None])[0, 8, 1] - 1.5 * strength, "the jaw stays open"


def test_the_tongue_comes_out_alone(head: LinearHeadModel) -> None:
    moved = (posed(head, tongueOut=1.0) - posed(head)).norm(dim=1)
    tongue = head.topology.regions["tongue"]
    assert moved[tongue].max() > 3
    assert not moved[~tongue].any()
    out = posed(head, 0.3, tongueOut=1.0)
    lower_lip = head.topology.landmarks(out[None])[0, 57]
    assert out[tongue, 2].max() > lower_lip[2] + 0.8


@pytest.mark.parametrize(("name", "up"), [("eyeLookUp", 1), ("eyeLookDown", -1)])
def test_lids_follow_the_eyes(head: LinearHeadModel, name: str, up: int) -> None:
    """Both lids go the eye's way; eyeballs are turned by their joints alone."""
    rest, looking = posed(head), posed(head, **{f"{name}Left": 1.0})
    moved = looking - rest
    lids, eye = head.topology.regions["left_lids"], head.topology.regions["left_eye"]
    assert (up * moved[lids, 1]).mean() > 0.05
    assert (up * moved[lids, 1]).min() > -1e-4
    assert not moved[eye | head.topology.regions["right_lids"]].any()


def test_lids_slide_aside_with_the_eyes(head: LinearHeadModel) -> None:
    lids = head.topology.regions["left_lids"]
    assert (posed(head, eyeLookOutLeft=1.0) - posed(head))[lids, 0].mean() > 0.02
    assert (posed(head, eyeLookInLeft=1.0) - posed(head))[lids, 0].mean() < -0.02
