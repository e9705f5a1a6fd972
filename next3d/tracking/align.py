"""Crops as EG3D's FFHQ data has them: which square of a photo, and its pixels (docs/tracking.md, "Crop, camera and the canonical frame").

A fixed template of five points is laid over a face by a scaled orthographic camera; scale and place of the template make the crop, its
rotation is left to the camera label, so crops stay upright (Deng et al. 2019, "Accurate 3D Face Reconstruction", Sec. 4, whose recipe EG3D
follows for its FFHQ data). Constants and how they were found: `TEMPLATE`, `Framing`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from next3d.tracking.types import CropFrame, Pixels, Points

RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""MediaPipe's numbers of the edges of the lids: their mean stays where it is when the eye looks elsewhere, the iris does not."""
NOSE_TIP = (1, 4)
MOUTH_CORNERS = (61, 291)

TEMPLATE = np.array(
    [
        [-0.0745, 0.0475, 0.1799],
        [0.0745, 0.0475, 0.1799],
        [0.0, -0.0388, 0.2526],
        [-0.0581, -0.1160, 0.1967],
        [0.0581, -0.1160, 0.1967],
    ]
)
"""The five points [5, 3] of the default head at rest, world units, made symmetric: right and left eye, nose, right and left corner of
the mouth. A test compares them with the head."""

_REACH = 8
"""Photo pixels beyond a crop that its filters see."""
_LARGEST = 1e9
"""Photo coordinates beyond this are a mistake."""
_FADES = ((0.000, 0.025, 0.005), (0.015, 0.080, 0.020), (0.050, 0.250, 0.080))
"""Outside the photo: from this distance to that distance the picture turns into one blurred with this standard deviation; crop sides."""


@dataclass(frozen=True)
class Framing:
    """Where a crop has the template. The defaults are those of EG3D's FFHQ data."""

    centre: tuple[float, float, float] = (0.0, -0.0188, 0.2)
    """The point of the default head, world units, that comes to the middle of the crop. Height: mean over two photos that came with their
    crops; depth: where the lines of sight of their labels meet, which is the depth of the five points' middle."""
    unit: float = 0.2462
    """World units of the default head that are one unit of the recipe's template; mean over the same two photos."""
    rescale: float = 300.0
    """Pixels per template unit in the recipe's picture of 1024 x 1024."""
    cut: float = 700.0
    """Pixels of that picture, around its middle, that are kept."""

    @property
    def side(self) -> float:
        """Side of the crop on the face, world units of the default head."""
        return self.unit * self.cut / self.rescale


FFHQ = Framing()


def five_points(points: Points) -> Points:
    """Right eye, left eye, tip of the nose, right and left corner of the mouth [..., 5, D] of MediaPipe's points [..., 478, D]."""
    groups = (RIGHT_EYE, LEFT_EYE, NOSE_TIP, MOUTH_CORNERS[:1], MOUTH_CORNERS[1:])
    return np.stack([points[..., group, :].mean(axis=-2) for group in groups], axis=-2)


def crop_frame(points: Points, framing: Framing = FFHQ) -> CropFrame:
    """The square that EG3D's preparation would cut out around a face.

    Args:
        points: [478, 3], MediaPipe's points in photo coordinates, with depths on the same scale.
        framing: where the crop has the face.

    Raises:
        ValueError: points that are not finite, or all in one place.
    """
    five = five_points(points)
    scale, middle = fit_template(five, TEMPLATE - np.array(framing.centre)) if np.isfinite(five).all() else (0.0, five[0, :2])
    if not 1e-6 < scale * framing.side < _LARGEST:
        raise ValueError("crop: the points of the face are not finite, or all in one place")
    side = scale * framing.side
    return CropFrame(left=float(middle[0] - side / 2), top=float(middle[1] - side / 2), side=float(side))


def fit_template(found: Points, template: Points) -> tuple[float, Points]:
    """Scale and place of a template under the scaled orthographic camera that shows it best.

    The camera's rotation comes from depths as well (a rigid fit; Umeyama 1991, Eq. 39-43): five points without depth leave it to the
    tip of the nose alone, and a smile would pass for a nod. Scale and place are least squares in the picture.

    Args:
        found: [K, 3], photo coordinates (y down) and depths (smaller is nearer).
        template: [K, 3], y up, z towards the viewer.

    Returns:
        Photo pixels per unit of the template, and where its origin comes to lie [2].
    """
    upright = found * (1, -1, -1)
    apart = upright - upright.mean(axis=0)
    left, values, right = np.linalg.svd(apart.T @ (template - template.mean(axis=0)))
    if values[1] < 1e-12:
        return 0.0, found[0, :2]
    turn = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    flat = template @ turn.T[:, :2]  # [K, 2], x right, y up
    flat_apart = flat - flat.mean(axis=0)
    scale = float((flat_apart * apart[:, :2]).sum() / (flat_apart * flat_apart).sum())
    return scale, found[:, :2].mean(axis=0) - scale * flat.mean(axis=0) * (1, -1)


