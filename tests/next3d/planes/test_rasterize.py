"""Rasters of the four views: axes, culling, mirror symmetry, coverage, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.planes.frames import FRONT, PLANE_AXES, SIDE, TOP
from next3d.planes.rasterize import FRONT_VIEW, LEFT_VIEW, RIGHT_VIEW, TOP_VIEW, VIEWS, plane_coverage, rasterize_planes
from next3d.types import HeadMesh, Rasters
from tests.models import RADII, ToyHead, toy_head
from torch_utils.ops.triplane import sample_planes

SIZE, BOX = 128, 0.6
TOWARDS = torch.tensor([[0.0, 0, 1], [0, 1, 0], [1, 0, 0], [-1, 0, 0]])
"""Where the viewer stands: front, top, the person's left, right."""


def draw(toy: ToyHead, mesh: HeadMesh, **changes) -> Rasters:
    options = {"topology": toy.topology, "resolution": SIZE, "box_warp": BOX} | changes
    return rasterize_planes(mesh, **options)


def flip(x: Tensor) -> Tensor:
    """Mirror the columns of [..., P, P]."""
    return x.flip(-1)


def swap_u(uv: Tensor, hit: Tensor) -> Tensor:
    """UVs [..., P, P, 2] of the other half of a mirror-symmetric head, where the mesh is hit."""
    return torch.where(hit[..., None], torch.stack([1 - uv[..., 0], uv[..., 1]], dim=-1), uv)


def is_hit(rasters: Rasters) -> Tensor:
    """[N, 4, P, P] bool."""
    return rasters.uv.abs().sum(dim=-1) > 0


def test_views_share_the_planes_of_the_sampler():
    assert [view.plane for view in VIEWS] == [FRONT, TOP, SIDE, SIDE]
    for view, towards in zip(VIEWS, TOWARDS, strict=True):
        assert {view.axis, *PLANE_AXES[view.plane]} == {0, 1, 2}
        assert towards[view.axis] == view.towards


@pytest.mark.parametrize("seed", [None, 3], ids=["ellipsoid", "deformed"])
def test_rasters_and_sampler_agree_on_axes(toy, seed):
    """Looking up a plane raster where the sampler would look for a visible vertex returns that vertex's own uv."""
    mesh = toy.mesh(2, seed=seed)
    rasters = draw(toy, mesh)
    vertex_uv = torch.zeros(len(toy.vertices), 2)
    vertex_uv[toy.topology.faces] = toy.topology.uvs[toy.topology.uv_faces]
    off_seam = (vertex_uv[:, 0] - 0.5).abs() < 0.45
    normals = toy.vertices / torch.tensor(RADII).square()
    normals = normals / normals.norm(dim=1, keepdim=True)
    for index, view in enumerate(VIEWS):
        features = torch.zeros(2, 3, 2, SIZE, SIZE)
        features[:, view.plane] = rasters.uv[:, index].movedim(-1, 1)
        found = 3 * sample_planes(features, mesh.vertices, axes=PLANE_AXES, box_warp=BOX)  # the mean of one plane and two empty ones
        visible = off_seam & (normals @ TOWARDS[index] > 0.6) & (vertex_uv[:, 1] - 0.5).abs().lt(0.45)
        assert visible.sum() > 30
        error = (found - vertex_uv)[:, visible].norm(dim=-1)
        assert error.quantile(0.99) < 3 / SIZE, f"view {index}: plane order or sign differs between raster and sampler"


def test_each_view_shows_the_side_that_faces_it(toy):
    """Of a sphere-like head the front view shows the front half of the UVs, and so on."""
    rasters, mesh = draw(toy, toy.mesh()), toy.mesh()
    u, v = rasters.uv[0].unbind(-1)
    hit, slack = is_hit(rasters)[0], 0.02
    assert ((u[FRONT_VIEW] - 0.5).abs() < 0.25 + slack)[hit[FRONT_VIEW]].all()
    assert (v[TOP_VIEW] > 0.5 - slack)[hit[TOP_VIEW]].all()
    assert (u[LEFT_VIEW] > 0.5 - slack)[hit[LEFT_VIEW]].all()
    assert (u[RIGHT_VIEW] < 0.5 + slack)[hit[RIGHT_VIEW]].all()
    covered = 0.25 * BOX**2 * hit.float().mean(dim=(1, 2)) * 4  # world area of each silhouette
    x, y, z = RADII
    expected = torch.pi * torch.tensor([x * y, x * z, z * y, z * y])
    torch.testing.assert_close(covered, expected, rtol=0.03, atol=0)
    assert mesh.vertices.abs().max() < BOX / 2


