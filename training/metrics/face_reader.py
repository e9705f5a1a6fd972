"""Reads faces off pictures alone: where the landmarks are, how the head is turned, what it does, where it looks.

Four regressions one after the other (a cascade as in Xiong and De la Torre 2013, "Supervised descent method", with kernel ridge
regressions for steps): from the whole picture to rough landmarks; from a window around those to better ones and the head's pose; from
windows of mouth, eyes and face to everything; from windows around the mouth and its corners, where they were then found to be, to what
the mouth does: a smile moves its corners by a pixel. Each is fitted to what the one before says of pictures that it was not fitted to,
so that it knows the errors it will be given. Nothing but the picture is looked at, not even to find the windows: a wrong face cannot be
read as a right one because someone said where it should be. Nothing is downloaded; error on held-out real images is every figure's floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.metrics.controls import LEFT_EYE, MOUTH_AND_CHIN, RIGHT_EYE, Control
from training.metrics.face_state import LANDMARKS, FaceState, mirrored_state
from training.metrics.kernel_ridge import KernelRidge
from training.metrics.windows import at_most, cut_windows, window_features

LARGEST = 128
"""Larger pictures are averaged down to this."""
OVERVIEW = 32
"""Side in pixels of the whole picture as the first regression sees it."""
EYES = (RIGHT_EYE, LEFT_EYE)
MOUTHS = (MOUTH_AND_CHIN,)
MOUTH = tuple(range(48, 68))
MOUTH_CORNERS = (48, 54)
ALL = tuple(range(LANDMARKS))
FACE_SIDE, MOUTH_SIDE, EYE_SIDE, CORNER_SIDE = 1.2, 0.6, 0.35, 0.25
"""Half sides of windows, in root mean square distances of the landmarks from their mean."""
WIDTH = 2.0
"""Width of the kernels."""
CHUNK = 256
"""Pictures whose windows are cut at once."""


@dataclass(frozen=True)
class Frame:
    """Where a face is in its picture, whatever it does: N places from landmarks [N, 68, 2] that were read."""

    landmarks: Tensor
    centre: Tensor
    """[N, 1, 2]."""
    size: Tensor
    """[N, 1, 1]."""

    @classmethod
    def of(cls, landmarks: Tensor) -> Frame:
        """The frame of landmarks [N, 68, 2]."""
        centre = landmarks.mean(dim=1, keepdim=True)
        spread = (landmarks - centre).square().sum(dim=2).mean(dim=1).sqrt()
        return cls(landmarks, centre, spread.clamp_min(1e-3)[:, None, None])

    def inside(self, landmarks: Tensor) -> Tensor:
        """Landmarks [N, 68, 2] relative to the face, flattened."""
        return ((landmarks - self.centre) / self.size).flatten(1)

    def outside(self, flat: Tensor) -> Tensor:
        """The inverse of `inside`."""
        return flat.unflatten(1, (LANDMARKS, 2)) * self.size + self.centre

    def moved_to(self, landmarks: Tensor) -> Frame:
        """The same place with better landmarks [N, 68, 2], which are relative to it."""
        return replace(self, landmarks=self.outside(landmarks.flatten(1)))

    def window(self, images: Tensor, area: tuple[int, ...], side: float) -> Tensor:
        """Features [N, D] of the window around some of the landmarks."""
        half = side * self.size[:, 0]
        return window_features(cut_windows(images, self.landmarks[:, list(area)].mean(dim=1)[:, None], half, largest=LARGEST))


GroupMaker = Callable[[Tensor, Frame, Tensor], list[Tensor]]
"""Groups of features of pictures [N, 3, H, H] from where the faces are and how they are turned."""


def _overview(images: Tensor) -> Tensor:
    """Features [N, D] of whole pictures."""
    return window_features(at_most(images, OVERVIEW)[:, None])


def _details(images: Tensor, frame: Frame, rotation: Tensor) -> list[Tensor]:
    """Groups of features for the last regression: face, mouth, both eyes, head pose."""
    eyes = torch.cat([frame.window(images, eye, EYE_SIDE) for eye in EYES], dim=1)
    return [frame.window(images, ALL, FACE_SIDE), frame.window(images, MOUTH, MOUTH_SIDE), eyes, rotation]


def _mouth(images: Tensor, frame: Frame, rotation: Tensor) -> list[Tensor]:
    """Groups of features for the mouth: all of it, its corners, head pose."""
    corners = torch.cat([frame.window(images, (corner,), CORNER_SIDE) for corner in MOUTH_CORNERS], dim=1)
    return [frame.window(images, MOUTH, MOUTH_SIDE), corners, rotation]


def _grouped(make: GroupMaker, images: Tensor, frame: Frame, rotation: Tensor) -> list[Tensor]:
    """Groups of features of any number of pictures, a chunk at a time."""
    parts = [make(images[rows], _frame_part(frame, rows), rotation[rows]) for rows in _spans(len(images))]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


@dataclass(frozen=True)
class FaceReader:
    """Reads `FaceState`s off pictures of the kind that it was fitted to."""

    controls: Mapping[str, Control]
    rough: KernelRidge
    """Whole picture to landmarks."""
    face: KernelRidge
    """Whole picture and face window to landmarks and rotation."""
    details: KernelRidge
    """All windows and rotation to everything."""
    eyes: KernelRidge
    """Eyes and rotation to gaze and controls."""
    mouth: KernelRidge
    """Mouth, its corners and rotation to controls."""

    @classmethod
    def fit(cls, images: Tensor, states: FaceState, controls: Mapping[str, Control]) -> FaceReader:
        """Learn from real images [N, 3, H, H] in [-1, 1] that show `states`, and from their mirror images.

        Time grows with the third power of N: half a minute for 2000 on one core; memory is about 1 GB then.
        """
        images = at_most(images, LARGEST)
        images = torch.cat([images, images.flip(3)])
        mirrored = mirrored_state(states, controls)
        truth = FaceState(*(torch.cat(pair) for pair in zip(vars(states).values(), vars(mirrored).values(), strict=True)))
        overview = torch.cat([_overview(part) for part in _chunks(images)])
        rough, seen = KernelRidge.fit_left_out(overview, truth.landmarks.flatten(1), width=WIDTH)
        frame = Frame.of(seen.unflatten(1, (LANDMARKS, 2)))
        window = torch.cat([_frame_part(frame, rows).window(images[rows], ALL, FACE_SIDE) for rows in _spans(len(images))])
        targets = torch.cat([frame.inside(truth.landmarks), truth.rotation], dim=1)
        face, seen = KernelRidge.fit_left_out([overview, window], targets, width=WIDTH)
        frame, rotation = Frame.of(frame.outside(seen[:, :-3])), seen[:, -3:]
        groups = _grouped(_details, images, frame, rotation)
        relative = replace(truth, landmarks=frame.inside(truth.landmarks))
        details, seen = KernelRidge.fit_left_out(groups, relative.to_rows(), width=WIDTH)
        eyes = KernelRidge.fit(groups[2:], torch.cat([truth.gaze, truth.controls], dim=1), width=WIDTH)
        found = frame.moved_to(FaceState.from_rows(seen).landmarks)
        mouth = KernelRidge.fit(_grouped(_mouth, images, found, rotation), truth.controls, width=WIDTH)
        return cls(controls, rough, face, details, eyes, mouth)

    def read(self, images: Tensor) -> FaceState:
        """What images [N, 3, H, H] in [-1, 1] show."""
        return FaceState.from_rows(torch.cat([self._read(part).to_rows() for part in _chunks(images)]))

    def _read(self, images: Tensor) -> FaceState:
        images = at_most(images, LARGEST)
        overview = _overview(images)
        frame = Frame.of(self.rough.predict(overview).unflatten(1, (LANDMARKS, 2)))
        seen = self.face.predict([overview, frame.window(images, ALL, FACE_SIDE)])
        frame, rotation = Frame.of(frame.outside(seen[:, :-3])), seen[:, -3:]
        groups = _details(images, frame, rotation)
        state = FaceState.from_rows(self.details.predict(groups))
        gaze, values = self.eyes.predict(groups[2:]).split([2, len(self.controls)], dim=1)
        found = frame.moved_to(state.landmarks)
        mouth = self.mouth.predict(_mouth(images, found, rotation))
        values = torch.where(self._in(EYES), values, torch.where(self._in(MOUTHS), mouth, state.controls))
        return replace(state, landmarks=found.landmarks, gaze=gaze, controls=values)

    def _in(self, areas: tuple[tuple[int, ...], ...]) -> Tensor:
        """[C]: which controls show there."""
        return torch.tensor([control.areas == areas for control in self.controls.values()])


def _spans(count: int) -> Iterator[slice]:
    """Rows 0 … count - 1, a chunk at a time."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


def _chunks(images: Tensor) -> Iterator[Tensor]:
    for rows in _spans(len(images)):
        yield images[rows]


def _frame_part(frame: Frame, rows: slice) -> Frame:
    return Frame(frame.landmarks[rows], frame.centre[rows], frame.size[rows])
