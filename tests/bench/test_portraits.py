"""What the bench of synthetic portraits asks for, without a detector."""

from __future__ import annotations

import pytest
import torch

from bench.portraits import BARS, CONTROL_SEED, Job, frontal_jobs, job_params, varied_seed
from next3d.head import load_head
from next3d.head.model import Joint
from next3d.synthetic.looks import sample_look
from next3d.synthetic.sampling import keyed_params


@pytest.mark.parametrize("control", BARS)
def test_a_control_is_commanded_and_the_rest_is_natural(control: str) -> None:
    jobs = frontal_jobs(CONTROL_SEED, 12, control)
    values = [job_params(job)[1] for job in jobs]
    assert max(values) - min(values) > 0.5 * {"jaw": 0.35, "blink": 1.0, "gaze": 0.8}[control]
    for job, value in zip(jobs, values, strict=True):
        params, natural = job_params(job)[0], job_params(Job(job.seed, job.index))[0]
        assert torch.equal(params.shape, natural.shape)
        gaze = params.pose[0, Joint.LEFT_EYE, 1]
        commanded = {"jaw": params.pose[0, Joint.JAW, 0], "blink": params.expression[0, 0], "gaze": gaze}[control]
        assert float(commanded) == pytest.approx(value)
        assert control == "jaw" or torch.equal(params.pose[:, Joint.JAW], natural.pose[:, Joint.JAW])
        assert control != "jaw" or torch.equal(params.expression, natural.expression)


def test_everything_that_people_wear_is_compared() -> None:
    seed, found = varied_seed(12)
    worn = [sample_look(seed, index).extras for index in range(12)]
    assert found["hat"] == sum(extras.hat is not None for extras in worn) > 0
    assert found["beard"] == sum(extras.beard > 0 for extras in worn) > 0


def test_neutral_faces_keep_their_identity() -> None:
    params, _ = job_params(Job(7, 3, "neutral"))
    assert not params.expression.any()
    assert torch.equal(params.shape, keyed_params(load_head("procedural"), 7, 3).shape)
