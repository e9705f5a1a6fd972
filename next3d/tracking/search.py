"""Where in a photo faces may be: MediaPipe's two face detectors on the whole picture, on parts of it, and on the picture turned.

What comes out are candidates, each a square for `next3d.tracking.looks`; whether it is a face is decided there. The detectors see
128 x 128 (near faces) and 192 x 192 pixels (far ones) whatever the picture's size, so a face that is small in a large photo is found in
parts of it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from next3d.tracking.looks import MARGIN, Square, reduce
from next3d.tracking.types import Pixels

_SEEN = 384
"""Longer side of what the detectors are given: twice what they see."""
_LEAST = 0.3
"""Candidates of which a detector is less sure are left out."""
_FARTHEST = 12
"""A face is found where it is at least this part of the longer side."""
_SHARE = 0.3
"""Squares whose centres are nearer than this part of the larger side show the same face."""


@dataclass(frozen=True)
class Candidate:
    """Where a face may be."""

    square: Square
    score: float
    """The detector's, in [0, 1]."""


class Finder:
    """Runs the two detectors. Close it when done."""

    def __init__(self) -> None:
        make: Any = importlib.import_module("mediapipe").solutions.face_detection.FaceDetection
        self._detectors = [make(model_selection=number, min_detection_confidence=_LEAST) for number in (0, 1)]

    def close(self) -> None:
        """Free the models."""
        for detector in self._detectors:
            detector.close()

    def whole(self, image: Pixels) -> list[Candidate]:
        """Faces that are not small in a picture [H, W, 3]."""
        small, scale = shrink(image, _SEEN)
        return _apart([_scaled(found, scale) for found in self._run(small)])

    def framed(self, image: Pixels) -> list[Candidate]:
        """Faces that fill the picture: it is given a broad margin."""
        small, scale = shrink(image, _SEEN // 2)
        border = max(small.shape[:2]) // 2
        mean = small.mean(axis=(0, 1)).round().astype(np.uint8)
        padded = np.empty((small.shape[0] + 2 * border, small.shape[1] + 2 * border, 3), dtype=np.uint8)
        padded[:] = mean
        padded[border:-border, border:-border] = small
        return _apart([_scaled(_shifted(found, -border, -border), scale) for found in self._run(padded)])

    def parts(self, image: Pixels, smallest: float) -> Iterator[list[Candidate]]:
        """Faces of at least `smallest` pixels, level by level: each looks at smaller overlapping parts of the picture."""
        height, width = image.shape[:2]
        part = max(height, width) / 3
        while part * 3 > smallest * _FARTHEST:
            found = []
            for top in _starts(height, part):
                for left in _starts(width, part):
                    piece = image[top : top + math.ceil(part), left : left + math.ceil(part)]
                    small, scale = shrink(piece, _SEEN)
                    found += [_shifted(_scaled(one, scale), left, top) for one in self._run(small, far_only=True)]
            yield _apart(found)
            part /= 3

    def turned(self, image: Pixels) -> list[Candidate]:
        """Faces that lie on their side or stand on their head."""
        small, scale = shrink(image, _SEEN)
        height, width = small.shape[:2]
        found = []
        for quarters in (1, 3, 2):
            for one in self._run(np.ascontiguousarray(np.rot90(small, quarters))):
                found.append(_scaled(replace(one, square=_turned_back(one.square, quarters, width, height)), scale))
        return _apart(found)

    def _run(self, image: Pixels, *, far_only: bool = False) -> list[Candidate]:
        """What the detectors find in a small picture."""
        found = []
        for detector in self._detectors[1:] if far_only else self._detectors:
            found += [_candidate(one, image.shape[1], image.shape[0]) for one in detector.process(image).detections or []]
        return found


def guesses(image: Pixels) -> list[Candidate]:
    """Squares in the middle, for close portraits in which the detectors find nothing."""
    height, width = image.shape[:2]
    side = min(height, width)
    return [Candidate(Square(width / 2, height / 2, side * part), 0.0) for part in (1.0, 0.7, 1.4)]


def shrink(image: Pixels, longest: int) -> tuple[Pixels, float]:
    """The picture with its longer side at most `longest` pixels, and by how much it was divided."""
    return reduce(image, max(image.shape[:2]) / longest)


def same_place(first: Square, second: Square) -> bool:
    """Whether two squares show the same face."""
    return math.hypot(first.x - second.x, first.y - second.y) < _SHARE * max(first.side, second.side)


def _apart(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates by score; of several at one place the best."""
    kept: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: -one.score):
        if not any(same_place(one.square, other.square) for other in kept):
            kept.append(one)
    return kept


def _candidate(detection: Any, width: int, height: int) -> Candidate:
    """A detection's box, turned as its eyes are."""
    box, eyes = detection.location_data.relative_bounding_box, detection.location_data.relative_keypoints[:2]
    turn = math.atan2((eyes[1].y - eyes[0].y) * height, (eyes[1].x - eyes[0].x) * width)
    side = max(box.width * width, box.height * height) * MARGIN
    square = Square((box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height, side, turn)
    return Candidate(square, float(detection.score[0]))


def _scaled(one: Candidate, scale: float) -> Candidate:
    square = one.square
    return replace(one, square=Square(square.x * scale, square.y * scale, square.side * scale, square.turn))


def _shifted(one: Candidate, right: float, down: float) -> Candidate:
    return replace(one, square=replace(one.square, x=one.square.x + right, y=one.square.y + down))


def _turned_back(square: Square, quarters: int, width: int, height: int) -> Square:
    """A square of a picture that was turned counterclockwise, as it lies in the picture of width x height."""
    x, y = {1: (width - square.y, square.x), 2: (width - square.x, height - square.y), 3: (square.y, height - square.x)}[quarters]
    return replace(square, x=x, y=y, turn=square.turn + quarters * math.pi / 2)


def _starts(length: int, part: float) -> list[int]:
    """Where parts begin that cover a length and overlap by a third or more; never beyond the end."""
    if length <= part:
        return [0]
    count = math.ceil((length - part) / (part * 0.65)) + 1
    return [round(k * (length - part) / (count - 1)) for k in range(count)]
