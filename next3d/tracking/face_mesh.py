"""MediaPipe's face mesh: 478 landmarks per face, from models that lie in its package. Needs the extra `portraits`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from next3d.tracking.types import Face, Pixels, Points

SMALLEST = 128
"""Side in pixels below which faces are hardly found."""


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """How faces are looked for."""

    looks: int = 4
    """Looks at each face whose mean is taken; more are slower and less noisy."""
    film_looks: int = 2
    """The same for frames of films."""
    most_faces: int = 8
    """Faces per photo, the largest ones."""
    least_score: float = 0.5
    """Faces of which the detector is less sure are dropped."""
    task: Path | None = None
    """A face landmarker of MediaPipe's task API (`.task`) instead of the models in its package."""


class Detector:
    """Finds faces in photos, and follows one through a film. Get one from `open_detector`."""

    def __init__(self, mesh: FaceMesh, settings: DetectorSettings) -> None:
        self._mesh = mesh
        self.settings = settings

    def detect(self, image: Pixels) -> list[Face]:
        """All faces in a photo [H, W, 3], the largest first."""
        return [Face(points) for points in self._mesh.find(image)]

    def follow(self, image: Pixels) -> Face | None:
        """The face in the next frame of a film: the one that was followed so far, else the largest."""
        faces = self.detect(image)
        return faces[0] if faces else None

    def restart(self) -> None:
        """Forget the face that is followed: the next frame is the first of another film or part."""


@contextmanager
def open_detector(settings: DetectorSettings | None = None) -> Iterator[Detector]:
    """A detector that is ready.

    Raises:
        UserError: MediaPipe is not installed, or the task file is not one.
    """
    with open_face_mesh() as mesh:
        yield Detector(mesh, settings or DetectorSettings())


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
