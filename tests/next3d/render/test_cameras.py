"""Cameras, labels, projection and rays."""

from __future__ import annotations

import json
import math

import pytest
import torch

from next3d.render.cameras import (
    ORBIT_TARGET,
    PORTRAIT_FOCAL,
    mirrored_camera,
    moved_image_camera,
    orbit_camera,
    portrait_intrinsics,
    project,
)
from next3d.render.rays import camera_rays
from next3d.types import Camera
from tests.models import labels


def cameras() -> Camera:
    """Some from all around, with another focal length and an off-centre principal point."""
    camera = orbit_camera(torch.tensor([0.0, 0.7, -2.0]), torch.tensor([0.0, -0.4, 1.0]), target=ORBIT_TARGET)
    intrinsics = camera.intrinsics.clone()
    intrinsics[1, 0, 0], intrinsics[2, 0, 2] = 2.0, 0.4
    return Camera(camera.cam2world, intrinsics)


def test_a_point_on_a_ray_projects_to_its_pixel_centre(rng):
    size, camera = 8, cameras()
    rays = camera_rays(camera, size)
    distance = 1 + 3 * torch.rand(3, size * size, 1, generator=rng)
    pixels = project(rays.origins + distance * rays.directions, camera)
    centers = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    expected = torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(3, -1, -1)
    torch.testing.assert_close(pixels[..., :2], expected, rtol=0, atol=1e-4)


def test_projected_depth_is_along_the_camera_axis(rng):
    camera = cameras()
    points = torch.randn(3, 10, 3, generator=rng)
    forward, position = camera.cam2world[:, :3, 2], camera.cam2world[:, :3, 3]
    expected = ((points - position[:, None]) * forward[:, None]).sum(-1)
    torch.testing.assert_close(project(points, camera)[..., 2], expected, rtol=1e-4, atol=1e-5)


def test_rays_are_unit_and_start_at_the_camera():
    camera = cameras()
    rays = camera_rays(camera, 5)
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(3, 25))
    torch.testing.assert_close(rays.origins, camera.cam2world[:, None, :3, 3].expand(3, 25, 3))
    middle = rays.directions[0, 12]
    torch.testing.assert_close(middle, camera.cam2world[0, :3, 2])


