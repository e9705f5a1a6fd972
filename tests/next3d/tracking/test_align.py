"""Which square of a photo becomes the crop, and its pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.render.cameras import moved_image_camera, orbit_camera, project
from next3d.tracking.align import FFHQ, TEMPLATE, Framing, crop_frame, cut_crop, five_points
from next3d.tracking.types import CropFrame, Points

AS_PORTRAITS = Framing(centre=(0.0, 0.0, 0.2))
"""Synthetic portraits have the world's origin in the middle."""


def seen_points(*, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Points:
    """The neutral default head's 478 points in a portrait, unit coordinates with depths."""
    head = load_head("procedural")
    points = dense_embedding(head).place(head(head.neutral(1)).vertices)
    camera = orbit_camera(torch.tensor([yaw]), torch.tensor([pitch]))
    camera = moved_image_camera(camera, torch.tensor([roll]), torch.ones(1), torch.zeros(1, 2))
    shown = project(points, camera)[0]
    unit = torch.cat([(shown[:, :2] + 1) / 2, (shown[:, 2:] - 2.5) * 4.2647 / 2.5], dim=1)
    return unit.detach().double().numpy()


def numbers(frame: CropFrame) -> list[float]:
    """Middle and side."""
    return [frame.left + frame.side / 2, frame.top + frame.side / 2, frame.side]


def test_template_is_the_default_head() -> None:
    head = load_head("procedural")
    points = dense_embedding(head).place(head(head.neutral(1)).vertices)[0].detach().double().numpy()
    np.testing.assert_allclose(five_points(points), TEMPLATE, atol=2e-3)


def test_a_portrait_at_its_own_framing_is_its_whole_picture() -> None:
    frame = crop_frame(seen_points(), AS_PORTRAITS)
    np.testing.assert_allclose(numbers(frame), [0.5, 0.5, 1.0], atol=0.025)


def test_crops_move_and_grow_with_the_photo() -> None:
    points = seen_points(yaw=0.3, pitch=-0.1)
    plain, moved = crop_frame(points), crop_frame(points * 700 + np.array([-31.7, 55.2, 9.0]))
    np.testing.assert_allclose(
        [moved.left, moved.top, moved.side], [plain.left * 700 - 31.7, plain.top * 700 + 55.2, plain.side * 700], rtol=1e-9
    )


@pytest.mark.parametrize("pose", [{"yaw": 0.7}, {"yaw": -0.7}, {"pitch": 0.3}, {"pitch": -0.3}, {"roll": 0.5}, {"yaw": 0.4, "roll": -0.4}])
def test_turned_heads_are_cut_as_large_as_others_around_the_face(pose: dict[str, float]) -> None:
    frame, straight = crop_frame(seen_points(**pose)), crop_frame(seen_points())
    assert frame.side == pytest.approx(straight.side, rel=0.04)
    yaw, pitch, roll = pose.get("yaw", 0.0), pose.get("pitch", 0.0), pose.get("roll", 0.0)
    camera = moved_image_camera(
        orbit_camera(torch.tensor([yaw]), torch.tensor([pitch])), torch.tensor([roll]), torch.ones(1), torch.zeros(1, 2)
    )
    middle = (project(torch.tensor([[FFHQ.centre]]), camera)[0, 0, :2] + 1) / 2
    np.testing.assert_allclose(numbers(frame)[:2], middle.numpy(), atol=0.02)


def test_gaze_does_not_move_the_crop() -> None:
    points = seen_points()
    looking = points.copy()
    looking[468:, 0] += 0.02
    assert crop_frame(looking) == crop_frame(points)


@pytest.mark.parametrize(
    "points", [np.full((478, 3), np.nan), np.zeros((478, 3)), np.ones((478, 3)) * [1, 0, 0]], ids=["nan", "one place", "line"]
)
def test_points_that_are_no_face_are_refused(points: Points) -> None:
    with pytest.raises(ValueError, match="points of the face"):
        crop_frame(points)


@pytest.fixture
def photo() -> np.ndarray:
    """Noise over broad waves, [90, 120, 3]."""
    rows, columns = np.mgrid[:90, :120]
    waves = 120 + 60 * np.sin(rows / 17 + 1)[..., None] * np.cos(columns[..., None] / (13 + np.arange(3)))
    return (waves + np.random.default_rng(0).normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)


def test_the_photo_itself_and_whole_pixels_come_out_exactly(photo: np.ndarray) -> None:
    square = np.ascontiguousarray(photo[:, :90])
    assert (cut_crop(square, CropFrame(0, 0, 90), 90) == square).all()
    assert (cut_crop(photo, CropFrame(17, 5, 64), 64) == photo[5:69, 17:81]).all()
    assert (cut_crop(photo[..., 0], CropFrame(17, 5, 64), 64) == photo[5:69, 17:81, 0]).all(), "masks have no colours"


def test_parts_of_pixels_count() -> None:
    ramp = np.broadcast_to((2 * np.arange(120))[None, :, None], (90, 120, 3)).astype(np.uint8)
    crop = cut_crop(ramp, CropFrame(20.3, 10.8, 50), 50).astype(float)
    np.testing.assert_allclose(crop[25, 5:45, 0], 2 * (20.3 + np.arange(5, 45)), atol=0.51)
    half = cut_crop(ramp, CropFrame(20.25, 10, 60), 30).astype(float)
    np.testing.assert_allclose(half[15, 5:25, 1], 2 * (20.25 + 2 * np.arange(5, 25) + 0.5), atol=0.51)


@pytest.mark.parametrize("side", [24.0, 48.0, 150.0, 900.0])
def test_a_shifted_frame_shifts_the_crop(side: float) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    step = side / 24
    first, second = (cut_crop(photo, CropFrame(left, -20.0, side), 24) for left in (100.0, 100.0 + 3 * step))
    inside = slice(None) if side > 400 else slice(round(24 * 20 / side) + 1, None)  # rows of the photo
    kept = 24 if 100 + side + 3 * step < 400 else max(0, math.floor((400 - 100) / step))
    gap = np.abs(first[inside, 3:kept].astype(int) - second[inside, : kept - 3].astype(int))
    assert gap.max(initial=0) <= 1


def test_fine_patterns_become_their_mean() -> None:
    board = np.indices((640, 640)).sum(axis=0) % 2 * 255
    for side in (320.0, 640.0):
        crop = cut_crop(np.repeat(board[..., None], 3, axis=2).astype(np.uint8), CropFrame(0, 0, side), 32)
        assert np.abs(crop[4:-4, 4:-4].astype(int) - 127).max() <= 3


def test_beyond_the_border_the_picture_runs_back_without_a_seam(photo: np.ndarray) -> None:
    smooth = (128 + 100 * np.sin(np.indices((90, 120)).sum(axis=0) / 9))[..., None].repeat(3, axis=2).astype(np.uint8)
    crop = cut_crop(smooth, CropFrame(-40, -30, 160), 160).astype(int)
    assert (crop[30:120, 40:160] == smooth).all(), "the photo stays as it is"
    seam = np.abs(np.diff(crop[..., 0], axis=0))[[28, 29, 30]].max()
    assert seam <= np.abs(np.diff(smooth[..., 0].astype(int), axis=0)).max()
    far, near = crop[:, 0, 0].std(), crop[30:120, 50, 0].std()
    assert far < 0.5 * near, "it fades"


@pytest.mark.parametrize("frame", [(500.0, 500.0, 40.0), (-1e5, 3.0, 30.0), (-1e5, -1e5, 3e5), (40.0, 40.0, 0.01)])
def test_any_square_gives_a_picture(photo: np.ndarray, frame: tuple[float, float, float]) -> None:
    crop = cut_crop(photo, CropFrame(*frame), 32)
    assert crop.shape == (32, 32, 3)
    assert crop.dtype == np.uint8
    assert 40 < crop.mean() < 220


@pytest.mark.parametrize("frame", [(0.0, 0.0, 0.0), (0.0, math.nan, 9.0), (math.inf, 0.0, 9.0), (0.0, 0.0, -3.0)])
def test_what_is_no_square_is_refused(photo: np.ndarray, frame: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="not a square"):
        cut_crop(photo, CropFrame(*frame), 32)
