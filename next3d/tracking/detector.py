"""Faces in photos, and one face through a film: 478 points each, the mean of several looks, and how sure that is.

Candidates (`next3d.tracking.search`) are looked at by the landmark model until its square fits the face; what it then is sure about, and
what looks the same when it is mirrored and enlarged, is a face.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnnlib.errors import UserError
from next3d.tracking.looks import AnyLooker, Looker, Square, fits, look_often, settle, square_around
from next3d.tracking.search import Candidate, Finder, guesses, same_place
from next3d.tracking.task_looks import TaskLooker
from next3d.tracking.types import Face, Pixels


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """How faces are looked for."""

    looks: int = 4
    """Looks at each face whose mean is taken; more are slower and less noisy. The fit's table of the detector's habits goes with 4."""
    every: bool = False
    """Look for small faces also where a larger one was found."""
    smallest: int = 64
    """Height in pixels, from brows to chin, of the smallest faces that are looked for in parts of large photos."""
    most_faces: int = 16
    """Faces per photo, the largest ones."""
    least_score: float = 0.5
    """Faces of which the detector is less sure are dropped."""
    forget: int = 50
    """Frames after which a face that was lost is given up, and any other may be followed."""
    task: Path | None = None
    """A face landmarker of MediaPipe's task API (`.task`) instead of the landmark model in its package."""

    def __post_init__(self) -> None:
        if min(self.looks, self.most_faces, self.smallest) < 1:
            raise ValueError("detector: looks, most_faces and smallest must be 1 or more.")


_CERTAIN = 0.9
"""How sure one must be of a face that was found by the last ways to look for one."""
_CLEAR = 0.95
"""Where no face is as sure as this, the photo may lie on its side or stand on its head."""
_ALIKE = 0.75
"""Part of the largest face's size from which on faces count as equally large."""
_CUT = 0.12
"""Mean change of brightness from one frame to the next that is a cut."""


class Detector:
    """Finds faces in photos, and follows one through a film. Get one from `open_detector`."""

    def __init__(self, finder: Finder, looker: AnyLooker, settings: DetectorSettings) -> None:
        self.settings = settings
        self._finder = finder
        self._looker = looker
        self._trail: _Trail | None = None

    def detect(self, image: Pixels) -> list[Face]:
        """All faces in a photo [H, W, 3], the largest first."""
        least = self.settings.least_score
        faces = self._judged(image, self._finder.whole(image), self.settings.looks, least)
        parts = self._finder.parts(image, self.settings.smallest)
        while (self.settings.every or not faces) and (candidates := next(parts, None)) is not None:
            faces = _merged(faces, self._judged(image, candidates, self.settings.looks, least))
        if not faces:
            faces = self._judged(image, self._finder.framed(image), self.settings.looks, _CERTAIN)
        if not any(face.score >= _CLEAR for face in faces):  # a face that stands on its head may look like a poor one that does not
            faces = _merged(faces, self._judged(image, self._finder.turned(image), self.settings.looks, _CERTAIN))
        if not faces:
            faces = self._judged(image, guesses(image), self.settings.looks, _CERTAIN)
        faces.sort(key=lambda face: -square_around(face.points).side)
        return faces[: self.settings.most_faces]

    def follow(self, image: Pixels) -> Face | None:
        """The face in the next frame of a film: the one that was followed so far, else a large one.

        A face that is lost is looked for near where it was; after a cut, or after `settings.forget` frames, anywhere.
        """
        thumb = _thumb(image)
        trail = self._trail
        if trail is not None and (trail.missing >= self.settings.forget or np.abs(thumb - trail.thumb).mean() > _CUT):
            trail = None
        face = self._next(image, trail)
        if face is not None:
            self._trail = _Trail(square_around(face.points), thumb, 0)
        elif trail is not None:
            self._trail = _Trail(trail.square, thumb, trail.missing + 1)
        else:
            self._trail = None
        return face

    def restart(self) -> None:
        """Forget the face that is followed: the next frame is the first of another film or part."""
        self._trail = None

    def _next(self, image: Pixels, trail: _Trail | None) -> Face | None:
        """The face that was at a place in the frame before, or the first to be followed."""
        looks, least = self.settings.looks, self.settings.least_score
        if trail is None:
            return _first(self._judged(image, self._finder.whole(image), looks, least))
        face = self._again(image, trail.square, looks)
        if face is not None and face.score >= least and _moved_little(trail.square, square_around(face.points)):
            return face
        near = [one for one in self._finder.whole(image) if _moved_little(trail.square, one.square)]
        return next(iter(self._judged(image, near, looks, least)), None)

    def _judged(self, image: Pixels, candidates: Sequence[Candidate], looks: int, least: float) -> list[Face]:
        """Those candidates that are faces."""
        studied = [self._study(image, one.square, looks) for one in candidates]
        return _merged([], [face for face in studied if face is not None and face.score >= least])

    def _again(self, image: Pixels, square: Square, looks: int) -> Face | None:
        """The face in its square of the frame before; a face that hardly moved needs no look that finds out where it is now."""
        face = look_often(self._looker, image, square, looks)
        sure = face.score >= self.settings.least_score and fits(square, square_around(face.points))
        return face if sure else self._study(image, square, looks)

    def _study(self, image: Pixels, square: Square, looks: int) -> Face | None:
        """The face in a square, if there is one."""
        settled = settle(self._looker, image, square)
        return None if settled is None else look_often(self._looker, image, settled, looks)


