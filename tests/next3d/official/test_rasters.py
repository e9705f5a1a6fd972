"""How released networks draw the mesh: views, order of planes, small triangles, the filled mouth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.head.model import OBJECT_TO_WORLD
from next3d.head.topology import Topology
from next3d.official.rasters import (
    AREA_EPS,
    FRONT_VIEW,
    LEFT_VIEW,
    RIGHT_VIEW,
    TOP_VIEW,
    fill_from_corner,
    front_landmarks,
    rasterize_views,
    texture_planes,
    view_points,
)
from next3d.types import HeadMesh, Rasters
from tests.reference.record import OpenHead
from torch_utils.ops.fill_holes import fill_holes
from torch_utils.ops.grid_sample import sample_uv

SIZE = 96
FRONT, SIDE, TOP = range(3)
"""Released order of planes."""


def draw(head: OpenHead, mesh: HeadMesh, **changes) -> Rasters:
    return rasterize_views(mesh, **({"topology": head.topology, "resolution": SIZE} | changes))


def triangles(*corners: list[tuple[float, float, float]]) -> tuple[HeadMesh, Topology]:
    """Separate triangles with corners in the front view (column, row up, towards the viewer), and uv (1, 0), (0, 1), (0, 0)."""
    points = torch.tensor(corners, dtype=torch.float32).reshape(1, -1, 3)
    vertices = (points / 5 + torch.tensor([0.0, -0.01, 0.01])) * OBJECT_TO_WORLD
    faces = torch.arange(3 * len(corners)).reshape(-1, 3)
    uvs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    topology = Topology(
        faces=faces,
        uvs=uvs,
        uv_faces=torch.tensor([[0, 1, 2]]).expand(len(corners), -1),
        uv_mask=torch.ones(1, 8, 8),
        guide_colors=torch.zeros(points.shape[1], 3),
    )
    return HeadMesh(vertices, torch.zeros(1, 68, 3)), topology


def watched(mesh: HeadMesh, topology: Topology, size: int = SIZE) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    rasterize_views(mesh, topology, resolution=size, probe=seen.__setitem__)
    return seen


def test_places_in_the_views():
    """One object unit is five view units; y and z are moved by a hundredth; depth grows away from the viewer, from ten."""
    x, y, z = 0.03, 0.05, 0.02
    front, left, right, top = view_points(
        torch.tensor([[[x, y, z]]]) * OBJECT_TO_WORLD,
    )[0, :, 0]
    torch.testing.assert_close(front, torch.tensor([5 * x, 5 * (y + 0.01), 10 - 5 * (z - 0.01)]))
    torch.testing.assert_close(left, torch.tensor([-5 * z, 5 * (y + 0.01), 10 - 5 * (x - 0.01)]), atol=1e-6, rtol=0)
    torch.testing.assert_close(right, torch.tensor([5 * z, 5 * (y + 0.01), 10 - 5 * (-x - 0.01)]), atol=1e-6, rtol=0)
    torch.testing.assert_close(top, torch.tensor([5 * x, 5 * (-z + 0.01), 10 - 5 * (y - 0.01)]), atol=1e-6, rtol=0)
    landmark = front_landmarks(torch.tensor([[[x, y, z]]]) * OBJECT_TO_WORLD)[0, 0]
    assert torch.equal(landmark, front[:2])


def test_visible_vertices_show_their_own_uv(head, mesh):
    """In the front view, where a vertex projects, and where it is the nearest."""
    rasters = draw(head, mesh, resolution=512)
    vertex_uv = torch.zeros(len(head.vertices), 2)
    vertex_uv[head.topology.faces] = head.topology.uvs[head.topology.uv_faces]
    points = view_points(mesh.vertices)
    towards = {FRONT_VIEW: (0, 0, 1), LEFT_VIEW: (1, 0, 0), RIGHT_VIEW: (-1, 0, 0), TOP_VIEW: (0, 1, 0)}
    used = torch.zeros(len(head.vertices), dtype=torch.bool)
    used[head.topology.faces] = True
    for view, direction in towards.items():
        facing = torch.nn.functional.normalize(mesh.vertices[0], dim=1) @ torch.tensor(direction, dtype=torch.float32) > 0.8
        off_seam = (vertex_uv[:, 0] - 0.5).abs() < 0.4
        chosen = used & facing & off_seam & (vertex_uv[:, 1] > 0.05) & (vertex_uv[:, 1] < 0.95)
        assert chosen.sum() > 5
        grid = points[:1, view, chosen, None, :2]  # [1, K, 1, 2]
        found = torch.nn.functional.grid_sample(rasters.uv[:1, view].permute(0, 3, 1, 2), grid, align_corners=False)[0, :, :, 0].T
        away = (found - vertex_uv[chosen]).norm(dim=1)
        assert away.median() < 0.01, view


def test_the_side_plane_is_the_sum_of_both_side_views(head, mesh, rng):
    texture = torch.randn(2, 3, 16, 16, generator=rng)
    rasters = draw(head, mesh)
    planes = texture_planes(texture, rasters)
    left, right, front, top = (sample_uv(texture, rasters.uv[:, view]) for view in (LEFT_VIEW, RIGHT_VIEW, FRONT_VIEW, TOP_VIEW))
    torch.testing.assert_close(planes, torch.stack([front, left + right, top], dim=1), rtol=0, atol=1e-6)
    assert (left - right).abs().max() > 1


def test_the_background_shows_the_centre_of_the_texture(head, mesh, rng):
    texture = torch.randn(2, 3, 16, 16, generator=rng)
    planes = texture_planes(texture, draw(head, mesh))
    centre = texture[:, :, 7:9, 7:9].mean(dim=(2, 3))
    for plane, times in ((FRONT, 1), (SIDE, 2), (TOP, 1)):
        torch.testing.assert_close(planes[:, plane, :, 0, 0], times * centre, rtol=0, atol=1e-6)


def test_the_side_is_covered_where_the_first_side_view_is_and_nothing_is_soft_there(head, mesh):
    rasters = draw(head, mesh)
    seen = watched(mesh, head.topology)
    assert torch.equal(rasters.coverage[:, SIDE], (seen["view_filled"][:, LEFT_VIEW] > 0).float())
    assert torch.equal(rasters.coverage[:, FRONT], seen["view_filled"][:, FRONT_VIEW])
    assert torch.equal(rasters.coverage[:, TOP], seen["view_filled"][:, TOP_VIEW])
    assert ((rasters.coverage[:, FRONT] > 0.01) & (rasters.coverage[:, FRONT] < 0.99)).any(), "the mask's soft edge is kept"
    assert not torch.equal(seen["view_filled"][:, LEFT_VIEW] > 0, seen["view_filled"][:, RIGHT_VIEW] > 0)


def test_the_open_mouth_is_covered_in_the_front_plane(head):
    mesh = head.mesh()
    seen = watched(mesh, head.topology)
    front = seen["view_face"][0, FRONT_VIEW] < 0
    column, row = ((front_landmarks(mesh.landmarks)[0, 48:60].mean(dim=0) + 1) / 2 * SIZE).int().tolist()
    assert front[row, column], "the mesh has a hole there"
    assert draw(head, mesh).coverage[0, FRONT, 0, row, column] == 1
    assert draw(head, mesh).visible[0, FRONT_VIEW, 0, row, column] == 0
    assert seen["view_filled"][0, FRONT_VIEW, 0, 0, 0] == 0


def test_triangles_are_seen_from_their_own_side_only():
    towards = [(-0.5, -0.5, 0.0), (0.5, -0.5, 0.0), (0.0, 0.6, 0.0)]
    mesh, topology = triangles(towards)
    assert [bool((face >= 0).any()) for face in watched(mesh, topology)["view_face"][0]] == [True, False, False, False]
    mesh, topology = triangles(towards[::-1])
    assert not (watched(mesh, topology)["view_face"] >= 0).any()


def test_barycentrics_of_small_triangles_shrink():
    """They add up to area / (area + eps), so uv is drawn to the texture's centre and depth to the viewer."""
    size = 64
    side = 2e-4
    middle = 1 / size  # of a pixel
    corners = [(middle - side, middle - side, 0.0), (middle + side, middle - side, 0.0), (middle, middle + side, 0.0)]
    mesh, topology = triangles(corners)
    seen = watched(mesh, topology, size)
    row, column = (seen["view_face"][0, FRONT_VIEW] == 0).nonzero()[0].tolist()
    first, second, third = view_points(mesh.vertices)[0, FRONT_VIEW, :, :2].double()
    area = ((second - first)[0] * (third - first)[1] - (second - first)[1] * (third - first)[0]).abs()
    kept = float(area / (area + AREA_EPS))
    assert 0.9 < kept < 0.97, "small enough to be seen, large enough to be drawn"
    weights = seen["view_barycentrics"][0, FRONT_VIEW, row, column]
    assert float(weights.sum()) == pytest.approx(kept, abs=1e-3)
    assert float(seen["view_depth"][0, FRONT_VIEW, row, column]) == pytest.approx(10 * kept, rel=1e-3)
    uv = rasterize_views(mesh, topology, resolution=size).uv[0, FRONT_VIEW, row, column]
    expected = (weights[..., :2] * 1 - 0.5 * kept) + 0.5  # uv - 1/2 is a sum of weights times (corner uv - 1/2)
    torch.testing.assert_close(uv, expected, atol=1e-3, rtol=0)


