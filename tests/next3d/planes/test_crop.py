"""Mouth boxes, crops and pastes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.planes.crop import Boxes, crop, mouth_boxes, paste
from next3d.planes.frames import FRONT, PLANE_AXES, SIDE, TOP


def box(column: float, row: float, side: float, dtype: torch.dtype = torch.float32) -> Boxes:
    """One box by its centre."""
    return Boxes(torch.tensor([[column, row]], dtype=dtype), torch.tensor([side], dtype=dtype))


def ramp(size: int) -> Tensor:
    """[1, 2, size, size]: column and row of every pixel centre."""
    steps = torch.arange(size) + 0.5
    return torch.stack([steps.expand(size, size), steps[:, None].expand(size, size)])[None]


def places(boxes: Boxes, size: int) -> Tensor:
    """[1, 2, size, size]: where a crop's pixel centres lie."""
    start = boxes.center[0] - boxes.side / 2
    return start.reshape(1, 2, 1, 1) + ramp(size) * boxes.side / size


@pytest.mark.parametrize("size", [4, 16, 40], ids=["shrunk", "kept", "enlarged"])
@pytest.mark.parametrize("boxes", [box(16, 16, 16), box(13.3, 18.7, 15.21)], ids=["integer", "fractional"])
def test_crop_of_a_linear_ramp_is_exact(size, boxes):
    """Up to the antialiasing filter's own error where the step is a fraction of pixels, as in any such resampling."""
    exact = float(boxes.side) <= size or float(boxes.side) % size == 0
    torch.testing.assert_close(crop(ramp(32), boxes, size), places(boxes, size), rtol=1e-5, atol=1e-4 if exact else 0.06)


@pytest.mark.parametrize("size", [8, 12, 20, 31, 64])
def test_whole_image_equals_antialiased_interpolation(size, rng):
    image = torch.randn(2, 3, 20, 20, generator=rng)
    whole = Boxes(torch.full((2, 2), 10.0), torch.full((2,), 20.0))
    expected = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(crop(image, whole, size), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [6, 12, 24])
