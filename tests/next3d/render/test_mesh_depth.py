"""The mesh's depth along rays: points found by it lie on the mesh, and the face is where the texture covers it."""

from __future__ import annotations

import torch

from next3d.render.cameras import orbit_camera
from next3d.render.mesh_depth import ray_lengths, render_face_depth
from next3d.render.rays import camera_rays
from next3d.types import Camera, HeadMesh
from tests.models import ToyHead

SIZE = 24


def view(count: int) -> Camera:
    return orbit_camera(torch.linspace(-0.3, 0.4, count), torch.linspace(0.2, -0.1, count))


def test_ray_lengths_are_those_of_the_rays():
    camera = view(1)
    rays, forward = camera_rays(camera, 8), camera.cam2world[:, :3, 2]
    torch.testing.assert_close(ray_lengths(camera, 8).flatten(), 1 / (rays.directions[0] @ forward[0]))


def test_points_at_that_depth_lie_on_the_mesh(toy: ToyHead):
    """Between the corners of some triangle: its plane's distance is zero, and it is inside the mesh's extent."""
    mesh, camera = toy.mesh(2, seed=3), view(2)
    depth, share = render_face_depth(mesh, camera, toy.topology, SIZE)
    rays = camera_rays(camera, SIZE)
    points = (rays.origins + rays.directions * depth.flatten(1)[..., None])[:, None]  # [N, 1, R, 3]
    a, b, c = mesh.vertices[:, toy.topology.faces].unbind(dim=2)  # [N, F, 3] each
    normal = torch.linalg.cross(b - a, c - a)
    normal = normal / normal.norm(dim=2, keepdim=True).clamp_min(1e-12)
    distance = ((points - a[:, :, None]) * normal[:, :, None]).sum(dim=3).abs().amin(dim=1)  # [N, R]
    shown = share.flatten(1) > 0
    assert shown.float().mean() > 0.02
    assert distance[shown].max() < 1e-4
    low, high = mesh.vertices.amin(dim=1)[:, None], mesh.vertices.amax(dim=1)[:, None]
    inside = ((points[:, 0] >= low - 1e-4) & (points[:, 0] <= high + 1e-4)).all(dim=2)
    assert inside[shown].all()


def test_only_what_the_texture_covers_counts(toy: ToyHead):
    mesh, camera = toy.mesh(1), view(1)
    nothing = toy.topology.__class__(**{**vars(toy.topology), "uv_mask": torch.zeros_like(toy.topology.uv_mask)})
    assert render_face_depth(mesh, camera, nothing, SIZE)[1].eq(0).all()
    away = HeadMesh(mesh.vertices + 50, mesh.landmarks + 50)
    depth, share = render_face_depth(away, camera, toy.topology, SIZE)
    assert share.eq(0).all()
    assert depth.eq(0).all(), "a number, so that 0 times it is none"