def test_a_shrunk_triangle_comes_before_one_that_is_a_little_nearer():
    size, middle, side = 64, 1 / 64, 2e-4
    small = [(middle - side, middle - side, 0.0), (middle + side, middle - side, 0.0), (middle, middle + side, 0.0)]
    large = [(-0.5, -0.5, 0.2), (0.5, -0.5, 0.2), (0.0, 0.6, 0.2)]
    mesh, topology = triangles(large, small)
    assert (watched(mesh, topology, size)["view_face"][0, FRONT_VIEW] == 1).sum() == 1
    in_front = [(x, y, 2.0) for x, y, _ in large]
    mesh, topology = triangles(in_front, small)
    assert (watched(mesh, topology, size)["view_face"][0, FRONT_VIEW] == 1).sum() == 0


def ring(wall: float, outside: float = 0.0) -> Tensor:
    """Four views [1, 4, 1, 12, 12]: a square wall around a hole in the first, nothing in the others."""
    alpha = torch.full((1, 4, 1, 12, 12), outside)
    alpha[0, 0, 0, 3:9, 3:9] = wall
    alpha[0, 0, 0, 5:7, 5:7] = 0
    return alpha


@pytest.mark.parametrize(("wall", "holds"), [(1.0, True), (0.9965, True), (0.996, False), (0.5, False)])
def test_what_holds_the_flood(wall, holds):
    filled = fill_from_corner(ring(wall))
    assert bool((filled[0, 0, 0, 5:7, 5:7] == 1).all()) == holds
    assert (filled[0, 0, 0, :3] == 0).all()
    assert (filled[0, 1:] == 0).all(), "other views are left alone"
    assert float(filled[0, 0, 0, 3, 3]) == (1.0 if holds else pytest.approx(wall)), "what holds the flood counts as covered"


