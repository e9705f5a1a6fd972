"""Texture to planes, and the blend of dynamic and static planes."""

from __future__ import annotations

import torch
from torch import Tensor

from next3d.planes.blend import blend_planes
from next3d.planes.frames import FRONT, SIDE, TOP
from next3d.planes.rasterize import FRONT_VIEW, LEFT_VIEW, RIGHT_VIEW, TOP_VIEW, rasterize_planes
from next3d.planes.sample import texture_planes
from next3d.types import HeadMesh, Rasters
from tests.models import ToyHead


def draw(toy: ToyHead, mesh: HeadMesh) -> Rasters:
    return rasterize_planes(mesh, toy.topology, resolution=64, box_warp=0.6)


def uv_texture(size: int = 256) -> Tensor:
    """[1, 2, size, size]: every texel holds its own uv."""
    steps = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - steps, steps, indexing="ij")
    return torch.stack([u, v])[None]


def test_texture_arrives_where_the_rasters_say(toy):
    rasters = draw(toy, toy.mesh(2, seed=2))
    planes = texture_planes(uv_texture().expand(2, -1, -1, -1), rasters)
    for plane, view in ((FRONT, FRONT_VIEW), (TOP, TOP_VIEW)):
        shown = (rasters.visible[:, view] > 1e-3).expand(-1, 2, -1, -1)
        uv = rasters.uv[:, view].movedim(-1, 1)
        inner = shown & (uv > 0.01) & (uv < 0.99)
        torch.testing.assert_close(planes[:, plane][inner], uv[inner], rtol=0, atol=1e-4)
        assert planes[:, plane][~shown].abs().max() < 2, "full strength up to the soft edge, never more"
        assert (planes[:, plane][(rasters.visible[:, view] == 0).expand(-1, 2, -1, -1)] == 0).all()


def test_constant_texture_fills_what_is_visible_at_full_strength(toy):
    rasters = draw(toy, toy.mesh(1, seed=4))
    planes = texture_planes(torch.full((1, 3, 8, 8), 2.0), rasters)
    left, right = rasters.visible[:, LEFT_VIEW], rasters.visible[:, RIGHT_VIEW]
    shown = torch.stack([rasters.visible[:, FRONT_VIEW], rasters.visible[:, TOP_VIEW], torch.maximum(left, right)], dim=1) > 1e-3
    torch.testing.assert_close(planes[shown.expand_as(planes)], torch.full((int(3 * shown.sum()),), 2.0))


def test_soft_edges_fade_once(toy):
    """Blending mixes texture and static planes by the mask itself, not by its square."""
    rasters = draw(toy, toy.mesh())
    dynamic = texture_planes(torch.ones(1, 1, 8, 8), rasters)
    blended = blend_planes(torch.zeros_like(dynamic), dynamic, rasters).features
    soft = (rasters.visible[:, FRONT_VIEW] > 0.01) & (rasters.visible[:, FRONT_VIEW] < 0.9) & (rasters.coverage[:, FRONT] < 1)
    assert soft.any()
    torch.testing.assert_close(blended[:, FRONT][soft], rasters.visible[:, FRONT_VIEW][soft])


def test_side_plane_treats_left_and_right_alike(toy, rng):
    """Of a mirrored head with a mirrored texture, front and top planes are mirrored and the side plane is the same."""
    mesh, texture = toy.mesh(1, seed=6), torch.randn(1, 4, 8, 8, generator=rng)
    one = texture_planes(texture, draw(toy, mesh))
    other = texture_planes(texture.flip(3), draw(toy, toy.mirrored(mesh)))
    for plane, expected in ((FRONT, one[:, FRONT].flip(3)), (TOP, one[:, TOP].flip(3)), (SIDE, one[:, SIDE])):
        assert ((other[:, plane] - expected).abs() < 1e-3).float().mean() > 0.995, plane


def test_side_plane_does_not_mix_nose_and_back_of_the_head(toy):
    """A texture that holds z gives a side plane whose columns grow with z."""
    v, u = uv_texture()[0, 1], uv_texture()[0, 0]
    depth = ((u - 0.5) * 2 * torch.pi).cos() * ((v - 0.5) * torch.pi).cos()  # z on the unit sphere
    rasters = draw(toy, toy.mesh())
    side = texture_planes(depth[None, None], rasters)[0, SIDE, 0]
    column = ((torch.arange(64) + 0.5) / 64 - 0.5) * 0.6 / 0.18
    shown = rasters.coverage[0, SIDE, 0] > 0.01
    torch.testing.assert_close(side[shown], column.expand(64, 64)[shown], rtol=0, atol=0.05)


def test_blend_takes_static_planes_outside_the_mesh_and_dynamic_ones_inside(toy, rng):
    rasters = draw(toy, toy.mesh(2, seed=1))
    static, dynamic = torch.randn(2, 3, 4, 64, 64, generator=rng), torch.randn(2, 3, 4, 64, 64, generator=rng)
    blended = blend_planes(static, dynamic, rasters).features
    outside, inside = (rasters.coverage == value for value in (0, 1))
    assert torch.equal(blended[outside.expand_as(static)], static[outside.expand_as(static)])
    assert torch.equal(blended[inside.expand_as(static)], dynamic[inside.expand_as(static)])


def test_gradient_reaches_the_texture(toy):
    texture = torch.ones(1, 1, 16, 16, requires_grad=True)
    texture_planes(texture, draw(toy, toy.mesh())).sum().backward()
    assert texture.grad is not None
    face = texture.grad[0, 0, 6:10, 6:10]
    assert (face > 0).all()
    assert texture.grad[0, 0, :, 0].abs().max() == 0, "nothing shows the back of the head"
