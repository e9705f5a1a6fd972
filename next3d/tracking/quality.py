"""How good one tracked face is, and whether it should be left out: quantities that can be measured, limits, a score, reasons.

Reasons are short fixed texts, so that a report can group by them. docs/tracking.md says how the limits were chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from next3d.head.model import Joint, axis_angle_to_matrix
from next3d.tracking.types import CropFrame, Face, HeadFit, Pixels, Points

NO_FACE = "no face"
UNSURE = "detector unsure"
TOO_SMALL = "too small"
TOO_BLURRED = "too blurred"
EXTREME_POSE = "extreme pose"
POOR_FIT = "poor fit"
PARTLY_OUTSIDE = "partly outside"
OCCLUDED = "occluded or unclear"
TOO_DARK = "too dark"
TOO_BRIGHT = "too bright"
REASONS = (NO_FACE, UNSURE, TOO_SMALL, TOO_BLURRED, EXTREME_POSE, POOR_FIT, PARTLY_OUTSIDE, OCCLUDED, TOO_DARK, TOO_BRIGHT)
"""Everything that `judge` may say, and `no_face`."""

_TURNED_ERROR, _TURNED_SPREAD = 0.8, 1.3
"""How much more is allowed in profile; in between it goes with the sine of the yaw."""
EYE_CORNERS = (33, 263)
"""MediaPipe's outer eye corners: the person's right, left."""


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """Beyond these a face is rejected; docs/tracking.md has the measurements behind them."""

    smallest_crop: float = 64
    """Side of the crop in photo pixels."""
    smallest_share: float = 0.24
    """Side of the crop in photo pixels as a part of the resolution that is written: enlarged by up to about four."""
    least_sharpness: float = 0.014
    """See `Measures.sharpness`; about a Gaussian blur of 2.5 % of the distance of the outer eye corners."""
    largest_yaw: float = math.radians(62)
    """Beyond it MediaPipe's points, and the fit with them, fall behind the head: 5° at 65°, 10° at 75°."""
    largest_pitch: float = math.radians(45)
    largest_roll: float = math.radians(60)
    largest_error: float = 0.06
    """See `Measures.error`; for a frontal face, and up to 1.8 times that in profile."""
    largest_spread: float = 0.024
    """See `Measures.spread`; for a frontal face. Looks at turned heads disagree more: up to 2.3 times that is allowed in profile."""
    largest_outside: float = 0.45
    """Part of the crop beyond the photo."""
    largest_face_outside: float = 0.08
    """Part of the face's points beyond the photo."""
    least_score: float = 0.5
    """The detector's own score."""
    darkest: float = 0.06
    """Mean brightness of the face, 0 black, 1 white."""
    brightest: float = 0.97


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was measured on one face."""

    crop: float
    """Side of the crop, photo pixels."""
    eyes: float
    """Distance of the outer eye corners in the picture, photo pixels."""
    sharpness: float
    """Fine detail inside the face, relative to its contrast; 0 for a face without any."""
    yaw: float
    """How far the head is turned, radians; positive towards the right of the picture. Global and neck rotation count."""
    pitch: float
    """Positive looks down."""
    roll: float
    """Positive turns the head anticlockwise in the picture."""
    error: float
    """Mean distance of the fitted from the detected points in the picture, as a part of the distance of the outer eye corners in space,
    which turning the head leaves alone."""
    spread: float | None
    """How far several looks of the detector disagree, mean over the points, as a part of the same distance; None after a single look."""
    outside: float
    """Part of the crop that lies beyond the photo."""
    face_outside: float
    """Part of the detected points that lie beyond the photo."""
    score: float
    """The detector's own."""
    brightness: float
    """Mean brightness of the face, 0 black, 1 white."""


@dataclass(frozen=True)
class Quality:
    """The verdict on one face."""

    score: float
    """In [0, 1]; 1 is a sharp, large, frontal, well fitted face; 0 for what is rejected."""
    reasons: tuple[str, ...]
    """Why it is rejected; empty for what is kept. Some of `REASONS`."""
    measures: Measures | None
    """None where there was no face to measure."""

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def no_face() -> Quality:
    """The verdict on a picture in which nothing was found."""
    return Quality(0.0, (NO_FACE,), None)