@dataclass(frozen=True)
class _Trail:
    """What is known of the face that is followed."""

    square: Square
    thumb: np.ndarray
    """The last frame, tiny."""
    missing: int
    """Frames since it was seen."""


def _merged(first: Sequence[Face], second: Sequence[Face]) -> list[Face]:
    """Faces of both, and where two are at one place, the more certain of them."""
    kept: list[tuple[Square, Face]] = []
    for face in sorted((*first, *second), key=lambda face: -face.score):
        place = square_around(face.points)
        if not any(same_place(place, other) for other, _ in kept):
            kept.append((place, face))
    return [face for _, face in kept]


def _first(faces: Sequence[Face]) -> Face | None:
    """The face to follow: of those about as large as the largest the one on the left, so that parts of a film choose alike."""
    sides = [square_around(face.points).side for face in faces]
    large = [face for face, side in zip(faces, sides, strict=True) if side > _ALIKE * max(sides)]
    return min(large, key=lambda face: float(face.points[:, 0].mean()), default=None)


def _moved_little(before: Square, now: Square) -> bool:
    """Whether a face can have moved like that from one frame to the next."""
    near = np.hypot(before.x - now.x, before.y - now.y) < 0.5 * before.side
    return bool(near and 0.5 < now.side / before.side < 2)


def _thumb(image: Pixels) -> np.ndarray:
    """A picture of about 16 x 16 samples of brightness, in [0, 1]."""
    rows, columns = max(1, image.shape[0] // 16), max(1, image.shape[1] // 16)
    return image[rows // 2 :: rows, columns // 2 :: columns, 1][:16, :16] / np.float32(255)


@contextmanager
def open_detector(settings: DetectorSettings | None = None) -> Iterator[Detector]:
    """A detector that is ready.

    Raises:
        UserError: MediaPipe is not installed, or the task file is not one.
    """
    if importlib.util.find_spec("mediapipe") is None:
        raise UserError("Finding faces needs MediaPipe; install the extra 'portraits': pip install 'next3d[portraits]'.")
    chosen = settings or DetectorSettings()
    with ExitStack() as stack:
        finder = Finder()
        stack.callback(finder.close)
        looker: AnyLooker = Looker() if chosen.task is None else TaskLooker(chosen.task)
        stack.callback(looker.close)
        yield Detector(finder, looker, chosen)
