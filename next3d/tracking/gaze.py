"""Gaze: how far each eye is turned, from the detector's irises (Next3D supplement, Sec. 2.1).

Yaw and pitch of each eye minimise the reprojection error of five points per eye, the pupil and four around the iris's edge. Here both eyes
of all heads are solved together by Gauss-Newton steps: four unknowns per head, with priors that hold an eye which shows too little.

Detectors do not put irises quite where they are: their points stay nearer to the middle between the eye's corners. `IrisReading` says
how they read an iris, and the fit compares like with like.

Images are in unit coordinates; the left eye comes first in all tensors [N, 2, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.dense import IRIS_START
from next3d.head.limits import limit_pose
from next3d.head.model import LinearHeadModel
from next3d.tracking.eyeballs import EYES, RIM_POINTS, EyePair, eye_pair, in_picture, picture_scale
from next3d.tracking.lids import lid_gaps
from next3d.tracking.types import HeadFit
from next3d.types import Camera

IRIS_POINTS = (tuple(range(IRIS_START + 5, IRIS_START + 10)), tuple(range(IRIS_START, IRIS_START + 5)))
"""The detector's points of the left and the right iris: centre, then towards +x, up, towards -x, down."""
_NUDGE = 1e-2
"""Radians by which an eye is turned to see how its iris moves."""


@dataclass(frozen=True, kw_only=True)
class IrisReading:
    """How a detector reads an iris: its offset from the middle of the eye's corners shrinks, and all irises are shifted a little.

    Along the line from the inner to the outer corner, and across it downwards.
    """

    gain_along: float = 1.0
    gain_across: float = 1.0
    shift_outwards: float = 0.0
    """Parts of the distance of the eye's corners."""
    shift_down: float = 0.0
    rims: float = 0.0
    """How much of the way across from the fitted to the detected rim of an eye is taken off its iris: detected lids and irises err alike,
    up and down, and the rest of the face keeps the fitted lids from following."""


FACE_MESH_READING = IrisReading(gain_along=0.845, gain_across=0.46, shift_outwards=-0.008, shift_down=-0.02, rims=1.0)
"""MediaPipe's face mesh, measured on synthetic portraits (`python -m bench.tracking_eyes`). It says 0.57 for the gain across and -0.015 for
the shift down; these two and `rims` are those with the least error of heads that were fitted, on portraits that are not judged."""


@dataclass(frozen=True, kw_only=True)
class GazeSettings:
    """How far irises are trusted. Angles in radians."""

    reading: IrisReading = field(default_factory=lambda: FACE_MESH_READING)
    noise: tuple[float, float] = (0.055, 0.036)
    """Of an iris in the picture, along the line of the eye's corners and across it, in radii of its eyeball."""
    ahead: tuple[float, float] = (0.2, 0.3)
    """Standard deviations of pitch and yaw around straight ahead."""
    together: tuple[float, float] = (0.04, 0.04)
    """Of the difference between both eyes."""
    open_gap: tuple[float, float] = (0.06, 0.2)
    """Gap between the lids, in widths of the eye, up to which an iris counts for nothing and from which it counts in full."""
    steps: int = 6
    """Gauss-Newton steps."""


@torch.no_grad()
def fit_gaze(head: LinearHeadModel, fit: HeadFit, points: Tensor, settings: GazeSettings | None = None) -> HeadFit:
    """Turn the eyes of fitted heads to where the detector sees the irises.

    An eye that is shut, turned away or not seen looks where the other one does; if both are, ahead.

    Args:
        head: the model that was fitted.
        fit: N heads; how their eyes are turned is replaced.
        points: [N, 478, >= 2], unit coordinates of the pictures of `fit.camera`; NaN where nothing was seen.
        settings: None for the defaults.

    Returns:
        The same fit with other eye poses, within `JOINT_LIMITS`. A head's gaze does not depend on the other heads.

    Raises:
        ValueError: the model's eyes are not known.
    """
    settings = settings or GazeSettings()
    eyes = eye_pair(head, fit)
    irises = points[:, [list(side) for side in IRIS_POINTS], :2]  # [N, 2, 5, 2]
    weight = eye_weights(eyes, fit.camera, points, settings)
    shown = in_picture(eyes.corners, fit.camera)
    reading = _Reading.of(settings.reading, shown)
    irises = irises - settings.reading.rims * reading.across(_rim_shift(eyes, fit.camera, points))
    irises = torch.where(weight[..., None, None] > 0, irises, torch.zeros_like(irises))
    radius = eyes.radius * picture_scale(eyes.centre, fit.camera)  # in the picture, [N, 2]
    trust = (weight / len(IRIS_POINTS[0])).sqrt() / radius

    def misses(gaze: Tensor) -> Tensor:
        """By how much the irises of eyes turned by gaze [N, 2, 2] are missed, [N, 2, 10] in standard deviations."""
        seen = reading.read(in_picture(eyes.look(gaze), fit.camera))
        return (reading.along_and_down(seen - irises) * trust[..., None, None] / gaze.new_tensor(settings.noise)).flatten(2)

    gaze = _gauss_newton(misses, fit.params.pose.new_zeros(len(points), 2, 2), _prior(settings).to(points), settings.steps)
    pose = fit.params.pose.clone()
    pose[:, list(EYES)] = torch.cat([gaze, torch.zeros_like(gaze[..., :1])], dim=-1)
    pose[:, list(EYES)] = limit_pose(pose)[:, list(EYES)]
    return replace(fit, params=replace(fit.params, pose=pose))