@pytest.mark.parametrize("index", range(4), ids=["front", "top", "left", "right"])
def test_insides_are_culled(toy, index):
    """Of an open shell whose near half is missing, the view from that side shows nothing."""
    normals = toy.topology.guide_colors[toy.topology.faces].mean(dim=1)
    near = normals @ TOWARDS[index] > 0
    shell = toy.without(near)
    assert not is_hit(draw(toy, toy.mesh(), topology=shell))[0, index].any()
    full = is_hit(draw(toy, toy.mesh()))[0, index]
    half = is_hit(draw(toy, toy.mesh(), topology=toy.without(~near)))[0, index]
    assert (full == half).float().mean() > 0.999


@pytest.mark.parametrize("index", range(4), ids=["front", "top", "left", "right"])
def test_the_nearer_surface_hides_the_farther(toy, index):
    """A small second ellipsoid shows where it stands before the head, and not where it stands behind it."""
    one, marked = toy.topology, torch.full_like(toy.topology.uvs, 0.9)
    both = replace(
        one,
        faces=torch.cat([one.faces, one.faces + len(toy.vertices)]),
        uv_faces=torch.cat([one.uv_faces, one.uv_faces + len(one.uvs)]),
        uvs=torch.cat([one.uvs, marked]),
    )
    for side in (1, -1):
        vertices = torch.cat([toy.vertices, 0.2 * toy.vertices + side * 0.25 * TOWARDS[index]])
        rasters = draw(toy, HeadMesh(vertices[None], toy.mesh().landmarks), topology=both)
        shown = ((rasters.uv[0, index] - 0.9).abs() < 1e-6).all(dim=-1).any()
        assert shown == (side == 1)


def test_mirrored_head_gives_mirrored_rasters(toy):
    """Front and top are flipped; left and right change places without being flipped, because they share the side plane's axes."""
    mesh = toy.mesh(2, seed=5)
    one, other = draw(toy, mesh), draw(toy, toy.mirrored(mesh))
    hit = is_hit(one)
    for view, twin, change in ((FRONT_VIEW,) * 2 + (flip,), (TOP_VIEW,) * 2 + (flip,), (LEFT_VIEW, RIGHT_VIEW, lambda x: x)):
        uv = swap_u(one.uv[:, view], hit[:, view]).movedim(-1, 1)
        close = (other.uv[:, twin].movedim(-1, 1) - change(uv)).abs().amax(dim=1) < 1e-4
        assert close.float().mean() > 0.998, view  # the rest are pixel centres on an edge, and the seam
        close = (other.visible[:, twin] - change(one.visible[:, view])).abs() < 1e-3
        assert close.float().mean() > 0.998, view


def test_mouth_hole_is_open_in_the_texture_and_covered_in_the_front_plane(toy):
    rasters = draw(toy, toy.mesh())
    column, row = ((coordinate / BOX + 0.5) * SIZE for coordinate in toy.mesh().landmarks[0, 60:68, :2].mean(dim=0))
    at = (0, FRONT_VIEW, 0, int(row), int(column))
    assert is_hit(rasters)[0, FRONT_VIEW, int(row), int(column)]
    assert rasters.visible[at] == 0
    assert rasters.coverage[0, FRONT, 0, int(row), int(column)] == 1
    inside = rasters.coverage[0, FRONT, 0, int(row) - 8 : int(row) + 9, int(column) - 12 : int(column) + 13]
    assert (inside > 0.99).all(), "the hole's soft rim is covered, too"


def test_only_the_front_view_is_filled(toy):
    """A hole in every view's mask: the front's is covered, those of top and sides stay open."""
    masks = torch.ones(1, 4, 1, 9, 9)
    masks[..., 3:6, 3:6] = 0
    masks[..., 0, :] = 0
    coverage = plane_coverage(masks)
    assert coverage[0, FRONT, 0, 3:6, 3:6].min() == 1
    assert coverage[0, TOP, 0, 3:6, 3:6].max() == 0
    assert coverage[0, SIDE, 0, 3:6, 3:6].max() == 0
    assert coverage[..., 0, :].max() == 0


