"""Where the eyes of fitted heads are: centres, irises, corners and lids, in the world and in pictures.

Only the vertices around the eyes are posed. Everything is for both eyes, the left one first; "left" is the person's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.dense import dense_embedding
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix, skin
from next3d.head.regions import IRIS_ANGLE
from next3d.render.cameras import project
from next3d.tracking.points import is_default
from next3d.tracking.types import HeadFit
from next3d.types import Camera, TensorBundle

SIDES = ("left", "right")
EYES = (Joint.LEFT_EYE, Joint.RIGHT_EYE)
EYE_CORNERS = ((45, 42), (36, 39))
"""Of the 68 landmarks: outer and inner corner of the left and the right eye."""
LID_LANDMARKS = ((45, 44, 43, 42, 47, 46), (36, 37, 38, 39, 40, 41))
"""Of the 68 landmarks, around the left and the right eye from its outer corner over the upper lid."""
LID_RINGS = (
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
)
"""The same of the detector's points."""
RIM_POINTS = {6: ((263, 387, 385, 362, 380, 373), (33, 160, 158, 133, 153, 144)), 16: LID_RINGS}
"""The detector's points that compare with `EyePair.rims`, by how many there are."""


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
    rims: Tensor
    """[N, 2, 16, 3]: where the detector's points around the eyes lie (LID_RINGS); [N, 2, 6, 3], LID_LANDMARKS, where nobody knows."""

    @property
    def radius(self) -> Tensor:
        """[N, 2]: from the centre to the pupil, world units."""
        return self.points[:, :, 0].norm(dim=-1)

    def look(self, gaze: Tensor) -> Tensor:
        """The five points [N, 2, 5, 3] in the world, of eyes turned by gaze [N, 2, 2] (pitch, yaw)."""
        turned = self.turn[:, None] @ eye_rotation(gaze)
        return self.points @ turned.transpose(-1, -2) + self.centre[:, :, None]


def eye_pair(head: LinearHeadModel, fit: HeadFit) -> EyePair:
    """Where the eyes of fitted heads are; how they are turned is left out.

    Raises:
        ValueError: the model has no irises or no landmarks.
    """
    params = fit.params
    pose = params.pose.clone()
    pose[:, list(EYES)] = 0
    params = replace(params, pose=pose)
    rotations = axis_angle_to_matrix(pose)
    turn = rotations[:, Joint.GLOBAL] @ rotations[:, Joint.NECK]
    centre = posed_joints(head, params)[:, list(EYES)]
    corners = _landmarks(head, params, EYE_CORNERS)
    rims = _ring(head, params) if is_default(head) else _landmarks(head, params, LID_LANDMARKS)
    return EyePair(turn, centre, _iris_points(head, params, centre, turn), corners, rims)


def eye_rotation(gaze: Tensor) -> Tensor:
    """[..., 3, 3] of (pitch, yaw) [..., 2]."""
    return axis_angle_to_matrix(torch.cat([gaze, torch.zeros_like(gaze[..., :1])], dim=-1))


def posed_joints(head: LinearHeadModel, params: HeadParams) -> Tensor:
    """Where the joints of posed heads are, [N, 5, 3], world units."""
    joints = _joints(head, params)
    rigid = torch.eye(len(Joint), dtype=joints.dtype, device=joints.device)
    return _in_world(skin(joints, joints, axis_angle_to_matrix(params.pose), rigid), params)


def posed_vertices(head: LinearHeadModel, params: HeadParams, index: Tensor) -> Tensor:
    """Some vertices [K] of posed heads, [N, K, 3], world units: what the model's `forward` gives for them."""
    rotations = axis_angle_to_matrix(params.pose)
    rest = head.template[index] + _blend(head.shape_directions[index], params.shape)
    rest = rest + _blend(head.expression_directions[index], params.expression)
    if head.pose_directions is not None:
        bend = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        rest = rest + _blend(head.pose_directions[index], bend.flatten(1))
    return _in_world(skin(rest, _joints(head, params), rotations, head.weights[index]), params)


def in_picture(points: Tensor, camera: Camera) -> Tensor:
    """Unit coordinates [N, ..., 2] of world points [N, ..., 3]."""
    shown = project(points.flatten(1, -2), camera)[..., :2]
    return ((shown + 1) / 2).unflatten(1, points.shape[1:-1])


