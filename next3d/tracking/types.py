"""What travels through tracking: a detected face, the square of the photo that is cut out, and the head that was fitted.

Photo coordinates are pixels, x right, y down, pixel centres at .5. Unit coordinates are those of a square crop: (0, 0) is its top left
corner, (1, 1) its bottom right one; depths are in the same unit. A normalised intrinsic matrix maps camera rays to unit coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from next3d.head.model import HeadParams
from next3d.types import Camera, TensorBundle

Pixels = npt.NDArray[np.uint8]
"""A picture [H, W, 3], sRGB, row 0 at the top."""
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Face:
    """One face that a detector found."""

    points: Points
    """[478, 3] as MediaPipe numbers them: photo coordinates, and depth on the same scale (smaller is nearer; only differences count)."""
    score: float = 1.0
    """How sure the detector is, in [0, 1]."""
    spread: Points | None = None
    """[478]: how far looks at the face disagree about each point (standard deviation of one look, pixels); None after a single look."""


@dataclass(frozen=True)
class CropFrame:
    """A square of a photo, upright; it may reach beyond the photo's borders."""

    left: float
    """Photo coordinates of the top left corner."""
    top: float
    side: float
    """Photo pixels."""

    def to_unit(self, points: Points) -> Points:
        """Photo coordinates [..., 2 or 3] to unit coordinates; a third column is scaled alone."""
        moved = points.copy()
        moved[..., :2] -= (self.left, self.top)
        return moved / self.side

    def to_photo(self, points: Points) -> Points:
        """The way back."""
        moved = points * self.side
        moved[..., :2] += (self.left, self.top)
        return moved


@dataclass(frozen=True)
class HeadFit(TensorBundle):
    """N heads as seen by N cameras."""

    params: HeadParams
    camera: Camera
    error: Tensor
    """[N]: mean distance of the fitted from the detected points in the picture, as a part of the distance of the outer eye corners."""