def test_a_leaking_rim_does_not_keep_the_hole_open():
    masks = torch.ones(1, 4, 1, 9, 9)
    masks[..., 4, 4] = 0
    masks[..., 4, 5:] = 0.7  # a faint line from the hole to the border
    assert plane_coverage(masks)[0, FRONT, 0, 4, 4] == 1
    assert plane_coverage(masks)[0, FRONT, 0, 4, 6] == pytest.approx(0.7)


def test_soft_edge_of_the_mask_is_kept(toy):
    rasters = draw(toy, toy.mesh())
    visible, coverage = rasters.visible[:, FRONT_VIEW], rasters.coverage[:, FRONT]
    soft = (coverage > 0.02) & (coverage < 0.98)
    assert soft.sum() > SIZE / 2
    torch.testing.assert_close(coverage[soft], visible[soft])
    assert (rasters.coverage[:, TOP] == rasters.visible[:, TOP_VIEW]).all()
    assert (rasters.coverage[:, SIDE] == rasters.visible[:, [LEFT_VIEW, RIGHT_VIEW]].amax(dim=1)).all()
    assert coverage[~is_hit(rasters)[:, FRONT_VIEW, None]].max() == 0


def test_background_is_not_covered_even_where_the_whole_uv_square_is(toy):
    """Background pixels carry uv (0, 0), which a mask may well contain."""
    everywhere = replace(toy.topology, uv_mask=torch.ones(1, 8, 8))
    rasters = draw(toy, toy.mesh(), topology=everywhere)
    torch.testing.assert_close(rasters.visible[:, :, 0], is_hit(rasters).float())
    assert rasters.coverage[..., 0, :].max() == 0


def test_batch_is_independent(toy):
    mesh = toy.mesh(3, seed=1)
    together = draw(toy, mesh)
    for sample in range(3):
        alone = draw(toy, mesh[sample : sample + 1])
        assert torch.equal(together.uv[sample], alone.uv[0])
        assert torch.equal(together.coverage[sample], alone.coverage[0])


def test_a_head_outside_the_cube_draws_nothing(toy):
    away = HeadMesh(toy.mesh().vertices + 5, toy.mesh().landmarks + 5)
    assert not is_hit(draw(toy, away)).any()


def test_rasters_carry_no_gradient_unless_asked(toy):
    vertices = toy.mesh().vertices.clone().requires_grad_()
    mesh = HeadMesh(vertices, toy.mesh().landmarks)
    assert not any(getattr(draw(toy, mesh, resolution=16), name).requires_grad for name in ("uv", "visible", "coverage"))
    assert draw(toy, mesh, resolution=16, differentiable=True).uv.requires_grad


def test_uv_gradients_equal_finite_differences():
    """Away from silhouettes, where the visible triangle does not change."""
    toy = toy_head(rings=4, segments=8)
    topology = replace(toy.topology, uvs=toy.topology.uvs.double(), uv_mask=toy.topology.uv_mask.double())
    vertices = toy.vertices.double()[None].clone().requires_grad_()
    rng = torch.Generator().manual_seed(0)
    move = torch.randn(vertices.shape, generator=rng).double()

    def uv_of(points: Tensor, differentiable: bool = False) -> Tensor:
        mesh = HeadMesh(points, toy.mesh().landmarks)
        return rasterize_planes(mesh, topology, resolution=16, box_warp=BOX, differentiable=differentiable).uv

    step = 1e-6
    with torch.no_grad():
        ahead, back = uv_of(vertices + step * move), uv_of(vertices - step * move)
    slope = (ahead - back) / (2 * step)
    steady = slope.abs() < 1e3  # another triangle would jump by far more
    assert steady.float().mean() > 0.99
    weights = torch.randn(slope.shape, generator=rng).double() * steady
    (gradient,) = torch.autograd.grad((uv_of(vertices, differentiable=True) * weights).sum(), vertices)
    torch.testing.assert_close((gradient * move).sum(), (slope * weights).sum(), rtol=1e-5, atol=1e-6)
