"""Reads faces off pictures alone: where the landmarks are, how the head is turned, what it does, where it looks.

Three regressions one after the other (a cascade as in Xiong and De la Torre 2013, "Supervised descent method", with kernel ridge
regressions for steps): from the whole picture to rough landmarks; from a window around those to better ones and the head's pose; from
windows of mouth, eyes and face to everything. Each is fitted to what the one before says of pictures that it was not fitted to, so that
it knows the errors it will be given. Nothing but the picture is looked at, not even to find the windows: a wrong face cannot be read as
a right one because someone said where it should be. Nothing is downloaded; error on held-out real images is every figure's floor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.metrics.controls import LEFT_EYE, RIGHT_EYE, Control
from training.metrics.face_state import LANDMARKS, FaceState, mirrored_state
from training.metrics.kernel_ridge import KernelRidge
from training.metrics.windows import at_most, cut_windows, window_features

LARGEST = 128
"""Larger pictures are averaged down to this."""
OVERVIEW = 32
"""Side in pixels of the whole picture as the first regression sees it."""
EYES = (RIGHT_EYE, LEFT_EYE)
MOUTH = tuple(range(48, 68))
ALL = tuple(range(LANDMARKS))
FACE_SIDE, MOUTH_SIDE, EYE_SIDE = 1.2, 0.6, 0.35
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

    def window(self, images: Tensor, area: tuple[int, ...], side: float) -> Tensor:
        """Features [N, D] of the window around some of the landmarks."""
        half = side * self.size[:, 0]
        return window_features(cut_windows(images, self.landmarks[:, list(area)].mean(dim=1)[:, None], half, largest=LARGEST))


def _overview(images: Tensor) -> Tensor:
    """Features [N, D] of whole pictures."""
    return window_features(at_most(images, OVERVIEW)[:, None])


def _details(images: Tensor, frame: Frame, rotation: Tensor) -> list[Tensor]:
    """Groups of features for the last regression: face, mouth, both eyes, head pose."""
    eyes = torch.cat([frame.window(images, eye, EYE_SIDE) for eye in EYES], dim=1)
    return [frame.window(images, ALL, FACE_SIDE), frame.window(images, MOUTH, MOUTH_SIDE), eyes, rotation]


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
        parts = [_details(images[rows], _frame_part(frame, rows), rotation[rows]) for rows in _spans(len(images))]
        groups = [torch.cat(part) for part in zip(*parts, strict=True)]
        relative = replace(truth, landmarks=frame.inside(truth.landmarks))
        details = KernelRidge.fit(groups, relative.to_rows(), width=WIDTH)
        eyes = KernelRidge.fit(groups[2:], torch.cat([truth.gaze, truth.controls], dim=1), width=WIDTH)
        return cls(controls, rough, face, details, eyes)

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
        in_eyes = torch.tensor([control.areas == EYES for control in self.controls.values()])
        return replace(
            state, landmarks=frame.outside(state.landmarks.flatten(1)), gaze=gaze, controls=torch.where(in_eyes, values, state.controls)
        )


def _spans(count: int) -> Iterator[slice]:
    """Rows 0 … count - 1, a chunk at a time."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


def _chunks(images: Tensor) -> Iterator[Tensor]:
    for rows in _spans(len(images)):
        yield images[rows]


def _frame_part(frame: Frame, rows: slice) -> Frame:
    return Frame(frame.landmarks[rows], frame.centre[rows], frame.size[rows])
