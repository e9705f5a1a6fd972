"""Mouth boxes of released networks: whole pixels, cut and pasted as pictures of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.official.mouth import PixelBoxes, mouth_boxes

SIZE = 64


def landmarks(*, left: tuple[float, float], right: tuple[float, float], height: float = 4.0) -> Tensor:
    """68 points whose outer lips span the pixels from the corner `right` (column, row) to the corner `left`, `height` pixels high."""
    pixels = torch.full((1, 68, 2), 1000.0)  # points that do not belong to the outer lips must not matter
    pixels[0, 48:60] = (torch.tensor(left) + torch.tensor(right)) / 2
    pixels[0, 48], pixels[0, 54] = torch.tensor(right), torch.tensor(left)
    pixels[0, 51, 1] += height / 2
    pixels[0, 57, 1] -= height / 2
    return pixels / SIZE * 2 - 1


def box(points: Tensor, margin: float = 1.2) -> list[int]:
    """Row and column where the box starts and ends: row0, row1, column0, column1."""
    found = mouth_boxes(points, resolution=SIZE, margin=margin)
    return torch.stack([found.start, found.end], dim=2).flatten().tolist()


def boxes(*rows: tuple[int, int, int, int]) -> PixelBoxes:
    """Boxes from row0, row1, column0, column1."""
    table = torch.tensor(rows)
    return PixelBoxes(table[:, [0, 2]], table[:, [1, 3]])


BOXES = {
    "square": (10, 30, 5, 25),
    "higher than wide": (10, 31, 20, 40),
    "as large as the crop": (8, 40, 8, 40),
    "in the corner": (44, 64, 40, 64),
    "two pixels": (31, 33, 12, 14),
    "everything": (0, 64, 0, 64),
}


def test_lengths_are_cut_to_whole_pixels():
    """Lips 10.9 pixels wide: a side of int(13.08) = 13, half of it 6, from int(31.25 - 6) to int(31.25 + 6)."""
    points = landmarks(left=(36.7, 20.5), right=(25.8, 20.5))
    assert box(points) == [14, 26, 25, 37]
    assert box(points, margin=1.28) == [14, 26, 25, 37], "int(13.95) = 13"
    assert box(points, margin=1.3) == [13, 27, 24, 38], "int(14.17) = 14"
    assert mouth_boxes(points, resolution=SIZE, margin=1.2).start.dtype == torch.int64


def test_the_larger_extent_counts():
    assert box(landmarks(left=(33.5, 30.5), right=(31.5, 30.5), height=10.5)) == [24, 36, 26, 38]


def test_the_middle_is_between_the_corners_of_the_mouth():
    points = landmarks(left=(40.5, 34.5), right=(24.5, 26.5))
    assert box(points) == [21, 39, 23, 41]
    points[0, 51] = torch.tensor([0.2, 0.2])  # lips beyond, but the corners stay
    assert box(points) == [21, 39, 23, 41]


@pytest.mark.parametrize(
    ("shift", "expected"),
    [((-30.0, 0.0), [21, 39, 0, 17]), ((30.0, 0.0), [21, 39, 46, 64]), ((0.0, -29.0), [0, 17, 23, 41]), ((28.0, 28.0), [46, 64, 46, 64])],
    ids=str,
)
def test_boxes_that_leave_the_plane_are_moved_inside(shift, expected):
    """The original stops with an error there. Cutting rounds towards zero, so boxes beyond it are a pixel shorter."""
    points = landmarks(left=(40.5, 34.5), right=(24.5, 26.5)) + torch.tensor(shift) * 2 / SIZE
    assert box(points) == expected


def test_a_box_that_starts_a_part_of_a_pixel_early_is_cut_not_moved():
    """The original takes this one: int(-0.5) is 0, and the end stays."""
    points = landmarks(left=(16.5, 30.5), right=(0.5, 22.5))
    assert box(points) == [17, 35, 0, 17]
    assert box(points - 0.2 / SIZE) == [17, 35, 0, 17]


@pytest.mark.parametrize("scale", [1e-4, 40.0], ids=["a point", "larger than the plane"])
def test_boxes_of_any_landmarks_can_be_used(scale, rng):
    points = landmarks(left=(40.5, 34.5), right=(24.5, 26.5)) * scale
    row0, row1, column0, column1 = box(points)
    assert 0 <= row0 < row1 <= SIZE
    assert 0 <= column0 < column1 <= SIZE
    found = mouth_boxes(points, resolution=SIZE, margin=1.2)
    image = torch.randn(1, 2, SIZE, SIZE, generator=rng)
    assert torch.isfinite(found.put(found.cut(image, 32), image)).all()


@pytest.mark.parametrize("size", [16, 32], ids=["smaller crop", "larger crop"])
@pytest.mark.parametrize("name", BOXES)
def test_cut_equals_interpolation_of_the_pixels_in_the_box(name, size, rng):
    """The picture ends at the box: nothing from outside may leak in."""
    row0, row1, column0, column1 = BOXES[name]
    image = torch.randn(1, 3, SIZE, SIZE, generator=rng)
    window = image[:, :, row0:row1, column0:column1]
    expected = F.interpolate(window, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(boxes(BOXES[name]).cut(image, size), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [16, 64], ids=["enlarged patch", "shrunk patch"])
@pytest.mark.parametrize("name", BOXES)
def test_put_pastes_the_resized_patch_and_keeps_the_rest(name, size, rng):
    """The patch becomes a square of the box's height; the row extent counts where both differ."""
    row0, row1, column0, column1 = BOXES[name]
    image, patch = torch.randn(1, 3, SIZE, SIZE, generator=rng), torch.randn(1, 3, size, size, generator=rng)
    side = row1 - row0
    square = F.interpolate(patch, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    found = boxes(BOXES[name]).put(patch, image)
    width = min(side, column1 - column0)
    expected = image.clone()
    expected[:, :, row0:row1, column0 : column0 + width] = square[..., :width]
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[row0:row1, column0 : column0 + width] = True
    torch.testing.assert_close(found[..., inside], expected[..., inside], rtol=0, atol=6e-6)
    outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
    outside[row0:row1, column0:column1] = False
    assert torch.equal(found[..., outside], image[..., outside])


def test_put_is_precise_far_from_the_origin(rng):
    """Where a box is must not matter: places in the patch are differences of coordinates."""
    patch, image = torch.randn(1, 2, 64, 64, generator=rng, dtype=torch.float64), torch.zeros(1, 2, 256, 256)
    exact = F.interpolate(patch, size=(30, 30), mode="bilinear", align_corners=False, antialias=True).float()
    found = boxes((220, 250, 210, 240)).put(patch.float(), image)[:, :, 220:250, 210:240]
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-6)


