"""Gaze: what a perfect detector shows is found again, and eyes that show too little do not guess."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.model import HeadParams, Joint, LinearHeadModel
from next3d.render.cameras import orbit_camera, project
from next3d.synthetic.sampling import sample_params
from next3d.tracking.eyeballs import EYES, eye_pair
from next3d.tracking.gaze import IRIS_POINTS, GazeSettings, IrisReading, fit_gaze
from next3d.tracking.types import HeadFit

PERFECT = GazeSettings(reading=IrisReading(), noise=0.005)


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    return load_head("procedural")


def shown_heads(head: LinearHeadModel, count: int, gaze: Tensor, blink: float = 0.0) -> tuple[HeadFit, Tensor]:
    """Different people from different sides who look along `gaze` [N, 2, 2], and their 478 points as a perfect detector has them."""
    params = sample_params(head, torch.Generator().manual_seed(5), count)
    pose, expression = params.pose.clone(), torch.zeros_like(params.expression)
    pose[:, list(EYES), :2] = gaze
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        expression[:, head.expression_index(name)] = blink
    params = replace(params, pose=pose, expression=expression)
    spread = torch.linspace(-0.4, 0.4, count)
    camera = orbit_camera(spread, 0.4 * spread.flip(0))
    return HeadFit(params, camera, torch.zeros(count)), perfect_points(head, params, camera)


def perfect_points(head: LinearHeadModel, params: HeadParams, camera) -> Tensor:
    fit = HeadFit(params, camera, torch.zeros(len(params.scale)))
    points = dense_embedding(head).place(head(params).vertices)
    irises = eye_pair(head, fit).look(params.pose[:, list(EYES), :2])
    for eye, numbers in enumerate(IRIS_POINTS):
        points[:, list(numbers)] = irises[:, eye]
    shown = project(points, camera)
    return torch.cat([(shown[..., :2] + 1) / 2, (shown[..., 2:] - 2.7) * 4.2647 / 2.7], dim=-1)


def degrees_between(head_fit: HeadFit, gaze: Tensor) -> Tensor:
    return (head_fit.params.pose[:, list(EYES), :2] - gaze).norm(dim=-1) * 180 / math.pi


def test_exact_projections_give_the_gaze_back(head):
    gaze = (torch.rand(8, 1, 2, generator=torch.Generator().manual_seed(3)) - 0.5) * torch.tensor([0.5, 0.8])
    fit, points = shown_heads(head, 8, gaze.expand(-1, 2, -1))
    assert degrees_between(fit_gaze(head, fit, points, PERFECT), gaze).max() < 0.1


def test_eyes_stay_within_their_limits_and_nothing_else_moves(head):
    fit, points = shown_heads(head, 4, torch.tensor([0.0, 0.55]).expand(4, 2, 2))
    for numbers in IRIS_POINTS:
        points[:, list(numbers), 0] += 0.05
    found = fit_gaze(head, fit, points, PERFECT)
    assert found.params.pose[:, list(EYES), 1].max() <= 0.6 + 1e-6
    assert torch.equal(found.params.pose[:, : Joint.LEFT_EYE], fit.params.pose[:, : Joint.LEFT_EYE])
    assert torch.equal(found.params.expression, fit.params.expression)
