"""Views of a thing in space agree, wherever its depth is right; the truth has no depth error."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.config import preset
from next3d.generator import Generator
from next3d.render.cameras import orbit_camera
from next3d.render.rays import camera_rays
from next3d.types import Camera
from training.metrics.context import Context, MetricSettings
from training.metrics.readings import natural_scenes
from training.metrics.views import (
    TURNS,
    View,
    agreement,
    depth_error,
    measure_depth,
    measure_views,
    mesh_depth,
    reproject,
    true_views,
    turned_camera,
)

SIZE, RADIUS = 64, 0.25


def ball(camera: Camera, depth_size: int = SIZE) -> View:
    """A painted ball in front of nothing, exactly."""

    def hit(size: int) -> tuple[Tensor, Tensor, Tensor]:
        rays = camera_rays(camera, size)
        along = -(rays.origins * rays.directions).sum(dim=2)
        inside = RADIUS**2 - (rays.origins.square().sum(dim=2) - along.square())
        depth = along - inside.clamp_min(0).sqrt()
        points = rays.origins + depth[..., None] * rays.directions
        shape = (-1, 1, size, size)
        return points, depth.view(shape), (inside > 0).float().view(shape)

    points, _, covered = hit(SIZE)
    _, depth, opacity = hit(depth_size)
    paint = torch.sin(9 * points + torch.tensor([0.0, 1.0, 2.0])).transpose(1, 2).unflatten(2, (SIZE, SIZE))
    return View(torch.where(covered > 0, paint, -1.0), depth, opacity, camera)


@pytest.fixture(scope="module")
def cameras() -> tuple[Camera, Camera]:
    first = orbit_camera(torch.tensor([0.0, 0.3, -0.2]), torch.tensor([0.0, 0.1, -0.1]))
    return first, turned_camera(first, torch.tensor([0.3, -0.3, 0.2]))


def test_turned_cameras_go_around_the_vertical_axis():
    start = orbit_camera(torch.tensor([0.1]), torch.tensor([0.2]))
    torch.testing.assert_close(
        turned_camera(start, torch.tensor([0.3])).cam2world, orbit_camera(torch.tensor([0.4]), torch.tensor([0.2])).cam2world
    )


def test_views_of_a_solid_agree(cameras):
    found = agreement(*(ball(camera) for camera in cameras))
    assert found.psnr.min() > 35
    assert found.difference.max() < 1
    assert found.shared.min() > 50
    assert found.shared.max() < 95  # the far side of the ball is never seen


def test_coarse_depth_is_enlarged(cameras):
    found = agreement(*(ball(camera, 32) for camera in cameras))
    assert found.psnr.min() > 30


def test_wrong_depth_and_paint_that_follows_the_camera_disagree(cameras):
    first, second = (ball(camera) for camera in cameras)
    good = agreement(first, second)
    flat = [replace(view, depth=view.depth.mean() + 0 * view.depth) for view in (first, second)]
    assert agreement(*flat).psnr.max() < good.psnr.min() - 8
    painted = replace(second, image=first.image)
    assert agreement(first, painted).psnr.max() < good.psnr.min() - 15


def test_what_is_hidden_is_not_compared(cameras):
    """Something in front of the second camera hides the ball."""
    first, second = (ball(camera) for camera in cameras)
    hidden = replace(second, depth=second.depth - 0.1)
    assert not reproject(first, hidden)[1].any()
    assert agreement(first, hidden).psnr.isnan().all()


def test_depth_of_the_mesh_is_right_and_errors_have_their_size(truth, avatar_context):
    scenes = natural_scenes(avatar_context)[:3]
    depth, face = mesh_depth(truth.head, scenes.moving, scenes.camera, SIZE)
    assert 0.1 < face.float().mean() < 0.6
    view = View(torch.zeros(3, 3, SIZE, SIZE), depth, face.float(), scenes.camera)
    assert depth_error(truth.head, scenes.moving, view).max() < 1e-3
    error = depth_error(truth.head, scenes.moving, replace(view, depth=depth + 0.05))
    assert 5 < error.min() < error.max() < 15


def test_true_renderings_agree_and_have_the_depth_of_the_mesh(truth, avatar_context):
    scenes = natural_scenes(avatar_context)[:6]
    first, *others = true_views(truth)(scenes, [turned_camera(scenes.camera, torch.full([6], turn)) for turn in TURNS.values()])
    near, far = (agreement(first, other) for other in others)
    assert near.psnr.mean() > 24
    assert near.shared.mean() > 50
    assert far.psnr.mean() > 20
    assert 30 < far.shared.mean() < near.shared.mean() - 5  # cheeks and ears turn away
    assert depth_error(truth.head, scenes.moving, first).median() < 0.5
    assert (first.depth[first.opacity == 0] == 0).all()


def test_a_network_is_measured(portraits):
    torch.manual_seed(0)
    network = Generator(preset("tiny").generator, portraits.topology).eval().requires_grad_(False)
    size = network.config.image_resolution
    dataset = type(portraits)(portraits.contents, size)
    settings = MetricSettings(people=6, holdout=4, fitting=8, batch=4)
    context = Context(sampler=None, latent_size=network.config.latent_size, dataset=dataset, settings=settings, generator=network)
    figures = {figure.name: figure for figure in measure_views(context) + measure_depth(context)}
    kinds = ("psnr", "difference", "shared")
    assert list(figures) == [*(f"views_{kind}" for kind in kinds), *(f"views25_{kind}" for kind in kinds), "depth_error"]
    assert "15 degrees" in figures["views_psnr"].note
    assert "25 degrees" in figures["views25_psnr"].note
    assert figures["views25_shared"].floor < figures["views_shared"].floor
    for figure in figures.values():
        assert figure.floor is not None
    assert figures["depth_error"].floor < 2