def judge(
    photo: Pixels,
    face: Face,
    frame: CropFrame,
    fit: HeadFit,
    *,
    resolution: int = 512,
    limits: QualityLimits = QualityLimits(),
) -> Quality:
    """Measure a face and compare it with the limits.

    Args:
        photo: the whole photo [H, W, 3].
        face: what the detector found in it.
        frame: the crop around it.
        fit: one head as fitted to it (a batch of one), before or after `canonical`.
        resolution: side of the crop that is going to be written, pixels.
        limits: beyond these it is rejected.

    Raises:
        ValueError: `fit` has several heads.
    """
    measures = measure(photo, face, frame, fit)
    return Quality(*_verdict(measures, resolution, limits), measures)


def measure(photo: Pixels, face: Face, frame: CropFrame, fit: HeadFit) -> Measures:
    """The quantities that `judge` compares with its limits; arguments as there."""
    if len(fit.error) != 1:
        raise ValueError(f"fit: {len(fit.error)} heads, expected one")
    height, width = photo.shape[:2]
    yaw, pitch, roll = (float(angle) for angle in view_angles(fit)[0])
    right, left = face.points[list(EYE_CORNERS)]
    eyes, span = float(np.hypot(*(left - right)[:2])), max(float(np.linalg.norm(left - right)), 1e-6)
    luminance = _inner_face(photo, face.points)
    beyond = (face.points[:, :2] < 0).any(1) | (face.points[:, :2] > (width, height)).any(1)
    return Measures(
        crop=frame.side,
        eyes=eyes,
        sharpness=sharpness(luminance),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        error=float(fit.error[0]) * eyes / span,
        spread=None if face.spread is None else float(face.spread.mean()) / span,
        outside=_part_outside(frame, width, height),
        face_outside=float(beyond.mean()),
        score=face.score,
        brightness=float(luminance.mean()) if luminance.size else 0.0,
    )


def view_angles(fit: HeadFit) -> Tensor:
    """Yaw, pitch and roll [N, 3] of heads as their cameras see them, radians: the head turns by roll, then pitch, then yaw.

    A head that faces the camera upright has zeros. Global and neck rotation count; signs as in `Measures`.
    """
    turn = axis_angle_to_matrix(fit.params.pose[:, Joint.GLOBAL]) @ axis_angle_to_matrix(fit.params.pose[:, Joint.NECK])
    seen = fit.camera.cam2world[:, :3, :3].mT.to(turn) @ turn  # [N, 3, 3], columns are the head's axes, OpenCV rows
    seen = seen * seen.new_tensor([1.0, -1.0, -1.0])[:, None]  # y up, z towards the viewer
    yaw = torch.atan2(seen[:, 0, 2], seen[:, 2, 2])
    pitch = torch.asin(-seen[:, 1, 2].clamp(-1, 1))
    roll = torch.atan2(seen[:, 1, 0], seen[:, 1, 1])
    return torch.stack([yaw, pitch, roll], dim=1)


EYES_AT = 64
"""Pixels between the outer eye corners at which sharpness is measured; about what they have in a crop of 256."""


def _inner_face(photo: Pixels, points: Points) -> npt.NDArray[np.float32]:
    """Brightness in [0, 1] of the square around eyes, nose and mouth, shrunk to `EYES_AT` where it is larger; empty beyond the photo."""
    right, left = points[list(EYE_CORNERS)]
    span = float(np.linalg.norm(left - right))  # with depth: a turned head counts as large as a frontal one
    inner = points[[*EYE_CORNERS, 70, 300, 61, 291, 17, 4], :2]  # brows, mouth corners, lower lip, tip of the nose
    low = np.maximum(np.floor(inner.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(inner.max(0)), photo.shape[1::-1]).astype(int)
    if (high - low < 4).any():
        return np.zeros((0, 0), dtype=np.float32)
    cut = photo[low[1] : high[1], low[0] : high[0]].astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    factor = EYES_AT / max(span, 1e-6)
    if factor >= 1:
        return cut
    size = max(round(cut.shape[1] * factor), 4), max(round(cut.shape[0] * factor), 4)
    return np.asarray(Image.fromarray(cut).resize(size, Image.Resampling.BOX))


def sharpness(luminance: npt.NDArray[np.float32]) -> float:
    """How much fine detail a picture [H, W] has, without a unit and blind to contrast and brightness; noise is estimated and taken off.

    The variance of the Laplacian (a usual measure of focus: Pertuz et al., "Analysis of focus measure operators", 2013, LAPV) of the
    slightly smoothed picture, divided by the picture's own variance. Noise: Immerkaer, "Fast noise variance estimation", 1996, with a
    median instead of the mean, so that edges do not count as noise.
    """
    if min(luminance.shape) < 8:
        return 0.0
    noise = float(np.median(np.abs(_filtered(luminance, (1, -2, 1)))) / 0.6745 / 6)
    variance = float(luminance.var())
    if variance < 1e-6:
        return 0.0
    smooth = _filtered(luminance, (0.25, 0.5, 0.25))
    laplacian = smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:] - 4 * smooth[1:-1, 1:-1]
    detail = float(laplacian.var())
    return max(detail - _NOISE_GAIN * noise**2, _NEVER_NOISE * detail) / variance


