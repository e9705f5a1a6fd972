"""One head for all tests, and portraits of it under command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.render.cameras import orbit_camera
from next3d.synthetic.looks import HairStyle, Look, sample_look
from next3d.synthetic.portrait import Portrait
from next3d.synthetic.render import render_portrait

SIZE = 64


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return load_head("procedural")


def plain_look(style: HairStyle = "bald") -> Look:
    """A look with light from the front and nothing else that could move between pictures."""
    look = sample_look(0, 3)
    lighting = replace(look.lighting, lamp_direction=np.array([0.0, 0.0, 1.0], dtype=np.float32))
    return replace(look, hair=replace(look.hair, style=style), lighting=lighting)


def posed(
    head: HeadModel, *, jaw: float = 0.0, gaze: tuple[float, float] = (0.0, 0.0), expression: dict[str, float] | None = None
) -> HeadParams:
    """The mean head with some controls set; `gaze` is (pitch, yaw)."""
    params = head.neutral(1)
    pose, coefficients = params.pose.clone(), params.expression.clone()
    pose[0, Joint.JAW, 0] = jaw
    pose[0, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2] = torch.tensor(gaze, dtype=pose.dtype)
    for name, value in (expression or {}).items():
        coefficients[0, head.expression_names.index(name)] = value
    return replace(params, pose=pose, expression=coefficients)


@pytest.fixture(scope="session")
def portray(head: HeadModel) -> Callable[..., Portrait]:
    """Render head parameters from the front (or elsewhere) on a grey background."""

    def render(params: HeadParams, *, look: Look | None = None, yaw: float = 0.0, pitch: float = 0.0, size: int = SIZE) -> Portrait:
        camera = orbit_camera(torch.tensor([yaw]), torch.tensor([pitch]))
        background = np.full((size, size, 3), 0.5, dtype=np.float32)
        return render_portrait(head, params, camera, look or plain_look(), background)

    return render
