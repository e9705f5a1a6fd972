"""Looks at a face through MediaPipe's newer task API, with the landmark model of a `.task` file that the user has.

That API finds faces by itself; it is shown the surroundings of a square, turned upright, and the face nearest to the middle counts.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.errors import UserError
from next3d.head.dense import DENSE_COUNT
from next3d.tracking.looks import Look, Square
from next3d.tracking.read import printable
from next3d.tracking.types import Pixels

_SEEN = 384
"""Pixels across what the API is shown."""
_AROUND = 1.4
"""What it is shown, in parts of the square."""


class TaskLooker:
    """What `next3d.tracking.looks.Looker` is, with another model. Close it when done."""

    def __init__(self, path: Path) -> None:
        """Load the model.

        Raises:
            UserError: the file is missing or no face landmarker.
        """
        if not path.is_file():
            raise UserError(f"{printable(path)}: no such file; expected a face landmarker of MediaPipe's task API (.task).")
        python: Any = importlib.import_module("mediapipe.tasks.python")
        try:
            options = python.vision.FaceLandmarkerOptions(
                base_options=python.BaseOptions(model_asset_buffer=path.read_bytes()), num_faces=2
            )
            self._landmarker = python.vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            why = " ".join(str(error).split())[:100]
            raise UserError(f"{printable(path)}: not a face landmarker of MediaPipe's task API ({why}).") from error

    def look(self, image: Pixels, square: Square) -> Look:
        """The 478 points as seen around a square; presence is 1 if a face is found there, else 0 (and the points mean nothing)."""
        media: Any = importlib.import_module("mediapipe")
        opencv: Any = importlib.import_module("cv2")
        scale = square.side * _AROUND / _SEEN
        turn = scale * np.array([[math.cos(square.turn), -math.sin(square.turn)], [math.sin(square.turn), math.cos(square.turn)]])
        corner = np.array([square.x, square.y]) - turn @ np.full(2, _SEEN / 2)  # photo = turn @ shown + corner
        matrix = np.column_stack([turn, corner + turn @ np.full(2, 0.5) - 0.5])  # OpenCV's pixel centres are whole numbers
        shown = opencv.warpAffine(image, matrix, (_SEEN, _SEEN), flags=opencv.INTER_LINEAR | opencv.WARP_INVERSE_MAP)
        faces = self._landmarker.detect(media.Image(image_format=media.ImageFormat.SRGB, data=np.ascontiguousarray(shown))).face_landmarks
        if not faces:
            return Look(np.zeros((DENSE_COUNT, 3)), 0.0)
        found = [np.array([[point.x, point.y, point.z] for point in face]) * _SEEN for face in faces]
        points = min(found, key=lambda one: float(np.linalg.norm(one[:, :2].mean(axis=0) - _SEEN / 2)))
        return Look(np.column_stack([points[:, :2] @ turn.T + corner, points[:, 2] * scale]), 1.0)

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()
