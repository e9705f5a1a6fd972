"""Regions: the mouth's pixels are the mouth's, windows do not tell the answer."""

from __future__ import annotations

import pytest
import torch

from next3d.render.cameras import orbit_camera, project
from tests.training.metrics.conftest import SIZE, frontal, mask_scenes
from training.metrics.controls import controls
from training.metrics.regions import control_regions, control_window, convex_mask, silhouette


def test_convex_mask_of_a_square_is_the_square():
    corners = torch.tensor([[[-0.5, -0.25], [0.5, -0.25], [0.5, 0.25], [-0.5, 0.25], [0.1, 0.1]]])
    mask = convex_mask(corners, 16)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[6:10, 4:12] = True
    assert torch.equal(mask[0], expected)


def test_convex_mask_agrees_with_a_triangulated_hull(rng):
    from scipy.spatial import Delaunay

    points = torch.rand(1, 9, 2, generator=rng) * 1.4 - 0.7
    axis = (torch.arange(128) + 0.5) / 64 - 1
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    inside = Delaunay(points[0].numpy()).find_simplex(torch.stack([columns, rows], -1).numpy()) >= 0
    mask = convex_mask(points, 128)[0].numpy()
    assert (inside & ~mask).sum() == 0
    assert (mask & ~inside).sum() < 0.03 * inside.sum()


def test_margin_widens_by_that_share_of_the_image():
    point = torch.zeros(1, 3, 2)
    assert convex_mask(point, 64, margin=0.25).sum().item() == pytest.approx(torch.pi * 16**2, rel=0.02)


def test_regions_hold_what_moves_and_leave_out_what_does_not(mask_head):
    scenes = mask_scenes(3, seed=0)
    for name, control in controls(mask_head).items():
        inside, elsewhere = control_regions(mask_head, scenes.params, scenes.camera, control, SIZE)
        assert not (inside & elsewhere).any()
        assert torch.equal(inside | elsewhere, silhouette(mask_head, scenes.params, scenes.camera, SIZE))
        landmarks = project(mask_head(control.set(scenes.params, torch.full([3], control.high))).landmarks, scenes.camera)
        pixels = ((landmarks[..., :2] + 1) / 2 * SIZE).long()
        eye, chin = pixels[:, 36], pixels[:, 8]
        rows = torch.arange(3)
        assert inside[rows, chin[:, 1], chin[:, 0]].all() == (name == "jaw")
        assert inside[rows, eye[:, 1], eye[:, 0]].all() == (name != "jaw")


def test_window_does_not_depend_on_the_control(mask_head):
    scenes = mask_scenes(4, seed=1)
    camera = orbit_camera(torch.linspace(-0.5, 0.5, 4), torch.zeros(4))
    for control in controls(mask_head).values():
        windows = [
            control_window(mask_head, control.set(scenes.params, torch.full([4], end)), camera, control)
            for end in (control.low, control.high)
        ]
        assert torch.equal(windows[0][0], windows[1][0])
        assert torch.equal(windows[0][1], windows[1][1])


def test_window_is_around_its_landmarks(mask_head):
    centre, half = control_window(mask_head, mask_head.neutral(2), frontal(2), controls(mask_head)["gaze"])
    landmarks = project(mask_head(mask_head.neutral(2)).landmarks, frontal(2))[..., :2]
    for area, eye in enumerate((range(36, 42), range(42, 48))):
        away = (landmarks[:, list(eye)] - centre[:, area, None]).abs().amax(dim=(1, 2))
        torch.testing.assert_close(away, half[:, area])