def eye_weights(eyes: EyePair, camera: Camera, points: Tensor, settings: GazeSettings) -> Tensor:
    """How much of each iris is seen, [N, 2] in [0, 1]: less where lids shut and where the eye is turned away from the camera."""
    low, high = settings.open_gap
    opened = ((lid_gaps(points) - low) / (high - low)).clamp(0, 1)
    view = F.normalize(camera.cam2world[:, None, :3, 3] - eyes.centre, dim=-1)
    facing = (view * eyes.turn[:, None, :, 2]).sum(dim=-1)
    weight = opened**2 * ((facing - 0.2) / 0.4).clamp(0, 1)
    return torch.nan_to_num(weight)


def _rim_shift(eyes: EyePair, camera: Camera, points: Tensor) -> Tensor:
    """[N, 2, 1, 2]: from the fitted to the detected rim of each eye, in the picture."""
    detected = points[:, [list(side) for side in RIM_POINTS[eyes.rims.shape[2]]], :2]
    return (detected - in_picture(eyes.rims, camera)).mean(dim=2, keepdim=True)


def eye_axes(corners: Tensor) -> Tensor:
    """Unit vectors [N, 2, 2, 2] from the inner to the outer corner and across that downwards, of corners [N, 2, 2, 2] in the picture."""
    along = F.normalize(corners[:, :, 0] - corners[:, :, 1], dim=-1)
    down = torch.stack([-along[..., 1], along[..., 0]], dim=-1) * along.new_tensor([1.0, -1.0])[:, None]
    return torch.stack([along, down], dim=2)


@dataclass(frozen=True)
class _Reading:
    """`IrisReading` for eyes in pictures."""

    settings: IrisReading
    middle: Tensor
    """[N, 2, 1, 2]: between the eye's corners."""
    axes: Tensor
    """[N, 2, 2, 2]: unit vectors from the inner to the outer corner, and across it downwards."""
    width: Tensor
    """[N, 2, 1, 1]: distance of the corners."""

    @classmethod
    def of(cls, settings: IrisReading, corners: Tensor) -> _Reading:
        """From corners [N, 2, 2, 2] (outer, inner) in the picture."""
        width = (corners[:, :, 0] - corners[:, :, 1]).norm(dim=-1)
        return cls(settings, corners.mean(dim=2, keepdim=True), eye_axes(corners), width[..., None, None])

    def along_and_down(self, offsets: Tensor) -> Tensor:
        """Offsets [N, 2, P, 2] in the picture along the eye's axes."""
        return offsets @ self.axes.transpose(-1, -2)

    def across(self, offsets: Tensor) -> Tensor:
        """What of offsets [N, 2, P, 2] is across the line of the eye's corners."""
        down = self.axes[:, :, 1:]
        return (offsets * down).sum(dim=-1, keepdim=True) * down

    def read(self, shown: Tensor) -> Tensor:
        """Where the detector would see irises whose points [N, 2, 5, 2] are shown in a picture: all five move with the first."""
        how, offset = self.settings, self.along_and_down(shown[:, :, :1] - self.middle)
        gain, shift = offset.new_tensor([how.gain_along, how.gain_across]), offset.new_tensor([how.shift_outwards, how.shift_down])
        return shown + ((gain - 1) * offset + shift * self.width) @ self.axes


def _prior(settings: GazeSettings) -> Tensor:
    """[4, 4], inverse covariance of both eyes' pitch and yaw: each near straight ahead, and near the other."""
    ahead, together = torch.tensor(settings.ahead).pow(-2), torch.tensor(settings.together).pow(-2)
    return torch.kron(torch.eye(2), torch.diag(ahead)) + torch.kron(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.diag(together))


def _gauss_newton(misses: Callable[[Tensor], Tensor], start: Tensor, prior: Tensor, steps: int) -> Tensor:
    """Gaze [N, 2, 2] with the least squares of misses [N, 2, R], where an eye's depend on its own gaze alone, and of the prior [4, 4]."""
    gaze = start
    nudges = _NUDGE * torch.eye(2, dtype=gaze.dtype, device=gaze.device)
    for _ in range(steps):
        value = misses(gaze)
        slope = torch.stack([misses(gaze + nudge) - misses(gaze - nudge) for nudge in nudges], dim=3) / (2 * _NUDGE)  # [N, 2, R, 2]
        square, pull = slope.transpose(2, 3) @ slope, (slope.transpose(2, 3) @ value[..., None]).flatten(1)
        apart = torch.eye(2, dtype=gaze.dtype, device=gaze.device)
        whole = torch.einsum("neij,ef->neifj", square, apart).flatten(3).flatten(1, 2)  # [N, 4, 4], one block per eye
        change = torch.linalg.solve(whole + prior, pull + gaze.flatten(1) @ prior)
        gaze = gaze - change.reshape(gaze.shape).clamp(-0.4, 0.4)
    return gaze
