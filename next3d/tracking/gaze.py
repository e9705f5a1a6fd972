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
from next3d.tracking.eyeballs import EYES, EyePair, eye_pair, in_picture, picture_scale
from next3d.tracking.lids import lid_gaps
from next3d.tracking.types import HeadFit
from next3d.types import Camera

IRIS_POINTS = (tuple(range(IRIS_START + 5, IRIS_START + 10)), tuple(range(IRIS_START, IRIS_START + 5)))
"""The detector's points of the left and the right iris: centre, then towards +x, up, towards -x, down."""


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


FACE_MESH_READING = IrisReading(gain_along=0.85, gain_across=0.56, shift_outwards=-0.012, shift_down=-0.012)
"""MediaPipe's face mesh."""


@dataclass(frozen=True, kw_only=True)
class GazeSettings:
    """How far irises are trusted. Angles in radians."""

    reading: IrisReading = field(default_factory=lambda: FACE_MESH_READING)
    noise: float = 0.05
    """Of an iris in the picture, in radii of its eyeball."""
    ahead: tuple[float, float] = (0.2, 0.3)
    """Standard deviations of pitch and yaw around straight ahead."""
    together: tuple[float, float] = (0.02, 0.06)
    """Of the difference between both eyes."""
    open_gap: tuple[float, float] = (0.06, 0.16)
    """Gap between the lids, in widths of the eye, up to which an iris counts for nothing and from which it counts in full."""
    steps: int = 6
    """Gauss-Newton steps."""


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
    irises = torch.where(weight[..., None, None] > 0, irises, torch.zeros_like(irises))
    shown = in_picture(eyes.corners, fit.camera)
    reading = _Reading.of(settings.reading, shown)
    radius = eyes.radius * picture_scale(eyes.centre, fit.camera)  # in the picture, [N, 2]
    trust = (weight / len(IRIS_POINTS[0])).sqrt() / (settings.noise * radius)

    def residuals(gaze: Tensor) -> Tensor:
        seen = reading.read(in_picture(eyes.look(gaze), fit.camera))
        iris = (seen - irises) * trust[..., None, None]
        ahead = gaze / gaze.new_tensor(settings.ahead)
        together = (gaze[:, 0] - gaze[:, 1]) / gaze.new_tensor(settings.together)
        return torch.cat([iris.flatten(1), ahead.flatten(1), together], dim=1)

    gaze = _gauss_newton(residuals, fit.params.pose.new_zeros(len(points), 2, 2), settings.steps)
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


@dataclass(frozen=True)
class _Reading:
    """`IrisReading` for eyes in pictures."""

    settings: IrisReading
    middle: Tensor
    """[N, 2, 1, 2]: between the eye's corners."""
    outwards: Tensor
    """[N, 2, 1, 2]: from the inner to the outer corner."""

    @classmethod
    def of(cls, settings: IrisReading, corners: Tensor) -> _Reading:
        """From corners [N, 2, 2, 2] (outer, inner) in the picture."""
        return cls(settings, corners.mean(dim=2, keepdim=True), corners[:, :, :1] - corners[:, :, 1:])

    def read(self, shown: Tensor) -> Tensor:
        """Where the detector would see irises whose points [N, 2, 5, 2] are shown in a picture: all five move with the first."""
        how = self.settings
        length = self.outwards.norm(dim=-1, keepdim=True)
        along = self.outwards / length
        down = torch.stack([-along[..., 1], along[..., 0]], dim=-1) * along.new_tensor([1.0, -1.0])[:, None, None]
        offset = shown[:, :, :1] - self.middle
        part_along, part_down = (offset * along).sum(-1, keepdim=True), (offset * down).sum(-1, keepdim=True)
        moved = (how.gain_along - 1) * part_along + how.shift_outwards * length
        sunk = (how.gain_across - 1) * part_down + how.shift_down * length
        return shown + moved * along + sunk * down


def _gauss_newton(residuals: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Least squares for every row of unknowns [N, ...] by itself; residuals are [N, R]."""
    unknowns = start
    basis = torch.eye(start[0].numel(), dtype=start.dtype, device=start.device).reshape(-1, *start.shape[1:])
    for _ in range(steps):
        columns = []
        value = residuals(unknowns)
        for direction in basis:
            columns.append(torch.func.jvp(residuals, (unknowns,), (direction.expand_as(unknowns).contiguous(),))[1])
        slope = torch.stack(columns, dim=2)  # [N, R, K]
        square = slope.transpose(1, 2) @ slope
        change = torch.linalg.solve(square, (slope.transpose(1, 2) @ value[..., None])[..., 0])
        unknowns = unknowns - change.reshape(unknowns.shape).clamp(-0.4, 0.4)
    return unknowns
