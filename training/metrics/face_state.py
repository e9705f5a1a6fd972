"""What a picture of a face shows of its head: landmarks, head pose, expression, gaze and controls, from the parameters that made it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.landmarks import mirror_order
from next3d.head.model import HeadModel, HeadParams, Joint, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.render.cameras import project
from next3d.types import Camera, TensorBundle
from training.metrics.controls import MOUTH_AND_CHIN, Control, controls

LANDMARKS = 68
RIGHT_CORNER, LEFT_CORNER = 36, 45
"""Landmarks at the outer corners of the eyes; what lies between them is the unit of face-relative lengths."""
SHUT = 0.5
"""Eyes that are shut more than this show no gaze."""


@dataclass(frozen=True)
class FaceState(TensorBundle):
    """N faces, as they are or as they were read."""

    landmarks: Tensor
    """[N, 68, 2], x right and y down in [-1, 1] across the image."""
    rotation: Tensor
    """[N, 3], axis-angle from the camera (x right, y up, z towards the viewer) to the head, radians; 0 looks into the camera."""
    expression: Tensor
    """[N, 68, 3]: how expression and jaw move the landmarks of the mean head, in its own frame, in parts of the distance between the outer
    corners of its eyes. Eyeballs do not count: they have no landmarks."""
    gaze: Tensor
    """[N, 2], rotation of the eyes in the head (pitch, yaw), mean of both, radians."""
    controls: Tensor
    """[N, C], values of `avatar_controls` in their order."""

    def __len__(self) -> int:
        return len(self.rotation)

    def to_rows(self) -> Tensor:
        """[N, D]: everything side by side."""
        return torch.cat([part.flatten(1) for part in vars(self).values()], dim=1)

    @classmethod
    def from_rows(cls, rows: Tensor) -> FaceState:
        """The inverse of `to_rows`."""
        sizes = [2 * LANDMARKS, 3, 3 * LANDMARKS, 2]
        landmarks, rotation, expression, gaze, rest = rows.split([*sizes, rows.shape[1] - sum(sizes)], dim=1)
        return cls(landmarks.unflatten(1, (LANDMARKS, 2)), rotation, expression.unflatten(1, (LANDMARKS, 3)), gaze, rest)


def avatar_controls(head: HeadModel) -> dict[str, Control]:
    """The controls whose response is measured: those of `controls`, and the smile where there are directions named mouthSmile*."""
    found = dict(controls(head))
    corners = tuple(head.expression_names.index(name) for name in ("mouthSmileLeft", "mouthSmileRight") if name in head.expression_names)
    if len(corners) == 2:
        found["smile"] = Control("smile", 0.0, 1.0, (MOUTH_AND_CHIN,), expression_entries=corners)
    return found


@torch.no_grad()
def true_state(head: HeadModel, params: HeadParams, camera: Camera, known: Mapping[str, Control]) -> FaceState:
    """What pictures of N heads under N cameras show, if they show the truth."""
    return FaceState(
        landmarks=project(head(params).landmarks, camera)[..., :2],
        rotation=matrix_to_axis_angle(rotation_in_view(params, camera)),
        expression=expression_of(head, params),
        gaze=params.pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2].mean(dim=1),
        controls=torch.stack([control.read(params) for control in known.values()], dim=1),
    )


def rotation_in_view(params: HeadParams, camera: Camera) -> Tensor:
    """[N, 3, 3]: from the head's axes to those of a viewer at the camera (x right, y up, z towards the viewer)."""
    turn = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL]) @ axis_angle_to_matrix(params.pose[:, Joint.NECK])
    view = camera.cam2world[:, :3, :3] * camera.cam2world.new_tensor([1.0, -1.0, -1.0])  # columns: right, up, towards the viewer
    return view.transpose(1, 2) @ turn


def expression_of(head: HeadModel, params: HeadParams) -> Tensor:
    """[N, 68, 3], see `FaceState.expression`."""
    rest = head.neutral(len(params.scale))
    pose = rest.pose.clone()
    pose[:, Joint.JAW] = params.pose[:, Joint.JAW]
    mean = head(head.neutral(1)).landmarks
    size = (mean[0, LEFT_CORNER] - mean[0, RIGHT_CORNER]).norm()
    return (head(replace(rest, expression=params.expression, pose=pose)).landmarks - mean) / size


def mirrored_state(state: FaceState, known: Mapping[str, Control]) -> FaceState:
    """What the mirror images show. It acts on what is seen, so it holds for head models whose directions are not symmetric."""
    order = torch.from_numpy(mirror_order())
    new = state.landmarks.new_tensor
    return FaceState(
        landmarks=state.landmarks[:, order] * new([-1.0, 1.0]),
        rotation=state.rotation * new([1.0, -1.0, -1.0]),
        expression=state.expression[:, order] * new([-1.0, 1.0, 1.0]),
        gaze=state.gaze * new([1.0, -1.0]),
        controls=state.controls * new([float(control.mirror_sign) for control in known.values()]),
    )


def expression_distance(first: FaceState, second: FaceState) -> Tensor:
    """[N]: mean distance of the landmarks that expression and jaw move, in % of the distance between the outer corners of the eyes."""
    return 100 * (first.expression - second.expression).norm(dim=2).mean(dim=1)


def pose_distance(first: FaceState, second: FaceState) -> Tensor:
    """[N]: angle between two head rotations, degrees."""
    between = axis_angle_to_matrix(first.rotation).transpose(1, 2) @ axis_angle_to_matrix(second.rotation)
    return matrix_to_axis_angle(between).norm(dim=1) * (180 / math.pi)


def landmark_distance(first: FaceState, second: FaceState, size: int) -> Tensor:
    """[N]: mean distance of the 68 landmarks, pixels of images of `size` pixels."""
    return (first.landmarks - second.landmarks).norm(dim=2).mean(dim=1) * (size / 2)


def gaze_distance(first: FaceState, second: FaceState) -> Tensor:
    """[N]: angle between the directions in which the eyes look, in the head's frame, degrees."""
    directions = []
    for state in (first, second):
        turn = axis_angle_to_matrix(torch.cat([state.gaze, torch.zeros_like(state.gaze[:, :1])], dim=1))
        directions.append(turn[:, :, 2])
    across = torch.linalg.cross(directions[0], directions[1]).norm(dim=1)
    return torch.atan2(across, (directions[0] * directions[1]).sum(dim=1)) * (180 / math.pi)


@torch.no_grad()
def eye_distance(head: HeadModel, params: HeadParams, camera: Camera, size: int) -> Tensor:
    """[N]: the distance between the outer corners of the eyes as it would be seen from the front, pixels.

    The distance in space, at its depth: in the picture it would shrink when the head turns, and errors relative to it would grow.
    """
    corners = head(params).landmarks[:, [RIGHT_CORNER, LEFT_CORNER]]
    depth = project(corners, camera)[..., 2].mean(dim=1)
    return (corners[:, 0] - corners[:, 1]).norm(dim=1) / depth * camera.intrinsics[:, 0, 0] * size