def test_integer_box_equals_antialiased_interpolation_of_the_window(size, rng):
    """Away from the window's border, where the crop sees the neighbouring pixels and the window's interpolation cannot."""
    image = torch.randn(1, 2, 40, 40, generator=rng)
    expected = F.interpolate(image[..., 9:33, 5:29], size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(crop(image, box(17, 21, 24), size)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


def test_crop_and_paste_of_pixels_is_the_identity(rng):
    """At one patch pixel per image pixel."""
    image = torch.randn(1, 3, 24, 24, generator=rng)
    boxes = box(11, 13, 8)
    torch.testing.assert_close(crop(image, boxes, 8), image[..., 9:17, 7:15])
    torch.testing.assert_close(paste(crop(image, boxes, 8), boxes, image), image)


@pytest.mark.parametrize("boxes", [box(16, 16, 12), box(15.3, 18.1, 10.9)], ids=["integer", "fractional"])
@pytest.mark.parametrize("size", [8, 32])
def test_smooth_images_survive_crop_and_paste(boxes, size):
    smooth = torch.sin(ramp(32) * 0.15).sum(dim=1, keepdim=True)
    pasted = paste(crop(smooth, boxes, size), boxes, smooth)
    torch.testing.assert_close(pasted, smooth, rtol=0, atol=0.08)


def test_paste_keeps_what_is_outside_and_replaces_what_is_inside(rng):
    image, patch = torch.randn(1, 2, 32, 32, generator=rng), torch.full((1, 2, 8, 8), 5.0)
    pasted = paste(patch, box(15.5, 18.25, 10.0), image)
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[13:24, 10:21] = True  # rows 13.25 to 23.25, columns 10.5 to 20.5
    assert torch.equal(pasted[..., ~inside], image[..., ~inside])
    torch.testing.assert_close(pasted[..., 14:23, 11:20], torch.full((1, 2, 9, 9), 5.0))
    torch.testing.assert_close(pasted[..., 15, 10], 0.5 * image[..., 15, 10] + 2.5)  # half of the pixel's column lies inside
    torch.testing.assert_close(pasted[..., 13, 15], 0.25 * image[..., 13, 15] + 3.75)


def test_paste_undoes_the_crop_s_placement():
    """A patch of coordinates lands on these coordinates."""
    boxes = box(14.6, 17.2, 11.7)
    pasted = paste(places(boxes, 16), boxes, torch.zeros(1, 2, 32, 32))
    middle = (slice(None), slice(None), slice(13, 22), slice(11, 19))
    torch.testing.assert_close(pasted[middle], ramp(32)[middle], rtol=0, atol=0.06)


def test_boxes_of_a_batch_are_independent(rng):
    image, patch = torch.randn(2, 1, 16, 16, generator=rng), torch.randn(2, 1, 4, 4, generator=rng)
    boxes = Boxes(torch.tensor([[5.0, 6.0], [9.5, 8.0]]), torch.tensor([6.0, 9.0]))
    for sample in range(2):
        one = slice(sample, sample + 1)
        torch.testing.assert_close(crop(image, boxes, 5)[one], crop(image[one], boxes[one], 5))
        torch.testing.assert_close(paste(patch, boxes, image)[one], paste(patch[one], boxes[one], image[one]))


def test_gradients(rng):
    image = torch.randn(1, 1, 8, 8, generator=rng).double().requires_grad_()
    patch = torch.randn(1, 1, 3, 3, generator=rng).double().requires_grad_()
    boxes = box(3.7, 4.2, 4.6, torch.float64)
    assert torch.autograd.gradcheck(lambda x: crop(x, boxes, 3), image)
    assert torch.autograd.gradcheck(lambda p, x: paste(p, boxes, x), (patch, image))


def landmarks_at(center: tuple[float, float, float], half: tuple[float, float, float]) -> Tensor:
    """[1, 68, 3]: the outer lips span `half` around the centre, the corners are level with it."""
    points = torch.full((68, 3), 9.0)  # other landmarks must not matter
    points[48:60] = torch.tensor(center)
    points[48, 0], points[54, 0] = center[0] - half[0], center[0] + half[0]
    points[51, 1], points[57, 1] = center[1] + half[1], center[1] - half[1]
    points[51, 2], points[57, 2] = center[2] + half[2], center[2] - half[2]
    return points[None]


def plane_box(landmarks: Tensor, plane: int) -> Boxes:
    return mouth_boxes(landmarks, plane=plane, resolution=100, box_warp=2.0, margin=1.2)


def test_boxes_are_faces_of_one_cube():
    points = landmarks_at((0.1, -0.2, 0.3), (0.1, 0.05, 0.02))
    boxes = [plane_box(points, plane) for plane in (FRONT, TOP, SIDE)]
    for plane, found in enumerate(boxes):
        assert float(found.side) == pytest.approx(0.2 * 1.2 * 50)
        expected = [50 + 50 * (0.1, -0.2, 0.3)[axis] for axis in PLANE_AXES[plane]]
        assert found.center[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("half", [(0.1, 0.05, 0.02), (0.05, 0.1, 0.02), (0.05, 0.02, 0.1)], ids=["wide", "open", "protruding"])
def test_side_is_the_largest_extent_with_its_margin(half):
    assert float(plane_box(landmarks_at((0, 0, 0), half), FRONT).side) == pytest.approx(0.2 * 1.2 * 50)


@pytest.mark.parametrize("center", [(0.98, 0.0, 0.0), (-1.5, 0.3, 2.0), (0.0, -0.95, 0.95)], ids=str)
@pytest.mark.parametrize("plane", [FRONT, TOP, SIDE])
def test_boxes_stay_inside_the_plane(center, plane):
    found = plane_box(landmarks_at(center, (0.1, 0.05, 0.0)), plane)
    start, end = found.center - found.side / 2, found.center + found.side / 2
    assert start.min() >= -1e-4
    assert end.max() <= 100 + 1e-4
    assert float(found.side) == pytest.approx(12, rel=1e-5)


def test_a_mouth_larger_than_the_plane_takes_the_whole_plane():
    found = plane_box(landmarks_at((0.2, 0.1, 0.0), (3.0, 0.1, 0.0)), FRONT)
    assert float(found.side) == 100
    assert found.center.tolist() == [[50.0, 50.0]]
