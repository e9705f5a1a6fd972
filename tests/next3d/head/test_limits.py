"""Joint limits: what is inside stays, what is outside comes back, the head as a whole turns freely."""

from __future__ import annotations

import torch

from next3d.head.limits import JOINT_LIMITS, limit_pose
from next3d.head.model import Joint
from next3d.synthetic.sampling import GAZE_RANGE, JAW_RANGE


def test_poses_are_limited_per_joint(rng: torch.Generator) -> None:
    pose = 2 * torch.randn(50, len(Joint), 3, generator=rng)
    limited = limit_pose(pose)
    assert torch.equal(limited[:, Joint.GLOBAL], pose[:, Joint.GLOBAL])
    assert torch.equal(limit_pose(limited), limited)
    for joint, ranges in JOINT_LIMITS.items():
        for axis, (low, high) in enumerate(ranges):
            inside = (pose[:, joint, axis] >= low) & (pose[:, joint, axis] <= high)
            assert torch.equal(limited[inside, joint, axis], pose[inside, joint, axis])
            assert (limited[:, joint, axis] >= low - 1e-6).all()
            assert (limited[:, joint, axis] <= high + 1e-6).all()


def test_gradients_pass_inside(rng: torch.Generator) -> None:
    pose = torch.zeros(1, len(Joint), 3)
    pose[0, Joint.JAW, 0], pose[0, Joint.LEFT_EYE, 1] = 0.2, 2.0
    pose.requires_grad_()
    limit_pose(pose).sum().backward()
    assert pose.grad is not None
    assert pose.grad[0, Joint.JAW, 0] == 1
    assert pose.grad[0, Joint.LEFT_EYE, 1] == 0


def test_portraits_stay_within(rng: torch.Generator) -> None:
    assert JOINT_LIMITS[Joint.JAW][0][1] >= JAW_RANGE
    for axis, reach in enumerate(GAZE_RANGE):
        low, high = JOINT_LIMITS[Joint.LEFT_EYE][axis]
        assert low <= -reach < reach <= high
