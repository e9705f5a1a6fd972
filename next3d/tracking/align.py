"""Crops as EG3D's FFHQ data has them: which square of a photo, and its pixels (docs/tracking.md, "Crop, camera and the canonical frame").

A scaled orthographic camera is fitted to five points of a face (Deng et al. 2019, "Accurate 3D face reconstruction", whose recipe EG3D,
Sec. 5, follows): its scale and the place of the template's origin make the crop, its rotation is left to the head, so crops stay upright.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

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


@dataclass(frozen=True)
class Framing:
    """Where a crop has the template. With the defaults, crops are those of EG3D's FFHQ data."""

    centre: tuple[float, float, float] = (0.0, -0.03, 0.0)
    """The point of the default head, world units, that comes to the middle of the crop: the origin of the canonical frame."""
    unit: float = 0.25
    """World units that are one unit of the template; the recipe's numbers are said in those."""
    rescale: float = 300.0
    """Pixels per template unit in the recipe's picture of 1024 x 1024."""
    cut: float = 700.0
    """Pixels of that picture, around its middle, that are kept."""

    @property
    def side(self) -> float:
        """Side of the crop on the face, world units."""
        return self.unit * self.cut / self.rescale


FFHQ = Framing()


def five_points(points: Points) -> Points:
    """Right eye, left eye, tip of the nose, right and left corner of the mouth [..., 5, D] of MediaPipe's points [..., 478, D]."""
    groups = (RIGHT_EYE, LEFT_EYE, NOSE_TIP, MOUTH_CORNERS[:1], MOUTH_CORNERS[1:])
    return np.stack([points[..., group, :].mean(axis=-2) for group in groups], axis=-2)


def crop_frame(points: Points, framing: Framing = FFHQ) -> CropFrame:
    """The square that EG3D's preparation would cut out around a face.

    Args:
        points: [478, 2 or more], photo coordinates of MediaPipe's points.
        framing: where the crop has the face.

    Raises:
        ValueError: points that are not finite, or all in one place.
    """
    five = five_points(points[..., :2])
    scale = 0.0
    if np.isfinite(five).all():
        scale, middle = fit_orthographic(five, TEMPLATE - np.array(framing.centre))
    if not scale > 0:
        raise ValueError("crop: the points of the face are not finite or all in one place")
    side = scale * framing.side
    return CropFrame(left=float(middle[0] - side / 2), top=float(middle[1] - side / 2), side=float(side))


def fit_orthographic(found: Points, template: Points) -> tuple[float, Points]:
    """Least squares of `found` [K, 2] ~ scale * (x, -y) of `template` [K, 3] + translation: (scale, translation [2])."""
    flat = template[:, :2] * (1, -1)
    flat_centre, found_centre = flat.mean(axis=0), found.mean(axis=0)
    apart = flat - flat_centre
    scale = float((apart * (found - found_centre)).sum() / (apart * apart).sum())
    return scale, found_centre - scale * flat_centre


def cut_crop(photo: npt.NDArray[np.uint8], frame: CropFrame, resolution: int) -> Pixels:
    """The pixels [resolution, resolution, 3] of a square."""
    if not (math.isfinite(frame.left + frame.top + frame.side) and frame.side > 0):
        raise ValueError(f"crop: {frame} is not a square")
    left, top = math.floor(frame.left) - 8, math.floor(frame.top) - 8
    size = math.ceil(frame.side) + 16
    rows, columns = _mirrored(np.arange(top, top + size), len(photo)), _mirrored(np.arange(left, left + size), photo.shape[1])
    box = (frame.left - left, frame.top - top, frame.left - left + frame.side, frame.top - top + frame.side)
    window = Image.fromarray(photo[rows][:, columns])
    return np.asarray(window.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box))


def _mirrored(index: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Indices that run to and fro over 0 ... count - 1, the first and the last one twice."""
    index = index % (2 * count)
    return np.minimum(index, 2 * count - 1 - index)
