"""What is expected of heads before a picture is seen."""

from __future__ import annotations

import torch

from next3d.head import load_head
from next3d.head.flame import load_flame
from next3d.head.limits import JOINT_LIMITS
from next3d.head.model import Joint
from next3d.tracking.priors import STILL, head_prior
from tests.flame_files import fake_flame


def test_sides_that_act_together_cost_less_than_one_alone():
    """A smile on both sides, with cheeks that rise, is likelier than half of it on one side."""
    head = load_head("procedural")
    prior = head_prior(head)

    def cost(**strengths: float) -> float:
        motion = torch.zeros(len(prior.low))
        for name, value in strengths.items():
            motion[head.expression_index(name)] = value
        return float(motion @ prior.motion @ motion)

    smile = cost(mouthSmileLeft=0.8, mouthSmileRight=0.8, cheekSquintLeft=0.48, cheekSquintRight=0.48)
    assert smile < cost(mouthSmileLeft=0.8)
    assert smile < cost(mouthSmileLeft=0.8, mouthSmileRight=0.8)
    assert cost() == 0


def test_limits_are_those_of_the_head():
    head = load_head("procedural")
    prior = head_prior(head)
    for name in STILL:
        assert prior.high[head.expression_index(name)] == 0, name
    assert prior.low[: len(head.expression_names)].eq(0).all()
    assert prior.high[-6] == torch.tensor(JOINT_LIMITS[Joint.JAW][0][1])
    assert torch.linalg.eigvalsh(prior.motion.double()).min() > 0


def test_coefficients_without_names_are_in_standard_deviations(tmp_path):
    head = load_flame(fake_flame().write(tmp_path))
    prior = head_prior(head)
    count = len(head.expression_names)
    torch.testing.assert_close(prior.motion[:count, :count], torch.eye(count))
    torch.testing.assert_close(prior.shape, torch.ones(len(head.shape_names)))
    assert prior.low[0] == -3
