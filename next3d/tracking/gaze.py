"""Gaze: how far each eye is turned, from the detector's irises (Next3D supplement, Sec. 2.1).

Yaw and pitch of each eye minimise the reprojection error of five points per eye, the pupil and four around the iris's edge. Here both eyes
of all heads are solved together by Gauss-Newton steps: four unknowns per head, with priors that hold an eye which shows too little.

Detectors do not put irises quite where they are: their points stay nearer to the middle between the eye's corners. `IrisReading` says
how they read an iris, and the fit compares like with like.

Frames: an eye's points are offsets from its centre with the eye straight ahead, along the axes of the turned head; images are unit
coordinates. The left eye comes first in all tensors [N, 2, ...].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.dense import IRIS_START
from next3d.head.limits import limit_pose
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix, skin
from next3d.head.regions import IRIS_ANGLE
from next3d.render.cameras import project
from next3d.tracking.types import HeadFit
from next3d.types import Camera, TensorBundle

EYES = (Joint.LEFT_EYE, Joint.RIGHT_EYE)
IRIS_POINTS = (tuple(range(IRIS_START + 5, IRIS_START + 10)), tuple(range(IRIS_START, IRIS_START + 5)))
"""The detector's points of the left and the right iris: centre, then towards +x, up, towards -x, down."""
EYE_CORNERS = ((45, 42), (36, 39))
"""Of the 68 landmarks: outer and inner corner of the left and the right eye."""
LIDS = (
    ((263, 362), ((387, 373), (386, 374), (385, 380))),
    ((33, 133), ((160, 144), (159, 145), (158, 153))),
)
"""Of the detector's points, left and right eye: outer and inner corner, and pairs on upper and lower lid."""


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


@dataclass(frozen=True)
class EyePair(TensorBundle):
    """Both eyes of N posed heads, as if they looked straight ahead."""

    turn: Tensor
    """[N, 3, 3]: from the head's axes to the world's."""
    centre: Tensor
    """[N, 2, 3], world units."""
    points: Tensor
    """[N, 2, 5, 3]: pupil and four points of the iris's edge (+x, up, -x, down), from the centre along the head's axes, world units."""
    corners: Tensor
    """[N, 2, 2, 3]: outer and inner corner, world units."""

    @property
    def radius(self) -> Tensor:
        """[N, 2]: from the centre to the pupil, world units."""
        return self.points[:, :, 0].norm(dim=-1)

    def look(self, gaze: Tensor) -> Tensor:
        """The five points [N, 2, 5, 3] in the world, of eyes turned by gaze [N, 2, 2] (pitch, yaw)."""
        turned = self.turn[:, None] @ _eye_rotation(gaze)
        return self.points @ turned.transpose(-1, -2) + self.centre[:, :, None]


def eye_pair(head: LinearHeadModel, fit: HeadFit) -> EyePair:
    """Where the eyes of fitted heads are; how they are turned is left out."""
    params = fit.params
    pose = params.pose.clone()
    pose[:, list(EYES)] = 0
    mesh = head(replace(params, pose=pose))
    rotations = axis_angle_to_matrix(pose)
    turn = rotations[:, Joint.GLOBAL] @ rotations[:, Joint.NECK]
    centre = posed_joints(head, replace(params, pose=pose))[:, list(EYES)]
    points = _iris_points(head, mesh.vertices, centre, turn)
    corners = mesh.landmarks[:, [list(pair) for pair in EYE_CORNERS]]
    return EyePair(turn, centre, points, corners)


def posed_joints(head: LinearHeadModel, params: HeadParams) -> Tensor:
    """Where the joints of posed heads are, [N, 5, 3], world units."""
    joints = head.joints + torch.einsum("jck,nk->njc", head.joint_shape_directions, params.shape)
    if head.joint_expression_directions is not None:
        joints = joints + torch.einsum("jck,nk->njc", head.joint_expression_directions, params.expression)
    rigid = torch.eye(len(Joint), dtype=joints.dtype, device=joints.device)
    posed = skin(joints, joints, axis_angle_to_matrix(params.pose), rigid)
    return posed * (OBJECT_TO_WORLD * params.scale[:, None, None]) + params.translation[:, None]


