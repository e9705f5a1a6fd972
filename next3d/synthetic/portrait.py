"""One synthetic portrait and its ground truth, as arrays at the borders of the module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Segment(IntEnum):
    """Values of segmentation images. Lips, brows and stubble are skin; the tongue belongs to the mouth."""

    BACKGROUND = 0
    SKIN = 1
    EYES = 2
    MOUTH = 3
    TEETH = 4
    HAIR = 5
    CLOTHES = 6
    EXTRA = 7
    """Glasses (frames), hats, earrings."""


SEGMENTATION_CLASSES = tuple(segment.name.lower() for segment in Segment)


@dataclass(frozen=True)
class FurtherTruth:
    """Ground truth that is made on request."""

    normals: npt.NDArray[np.float32]
    """[H, H, 3], unit, world frame, of what is seen at the pixel centres; 0 on background."""
    dense_2d: npt.NDArray[np.float32]
    """[478, 2], pixels: points numbered as MediaPipe's face mesh has them (`next3d.head.dense`)."""
    dense_3d: npt.NDArray[np.float32]
    """[478, 3], world units."""


@dataclass(frozen=True)
class Portrait:
    """A rendered sample of H x H pixels; pixel (row i, column j) has its centre at (j + 0.5, i + 0.5)."""

    image: npt.NDArray[np.uint8]
    """[H, H, 3], sRGB, box-filtered."""
    segmentation: npt.NDArray[np.uint8]
    """[H, H], values of `Segment`, at the pixel centres."""
    depth: npt.NDArray[np.float32]
    """[H, H], world units along the camera's z axis at the pixel centres; 0 on background."""
    label: npt.NDArray[np.float32]
    """[25], camera label."""
    head: Mapping[str, npt.NDArray[np.float32]]
    """Fields of `HeadParams` without the batch dimension."""
    landmarks_2d: npt.NDArray[np.float32]
    """[68, 2], pixels (x right, y down; 0 is the image's left or upper edge)."""
    landmarks_3d: npt.NDArray[np.float32]
    """[68, 3], world units."""
    further: FurtherTruth | None = None