def picture_scale(points: Tensor, camera: Camera) -> Tensor:
    """Unit coordinates per world unit across the line of sight, [N, K], at points [N, K, 3]."""
    depth = ((points - camera.cam2world[:, None, :3, 3]) * camera.cam2world[:, None, :3, 2]).sum(dim=-1)
    return camera.intrinsics[:, 0, 0, None] / depth


def _joints(head: LinearHeadModel, params: HeadParams) -> Tensor:
    joints = head.joints + _blend(head.joint_shape_directions, params.shape)
    if head.joint_expression_directions is not None:
        joints = joints + _blend(head.joint_expression_directions, params.expression)
    return joints


def _blend(directions: Tensor, coefficients: Tensor) -> Tensor:
    """Sum of directions [V, 3, K] with coefficients [N, K]: [N, V, 3]."""
    return (coefficients @ directions.flatten(0, 1).T).unflatten(1, directions.shape[:2])


def _in_world(points: Tensor, params: HeadParams) -> Tensor:
    return points * (OBJECT_TO_WORLD * params.scale[:, None, None]) + params.translation[:, None]


def _landmarks(head: LinearHeadModel, params: HeadParams, pair: Sequence[Sequence[int]]) -> Tensor:
    """[N, 2, K, 3] of the 68 landmarks, K on each side."""
    topology = head.topology
    if topology.landmark_faces is None or topology.landmark_barycentrics is None:
        raise ValueError(f"head model {head.identifier}: has no landmarks, so the corners of its eyes are not known")
    numbers = [number for side in pair for number in side]
    return _on_surface(head, params, topology.faces[topology.landmark_faces[numbers]], topology.landmark_barycentrics[numbers])


def _ring(head: LinearHeadModel, params: HeadParams) -> Tensor:
    """[N, 2, 16, 3]: LID_RINGS on the default head."""
    numbers = [number for side in LID_RINGS for number in side]
    embedding = dense_embedding(head)
    return _on_surface(head, params, embedding.corners[numbers].to(params.pose.device), embedding.weights[numbers].to(params.pose))


def _on_surface(head: LinearHeadModel, params: HeadParams, corners: Tensor, weights: Tensor) -> Tensor:
    """Points [2 K, 3] in triangles, of posed heads, [N, 2, K, 3]: those of the left eye come first."""
    vertices = posed_vertices(head, params, corners.flatten()).unflatten(1, corners.shape)
    return (vertices * weights[..., None]).sum(dim=2).unflatten(1, (2, -1))


def _iris_points(head: LinearHeadModel, params: HeadParams, centre: Tensor, turn: Tensor) -> Tensor:
    """See `EyePair.points`: the eyeball is taken for a sphere, and the gaze's axis goes through the middle of the pupil or the iris."""
    eyes = []
    for index, side in enumerate(SIDES):
        front, angle = _front(head, side)
        offset = (posed_vertices(head, params, front) - centre[:, index, None]) @ turn  # along the head's axes
        radius = offset.norm(dim=-1).mean(dim=1)[:, None, None]
        axis = F.normalize(offset.mean(dim=1), dim=-1)[:, None]  # [N, 1, 3]
        right = F.normalize(torch.linalg.cross(axis.new_tensor([[[0.0, 1.0, 0.0]]]).expand_as(axis), axis), dim=-1)
        above = torch.linalg.cross(axis, right)
        edge = torch.cat([right, above, -right, -above], dim=1) * math.sin(angle) + axis * math.cos(angle)
        eyes.append(radius * torch.cat([axis, edge], dim=1))
    return torch.stack(eyes, dim=1)


def _front(head: LinearHeadModel, side: str) -> tuple[Tensor, float]:
    """Vertices around the front of an eyeball, and how far its iris reaches, radians from the gaze."""
    known, regions = head.topology.eye_points, head.topology.regions
    if f"{side}_pupil" in known:
        pupil, centre = known[f"{side}_pupil"], head.joints[EYES[SIDES.index(side)]]
        edge = head.template[known[f"{side}_iris"]] - centre
        return pupil, float(torch.acos(F.cosine_similarity(head.template[pupil] - centre, edge, dim=1).mean()))
    if f"{side}_iris" in regions and bool(regions[f"{side}_iris"].any()):
        return regions[f"{side}_iris"].nonzero()[:, 0], IRIS_ANGLE
    raise ValueError(f"head model {head.identifier}: has neither eye points nor irises, so its gaze cannot be fitted")