def _iris_points(head: LinearHeadModel, vertices: Tensor, centre: Tensor, turn: Tensor) -> Tensor:
    """See `EyePair.points`: the eyeball is taken for a sphere, and the gaze's axis goes through the middle of the pupil or the iris."""
    topology, eyes = head.topology, []
    for index, side in enumerate(("left", "right")):
        angle = IRIS_ANGLE
        if f"{side}_pupil" in topology.eye_points:
            front = vertices[:, topology.eye_points[f"{side}_pupil"]]
            angle = _iris_angle(head, side)
        elif f"{side}_iris" in topology.regions:
            front = vertices[:, topology.regions[f"{side}_iris"]]
        else:
            raise ValueError(f"head model {head.identifier}: has neither eye points nor irises, so its gaze cannot be fitted")
        offset = (front - centre[:, index, None]) @ turn  # along the head's axes
        radius = offset.norm(dim=-1).mean(dim=1)[:, None, None]
        axis = F.normalize(offset.mean(dim=1), dim=-1)[:, None]  # [N, 1, 3]
        right = F.normalize(torch.linalg.cross(axis.new_tensor([[[0.0, 1.0, 0.0]]]).expand_as(axis), axis), dim=-1)
        above = torch.linalg.cross(axis, right)
        edge = torch.cat([right, above, -right, -above], dim=1) * math.sin(angle) + axis * math.cos(angle)
        eyes.append(radius * torch.cat([axis, edge], dim=1))
    return torch.stack(eyes, dim=1)


def _iris_angle(head: LinearHeadModel, side: str) -> float:
    """Radians from the gaze at which the iris of the neutral head ends."""
    points = head.topology.eye_points
    centre = head.joints[Joint.LEFT_EYE if side == "left" else Joint.RIGHT_EYE]
    pupil, edge = head.template[points[f"{side}_pupil"]] - centre, head.template[points[f"{side}_iris"]] - centre
    return float(torch.acos(F.cosine_similarity(pupil, edge, dim=1).mean()))


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
    shown = _in_picture(eyes.corners, fit.camera)
    reading = _Reading.of(settings.reading, shown)
    depth = _depth(eyes.centre, fit.camera)
    pixel = eyes.radius * fit.camera.intrinsics[:, 0, 0, None] / depth  # the eyeball's radius in the picture, [N, 2]
    trust = (weight / len(IRIS_POINTS[0])).sqrt() / (settings.noise * pixel)

    def residuals(gaze: Tensor) -> Tensor:
        seen = reading.read(_in_picture(eyes.look(gaze), fit.camera))
        iris = (seen - irises) * trust[..., None, None]
        ahead = gaze / gaze.new_tensor(settings.ahead)
        together = (gaze[:, 0] - gaze[:, 1]) / gaze.new_tensor(settings.together)
        return torch.cat([iris.flatten(1), ahead.flatten(1), together], dim=1)

    gaze = _gauss_newton(residuals, fit.params.pose.new_zeros(len(points), 2, 2), settings.steps)
    pose = fit.params.pose.clone()
    pose[:, list(EYES)] = torch.cat([gaze, torch.zeros_like(gaze[..., :1])], dim=-1)
    pose[:, list(EYES)] = limit_pose(pose)[:, list(EYES)]
    return replace(fit, params=replace(fit.params, pose=pose))


def lid_gaps(points: Tensor) -> Tensor:
    """How far the detector sees each eye open, [N, 2]: mean gap between its lids as a part of the distance of its corners.

    Args:
        points: [N, 478, 3], unit coordinates. Depths make the eye's width independent of turning the head.
    """
    gaps = []
    for corners, pairs in LIDS:
        width = (points[:, corners[0]] - points[:, corners[1]]).norm(dim=-1)
        upper, lower = zip(*pairs, strict=True)
        gap = (points[:, list(upper), :2] - points[:, list(lower), :2]).norm(dim=-1).mean(dim=1)
        gaps.append(gap / width.clamp_min(1e-6))
    return torch.stack(gaps, dim=1)


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


def _in_picture(points: Tensor, camera: Camera) -> Tensor:
    """Unit coordinates [N, ..., 2] of world points [N, ..., 3]."""
    shown = project(points.flatten(1, -2), camera)[..., :2]
    return ((shown + 1) / 2).unflatten(1, points.shape[1:-1])


def _depth(points: Tensor, camera: Camera) -> Tensor:
    """Along the camera's axis, [N, K] of points [N, K, 3], world units."""
    return ((points - camera.cam2world[:, None, :3, 3]) * camera.cam2world[:, None, :3, 2]).sum(dim=-1)


def _eye_rotation(gaze: Tensor) -> Tensor:
    """[..., 3, 3] of (pitch, yaw) [..., 2]."""
    return axis_angle_to_matrix(torch.cat([gaze, torch.zeros_like(gaze[..., :1])], dim=-1))


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
