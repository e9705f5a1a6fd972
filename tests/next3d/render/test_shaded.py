"""Plain pictures of the default head."""

from __future__ import annotations

import torch

from next3d.head import load_head
from next3d.render.cameras import orbit_camera
from next3d.render.shaded import plain_colors, render_shaded, vertex_normals


def test_the_lit_side_is_brighter_and_the_background_is_kept() -> None:
    head = load_head("procedural")
    mesh = head(head.neutral(2))
    tone = torch.full((2, 3), 0.5)
    colors = plain_colors(head.topology, tone, tone, tone)
    camera = orbit_camera(torch.zeros(2), torch.zeros(2))
    light = torch.tensor([[0.8, 0.0, 0.3], [-0.8, 0.0, 0.3]])
    pictures = render_shaded(mesh, head.topology, colors, camera, 64, light=light, background=0.25)
    assert pictures.shape == (2, 3, 64, 64)
    assert torch.equal(pictures[0, :, 0, 0], torch.full((3,), -0.5))
    left, right = pictures[..., :32].mean((1, 2, 3)), pictures[..., 32:].mean((1, 2, 3))
    assert right[0] > left[0] + 0.1
    torch.testing.assert_close(pictures[1], pictures[0].flip(-1), rtol=0, atol=2e-2)


def test_normals_point_outwards() -> None:
    head = load_head("procedural")
    vertices = head(head.neutral(1)).vertices
    normals = vertex_normals(vertices, head.topology.faces)
    ball = head.topology.regions["left_iris"]
    assert (normals[0, ball, 2] > 0.8).all()
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones_like(normals[..., 0]))