def test_the_flood_does_not_pass_between_diagonal_pixels():
    alpha = ring(1.0)
    alpha[0, 0, 0, 4, 4] = 0  # joins the hole at a corner only
    alpha[0, 0, 0, 3, 3] = 0
    assert (fill_from_corner(alpha)[0, 0, 0, 5:7, 5:7] == 1).all()
    alpha[0, 0, 0, 4, 5] = 0
    alpha[0, 0, 0, 3, 4] = 0
    assert (fill_from_corner(alpha)[0, 0, 0, 5:7, 5:7] == 0).all()


def test_a_covered_corner_covers_everything():
    alpha = ring(1.0)
    alpha[0, 0, 0, 0, 0] = 1
    filled = fill_from_corner(alpha)
    assert (filled[0, 0] == 1).all()
    assert (filled[0, 1:] == 0).all()
    alpha[0, 0, 0, 0, 0] = 0.9
    assert fill_from_corner(alpha)[0, 0, 0, 0, 1] == 0, "a softly covered one does not"


def test_a_wall_across_the_picture_covers_what_lies_behind():
    """The flood starts at one pixel; border pixels that it cannot reach count as holes, unlike in our own rasters."""
    alpha = torch.zeros(1, 4, 1, 12, 12)
    alpha[0, 0, 0, :, 8] = 1
    filled = fill_from_corner(alpha)[0, 0, 0]
    assert (filled[:, :8] == 0).all()
    assert (filled[:, 8:] == 1).all()
    assert (fill_holes(alpha[:, 0])[0, 0, :, 9:] == 0).all()


def test_a_batch_is_independent(head, mesh):
    both = draw(head, mesh)
    for index in range(2):
        alone = draw(head, mesh[index : index + 1])
        for name in ("uv", "visible", "coverage"):
            assert torch.equal(getattr(both, name)[index : index + 1], getattr(alone, name)), name


def test_rasters_carry_no_gradient_unless_asked(head):
    vertices = head.mesh().vertices.clone().requires_grad_()
    mesh = HeadMesh(vertices, head.mesh().landmarks)
    assert not draw(head, mesh).uv.requires_grad
    rasters = draw(head, mesh, differentiable=True)
    rasters.uv[:, FRONT_VIEW].sum().backward()
    assert vertices.grad is not None
    assert vertices.grad.abs().sum() > 0
    assert torch.isfinite(vertices.grad).all()
    assert not rasters.coverage.requires_grad


def test_a_mask_of_any_size_is_looked_up_like_the_texture(head, mesh):
    """Row 0 is v = 1, and every view reads the same mask."""
    rows = torch.linspace(1, 0, 32)[None, :, None].expand(1, 32, 32)
    rasters = draw(head, mesh, topology=replace(head.topology, uv_mask=rows))
    v = rasters.uv[..., 1]
    inside = (rasters.visible[:, :, 0] > 0) & (v > 0.05) & (v < 0.95)
    assert inside.float().mean() > 0.1
    # Row i of the mask has v = 1 - (i + 1/2) / 32 and the value 1 - i / 31.
    expected = (v * 32 - 0.5) / 31
    torch.testing.assert_close(rasters.visible[:, :, 0][inside], expected[inside], atol=1e-4, rtol=0)


def test_views_are_turned_by_float_angles():
    """The cosine of a quarter turn is not quite zero in float32, and what it leaks is part of the released arithmetic."""
    assert float(torch.tensor(math.pi / 2, dtype=torch.float32).double().cos()) == pytest.approx(-4.371139e-08, rel=1e-6)
    leaked = view_points(torch.tensor([[[1e4, 0.0, 0.0]]]))[0, LEFT_VIEW, 0, 0]
    assert float(leaked) == pytest.approx(5e4 / OBJECT_TO_WORLD * -4.371139e-08, rel=1e-5)