@pytest.mark.parametrize("target", [(0.0, 0.0, 0.0), ORBIT_TARGET, (0.1, -0.2, 0.3)], ids=str)
def test_orbit_cameras_look_at_their_target(target):
    yaw, pitch = torch.tensor([0.0, 1.0, -2.5, 3.1]), torch.tensor([0.0, 0.5, -0.8, 1.2])
    camera = orbit_camera(yaw, pitch, radius=2.7, target=target)
    seen = project(torch.tensor(target).expand(4, 1, 3), camera)
    torch.testing.assert_close(seen[..., :2], torch.zeros(4, 1, 2), rtol=0, atol=1e-5)
    assert (seen[..., 2] > 1).all()
    torch.testing.assert_close(camera.cam2world[:, :3, 3].norm(dim=1), torch.full((4,), 2.7))
    rotation = camera.cam2world[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(4, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(4))
    assert (rotation[:, 1, 1] < 0).all(), "upright: the image's down is the world's down"


def test_directions_of_yaw_and_pitch():
    """Positive yaw moves towards +x, positive pitch up; at zero the camera stands on +z and sees +x on its right."""
    position = orbit_camera(torch.tensor([0.0, 0.3, 0.0]), torch.tensor([0.0, 0.0, 0.3])).cam2world[:, :3, 3]
    torch.testing.assert_close(position[0], torch.tensor([0.0, 0.0, 2.7]))
    assert position[1, 0] > 0
    assert position[2, 1] > 0
    seen = project(torch.tensor([[[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]]), orbit_camera(torch.zeros(1), torch.zeros(1)))[0]
    assert seen[0, 0] > 0
    assert seen[1, 1] < 0, "y points down in images"


def test_portrait_camera_spans_what_the_data_sets_span():
    camera = orbit_camera(torch.zeros(1), torch.zeros(1))
    half = 0.5 * 2.7 / PORTRAIT_FOCAL
    edge = project(torch.tensor([[[half, half, 0.0]]]), camera)[0, 0]
    torch.testing.assert_close(edge[:2], torch.tensor([1.0, -1.0]))
    assert math.degrees(2 * math.atan(0.5 / PORTRAIT_FOCAL)) == pytest.approx(13.37, abs=0.01)
    assert 2 * half == pytest.approx(0.633, abs=1e-3)


def test_label_round_trip():
    label = labels(3)
    assert label.shape == (3, 25)
    camera = Camera.from_label(label)
    assert torch.equal(camera.to_label(), label)
    assert torch.equal(Camera.from_label(torch.cat([label, torch.ones(3, 2)], dim=1)).to_label(), label)


def test_label_layout():
    """16 numbers of camera-to-world and 9 of intrinsics, row by row."""
    camera = Camera.from_label(torch.arange(25.0)[None])
    assert camera.cam2world[0].flatten().tolist() == list(range(16))
    assert camera.cam2world[0, 1].tolist() == [4, 5, 6, 7]
    assert camera.intrinsics[0, 2].tolist() == [22, 23, 24]
    torch.testing.assert_close(labels(1)[0, 16:], portrait_intrinsics()[0].flatten())
    assert labels(1)[0, 12:16].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("shape", [(25,), (2, 24), (1, 2, 25)], ids=str)
def test_label_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="25"):
        Camera.from_label(torch.zeros(shape))


def test_published_label_looks_at_the_head(shared_dir):
    """A label of the published sample: the camera is 2.7 from the origin and sees the face in the middle."""
    index = shared_dir / "next3d-layout-sample"
    files = sorted(index.rglob("dataset.json"))
    if not files:
        pytest.skip("no published sample in ../shared")
    label = torch.tensor([row[1] for row in json.loads(files[0].read_text())["labels"]], dtype=torch.float32)
    camera = Camera.from_label(label)
    torch.testing.assert_close(camera.cam2world[:, :3, 3].norm(dim=1), torch.full((len(label),), 2.7), rtol=0.02, atol=0)
    seen = project(torch.tensor([0.0, 0.0, 0.1]).expand(len(label), 1, 3), camera)
    assert (seen[..., 2] > 2).all()
    assert seen[..., :2].abs().max() < 0.3
    rays = camera_rays(camera, 4)
    assert (rays.directions[:, :, 2] * camera.cam2world[:, None, 2, 3] < 0).all()


def skewed() -> Camera:
    """Cameras with unequal focal lengths and a skew, too."""
    camera = cameras()
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, 0, 1], intrinsics[1, 1, 1], intrinsics[1, 1, 2] = 0.1, 2.5, 0.6
    return Camera(camera.cam2world, intrinsics)


def test_the_mirrored_camera_sees_the_mirrored_world_mirrored(rng):
    points, camera = torch.randn(3, 9, 3, generator=rng) * 0.3, skewed()
    flip = torch.tensor([-1.0, 1.0, 1.0])
    mirrored = mirrored_camera(camera)
    torch.testing.assert_close(project(points * flip, mirrored), project(points, camera) * flip, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.linalg.det(mirrored.cam2world), torch.ones(3), rtol=1e-4, atol=1e-4)
    twice = mirrored_camera(mirrored)
    torch.testing.assert_close(twice.to_label(), camera.to_label())


def test_a_moved_image_is_that_of_the_moved_camera(rng):
    """Turn and scale about the centre, then shift: exact for any principal point, unequal focal lengths and skew."""
    points, camera = torch.randn(3, 9, 3, generator=rng) * 0.3, skewed()
    turn, scale = torch.tensor([0.3, -2.0, 1.0]), torch.tensor([1.2, 0.7, 1.0])
    shift = torch.tensor([[0.1, 0.0], [-0.2, 0.05], [0.0, 0.3]])
    before = project(points, camera)
    x, y = before[..., 0], before[..., 1]
    cosine, sine = turn.cos()[:, None], turn.sin()[:, None]
    turned = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1) * scale[:, None, None] + 2 * shift[:, None]
    after = project(points, moved_image_camera(camera, turn, scale, shift))
    torch.testing.assert_close(after, torch.cat([turned, before[..., 2:]], dim=-1), rtol=1e-4, atol=1e-4)
