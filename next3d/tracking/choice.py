"""Which of the faces in a photo are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from next3d.tracking.types import Face

Choice = Literal["largest", "all"]


def face_size(face: Face) -> float:
    """Side of a square as large as the box around the points, pixels: a turned head loses less of it than of its width."""
    extent = np.ptp(face.points[:, :2], axis=0)
    return float(np.sqrt(extent[0] * extent[1]))


def choose_faces(faces: Sequence[Face], choice: Choice) -> list[Face]:
    """The largest face, or all from the largest to the smallest; of equal ones the more certain, then the left one comes first."""
    ordered = sorted(faces, key=lambda face: (-face_size(face), -face.score, float(face.points[:, 0].mean())))
    return ordered[:1] if choice == "largest" else ordered