def test_boxes_of_a_batch_are_independent(rng):
    image, patch = torch.randn(2, 3, SIZE, SIZE, generator=rng), torch.randn(2, 3, 16, 16, generator=rng)
    both = boxes(BOXES["square"], BOXES["in the corner"])
    for index in range(2):
        alone = both[index : index + 1]
        chosen = slice(index, index + 1)
        torch.testing.assert_close(both.cut(image, 16)[chosen], alone.cut(image[chosen], 16))
        torch.testing.assert_close(both.put(patch, image)[chosen], alone.put(patch[chosen], image[chosen]))


def test_gradients_flow_through_what_is_cut_and_put(rng):
    window = boxes(BOXES["square"])
    image = torch.randn(1, 1, SIZE, SIZE, generator=rng, requires_grad=True)
    window.cut(image, 16).sum().backward()
    assert image.grad is not None
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[10:30, 5:25] = True
    assert (image.grad[0, 0][inside] > 0).all()
    assert (image.grad[0, 0][~inside] == 0).all()
    image.grad = None
    patch = torch.randn(1, 1, 16, 16, generator=rng, requires_grad=True)
    window.put(patch, image).sum().backward()
    assert patch.grad is not None
    assert (patch.grad > 0).all()
    assert (image.grad[0, 0][inside] == 0).all()
    assert (image.grad[0, 0][~inside] == 1).all()


def test_the_network_looks_into_the_front_view_and_leaves_the_other_planes(next3d, mesh, rng):
    drawn = torch.randn(2, 3, 4, 64, 64, generator=rng)
    rows = torch.randn(2, 10, 16, generator=rng)
    seen: dict[str, Tensor] = {}
    done = next3d.mouth(drawn, mesh.landmarks, rows, "const", seen.__setitem__)
    assert torch.equal(done[:, 1:], drawn[:, 1:])
    window = next3d.mouth.window(mesh.landmarks, 64)
    assert isinstance(window, PixelBoxes)
    torch.testing.assert_close(seen["mouth_crop"], window.cut(drawn[:, 0], 64))
    torch.testing.assert_close(seen["stitched"], window.put(seen["mouth"], drawn[:, 0]))
    assert torch.equal(done[:, 0], seen["blended"])