def cut_crop(photo: npt.NDArray[np.uint8], frame: CropFrame, resolution: int) -> Pixels:
    """The pixels of a square of a photo.

    Smaller by Lanczos filters (after averaging whole blocks of pixels where there are many), larger by bicubic ones. Beyond the photo's
    borders it is mirrored, and blurred the more the further out, so that nobody sees a face twice nor where the photo ends.

    Args:
        photo: [H, W, 3], or [H, W] for masks.
        frame: the square; parts of it, or all, may lie beyond the borders.
        resolution: side of the crop, pixels.

    Returns:
        [resolution, resolution, 3], or without the last axis; the photo's own pixels where the frame is the photo at its own resolution.

    Raises:
        ValueError: a frame that is not a square.
    """
    numbers = np.array([frame.left, frame.top, frame.side])
    if not (np.isfinite(numbers).all() and np.abs(numbers).max() < _LARGEST and frame.side > 0):
        raise ValueError(f"crop: {frame} is not a square of a photo")
    block = max(1, int(frame.side / resolution / 2))
    source = photo if block == 1 else np.asarray(Image.fromarray(photo).reduce(block))
    left, top, side = frame.left / block, frame.top / block, frame.side / block

    # The part of the photo that the crop sees, as a picture of its own.
    first_row, first_column, count = math.floor(top) - _REACH, math.floor(left) - _REACH, math.ceil(side) + 2 * _REACH + 1
    window = Image.fromarray(_mirrored(_mirrored(source, first_row, count, axis=0), first_column, count, axis=1))
    box = (left - first_column, top - first_row, left - first_column + side, top - first_row + side)
    smaller = frame.side >= resolution
    crop = window.resize((resolution, resolution), Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC, box=box)
    return _fade_outside(crop, frame, photo.shape)


def _mirrored(image: npt.NDArray[np.uint8], first: int, count: int, *, axis: int) -> npt.NDArray[np.uint8]:
    """`count` rows or columns from `first` on; beyond the borders they run back, the outermost one twice."""
    length = image.shape[axis]
    if first >= 0 and first + count <= length:
        return np.ascontiguousarray(image[first : first + count] if axis == 0 else image[:, first : first + count])
    index = np.arange(first, first + count) % (2 * length)
    return np.take(image, np.minimum(index, 2 * length - 1 - index), axis=axis)


def _fade_outside(crop: Image.Image, frame: CropFrame, shape: tuple[int, ...]) -> Pixels:
    """Blur a crop beyond the borders of a photo [H, W, ...]; inside it stays as it is."""
    inner = np.asarray(crop)
    across = _distance_outside(frame.left, frame.side, shape[1], crop.width)
    down = _distance_outside(frame.top, frame.side, shape[0], crop.width)
    if not (across.any() or down.any()):
        return inner
    distance = np.hypot(across[None, :], down[:, None])  # [R, R], crop sides
    outside = distance > 0
    distance = distance[outside].astype(np.float32)  # [M]
    values = inner[outside].astype(np.float32)  # [M, ...]
    for start, end, width in _FADES:
        if distance.max() > start:
            blurred = _blurred(crop, width * crop.width)[outside]
            share = ((distance - start) / (end - start)).clip(0, 1)
            share = share * share * (3 - 2 * share)
            values += share.reshape(-1, *[1] * (values.ndim - 1)) * (blurred - values)
    picture = inner.copy()
    picture[outside] = np.rint(values).clip(0, 255).astype(np.uint8)
    return picture


def _blurred(image: Image.Image, width: float) -> npt.NDArray[np.uint8]:
    """Blurred with a standard deviation of `width` pixels; wide blurs of a smaller copy."""
    shrink = max(1, int(width / 2))
    if shrink == 1:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(width)))
    small = image.reduce(shrink).filter(ImageFilter.GaussianBlur(width / shrink))
    box = (0, 0, image.width / shrink, image.height / shrink)
    return np.asarray(small.resize(image.size, Image.Resampling.BILINEAR, box=box))


def _distance_outside(start: float, side: float, size: int, resolution: int) -> npt.NDArray[np.float64]:
    """How far each of a crop's pixels lies outside [0, size] along one axis, [resolution], crop sides."""
    place = start + (np.arange(resolution) + 0.5) * (side / resolution)
    return np.maximum(np.maximum(-place, place - size), 0) / side