_NOISE_GAIN = 0.5859375
"""Variance of white noise of variance one after that smoothing and the Laplacian: the sum of the squared coefficients of both together."""
_NEVER_NOISE = 0.2
"""So much of the detail counts whatever the estimate says: the dots of a dithered picture look like noise, but stronger at this scale."""


def _filtered(picture: npt.NDArray[np.float32], taps: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """A picture [H, W] under three taps along both axes: [H - 2, W - 2]."""
    rows = taps[0] * picture[:-2] + taps[1] * picture[1:-1] + taps[2] * picture[2:]
    return taps[0] * rows[:, :-2] + taps[1] * rows[:, 1:-1] + taps[2] * rows[:, 2:]


def _part_outside(frame: CropFrame, width: int, height: int) -> float:
    across = max(min(frame.left + frame.side, width) - max(frame.left, 0.0), 0.0)
    down = max(min(frame.top + frame.side, height) - max(frame.top, 0.0), 0.0)
    return max(1 - across * down / frame.side**2, 0.0)


def _verdict(measures: Measures, resolution: int, limits: QualityLimits) -> tuple[float, tuple[str, ...]]:
    """Score and reasons. Each aspect has a mark: 0 at its limit, 1 where it is as good as it gets; the score is their product."""
    m, li = measures, limits
    smallest, turned = max(li.smallest_crop, li.smallest_share * resolution), abs(math.sin(m.yaw))
    marks = [
        (UNSURE, _mark(m.score, li.least_score, 0.9)),
        (TOO_SMALL, _mark(m.crop, smallest, max(resolution, 4 * smallest))),
        (TOO_BLURRED, _mark(m.sharpness, li.least_sharpness, 5 * li.least_sharpness)),
        (EXTREME_POSE, _mark(abs(m.yaw), li.largest_yaw, 0.25)),
        (EXTREME_POSE, _mark(abs(m.pitch), li.largest_pitch, 0.2)),
        (EXTREME_POSE, _mark(abs(m.roll), li.largest_roll, 0.3)),
        (POOR_FIT, _mark(m.error, li.largest_error * (1 + _TURNED_ERROR * turned), 0.03)),
        (OCCLUDED, 1.0 if m.spread is None else _mark(m.spread, li.largest_spread * (1 + _TURNED_SPREAD * turned), 0.012)),
        (PARTLY_OUTSIDE, _mark(m.outside, li.largest_outside, 0.03)),
        (PARTLY_OUTSIDE, _mark(m.face_outside, li.largest_face_outside, 0.0)),
        (TOO_DARK, _mark(m.brightness, li.darkest, 0.2)),
        (TOO_BRIGHT, _mark(m.brightness, li.brightest, 0.8)),
    ]
    reasons = tuple(dict.fromkeys(reason for reason, mark in marks if mark <= 0))
    return math.prod(max(mark, 0.0) ** 0.5 for _, mark in marks), reasons


def _mark(value: float, limit: float, good: float) -> float:
    """0 at the limit and beyond it, 1 at the good value and beyond that, straight in between; NaN is 0."""
    share = (value - limit) / (good - limit)
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
