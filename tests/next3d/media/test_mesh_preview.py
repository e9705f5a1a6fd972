"""Surfaces are drawn where they are and lit as said; the mesh stands on the background that was asked for."""

from __future__ import annotations

import math

import pytest
import torch

from next3d.head import load_head
from next3d.media.mesh_preview import render_preview, render_surface
from next3d.media.performance import front_camera
from next3d.media.shapes import density_grid, extract_surface
from next3d.render.cameras import ORBIT_TARGET, PORTRAIT_FOCAL, PORTRAIT_RADIUS

RADIUS = 0.15
BLUE = torch.tensor([[0.1, 0.2, 0.6]])


@pytest.mark.parametrize("yaw", [0.0, -0.6, 1.2])
def test_a_ball_looks_like_a_ball_from_all_sides(yaw: float):
    centre = torch.tensor(ORBIT_TARGET)
    ball = extract_surface(density_grid(lambda points: 1 + RADIUS - (points - centre).norm(dim=2, keepdim=True), 40, 0.8), 1.0, 0.8)
    camera = front_camera(1, yaw=yaw)
    picture = (render_surface(ball, camera, 96, background=BLUE)[0] + 1) / 2
    shown = (picture - BLUE[0, :, None, None]).abs().amax(dim=0) > 0.02
    # The silhouette of a ball in the middle of the picture is a disc, its angle that of the tangents.
    distance = float((camera.cam2world[0, :3, 3] - centre).norm())
    angle = math.asin(RADIUS / distance)
    assert float(shown.float().mean()) == pytest.approx(math.pi * (PORTRAIT_FOCAL * math.tan(angle)) ** 2, rel=0.04)
    assert abs(distance - PORTRAIT_RADIUS) < 0.25
    rows, columns = shown.nonzero().float().mean(dim=0).tolist()
    assert (rows, columns) == pytest.approx((47.5, 47.5), abs=0.7)
    light = picture.mean(dim=0)
    assert light[34, 34] > light[34, 61] > light[61, 61], "the lamp is above, on the left of the picture"
    assert torch.allclose(picture[:, 0, 0], BLUE[0])


def test_the_mesh_stands_on_its_background():
    head = load_head("procedural")
    mesh, camera = head(head.neutral(1)), front_camera(1)
    black, blue = (render_preview(mesh, camera, head.topology, 48, background=behind)[0] for behind in (0.0, BLUE))
    assert torch.allclose((blue[:, 0, 0] + 1) / 2, BLUE[0])
    assert (black[:, 0, 0] == -1).all()
    same = (black == blue).all(dim=0).float().mean()
    assert 0.2 < same < 0.7, "only what lies behind the mesh changes"
