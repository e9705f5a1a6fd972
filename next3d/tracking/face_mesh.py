"""MediaPipe's face mesh: 478 landmarks per face, from models that lie in its package. Needs the extra `portraits`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from next3d.tracking.detector import Detector, DetectorSettings, open_detector
from next3d.tracking.types import Pixels, Points

__all__ = ["SMALLEST", "Detector", "DetectorSettings", "FaceMesh", "face_mesh_problem", "open_detector", "open_face_mesh"]

SMALLEST = 128
"""Side in pixels below which faces are hardly found."""


class FaceMesh:
    """Finds faces in single pictures."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector

    def find(self, image: Pixels) -> list[Points]:
        """Points [478, 3] of each face in an RGB image [H, W, 3]: pixels, and depth on the same scale."""
        found = self._detector.process(image).multi_face_landmarks or []
        scale = np.array([image.shape[1], image.shape[0], image.shape[1]])
        return [np.array([[point.x, point.y, point.z] for point in face.landmark]) * scale for face in found]


@contextmanager
def open_face_mesh() -> Iterator[FaceMesh]:
    """The detector, for up to two faces per picture."""
    solutions: Any = importlib.import_module("mediapipe").solutions
    with solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=2, refine_landmarks=True) as detector:
        yield FaceMesh(detector)


def face_mesh_problem(resolution: int) -> str | None:
    """Why the face mesh cannot look at pictures of a size, as a sentence; None if it can."""
    if importlib.util.find_spec("mediapipe") is None:
        return "needs MediaPipe; install the extra 'portraits': pip install 'next3d[portraits]'."
    if resolution < SMALLEST:
        return f"needs images of {SMALLEST} pixels or more, these have {resolution}."
    return None
