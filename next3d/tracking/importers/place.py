"""A head as another tracker saw it, brought before the camera of a crop of ours.

Other trackers look through other cameras: scaled orthographic ones, or pinholes with focal lengths of their own in the middle of the
whole picture. A crop's camera has EG3D's focal length and its own middle. The head comes so far away that it is as large in the crop as
the other tracker saw it, and turns with the line of sight, so that the crop shows the same side of it. What cannot be kept is the amount
of perspective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.head.model import OBJECT_TO_WORLD, HeadModel, HeadParams, Joint, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.render.cameras import PORTRAIT_FOCAL, PORTRAIT_RADIUS, orbit_camera
from next3d.tracking.types import CropFrame, HeadFit, Points

ANCHORS = {27: 168, 30: 4, 33: 2, 36: 33, 39: 133, 42: 362, 45: 263, 48: 61, 51: 0, 54: 291, 57: 17, 62: 13, 66: 14}
"""Landmarks of the usual 68 → of MediaPipe's 478, by what they are: bridge, tip and root of the nose, corners of eyes and mouth, lips."""
_EYE_CORNERS = (33, 263)
_FLIP = (1.0, -1.0, -1.0)
"""From OpenCV axes (y down, z forward) to ours (y up, z towards the viewer), and back."""


@dataclass(frozen=True)
class WeakPerspective:
    """A scaled orthographic camera that looks along -z."""

    scale: float
    """Photo pixels per object unit."""
    left: float
    """Where the object origin is seen, photo coordinates."""
    top: float


@dataclass(frozen=True)
class Pinhole:
    """A camera with a place in the other tracker's world."""

    cam2world: npt.NDArray[np.float64]
    """[4, 4], OpenCV axes, object units."""
    focal: tuple[float, float]
    """Along x and y, pixels."""
    centre: tuple[float, float]
    """Principal point, photo coordinates."""


@dataclass(frozen=True)
class ImportedHead:
    """One head as another tracker saw it."""

    params: HeadParams
    """A batch of one in the other tracker's world; translation in world units (2.5 per object unit)."""
    view: WeakPerspective | Pinhole | None
    """Its camera; None where the files do not say where in the picture the head is, but the camera looks along -z."""
    lacks_gaze: bool
    """The tracker did not fit the eyes: they look straight ahead."""


@torch.no_grad()
def place_in_crop(head: HeadModel, imported: ImportedHead, frame: CropFrame, points: Points) -> HeadFit:
    """The head before the standard camera of a crop.

    Args:
        head: the model that its numbers are for.
        imported: one head.
        frame: the crop.
        points: [478, 3] that a detector found, photo coordinates: where the file has no camera they say where the head is; and they are
            what `HeadFit.error` compares with, on the landmarks that both have.
    """
    seen = frame.to_unit(points)
    landmarks, turned = _in_view(head, imported)
    anchors = torch.from_numpy(seen[list(ANCHORS.values()), :2]).to(landmarks)
    if imported.view is None:
        place, sight = _place_by_landmarks(landmarks, anchors), landmarks.new_tensor([0.0, 0.0, 1.0])
    else:
        place, sight = _place_by_camera(imported.view, landmarks, frame)
    turn = _between(sight, F.normalize(place, dim=0))
    middle = landmarks[list(ANCHORS)].mean(dim=0)
    if imported.view is None:  # turned with the line of sight it fits elsewhere
        place = _place_by_landmarks((landmarks - middle) @ turn.T + middle, anchors)
    flip = landmarks.new_tensor(_FLIP)
    world_turn = flip[:, None] * turn * flip
    target = place * flip + landmarks.new_tensor([0.0, 0.0, PORTRAIT_RADIUS])
    params = _posed_at(head, imported.params, world_turn @ turned, target)
    zero = landmarks.new_zeros(1)
    camera = orbit_camera(zero, zero)
    shown = _project(head(params).landmarks[0], camera.cam2world[0])
    eyes = float(np.linalg.norm(np.diff(seen[list(_EYE_CORNERS), :2], axis=0)))
    error = (shown[list(ANCHORS)] - anchors).norm(dim=1).mean() / max(eyes, 1e-9)
    return HeadFit(params=params, camera=camera, error=error[None])


def _in_view(head: HeadModel, imported: ImportedHead) -> tuple[Tensor, Tensor]:
    """Landmarks [68, 3] in the camera's OpenCV axes, world units, and the global rotation [3, 3] as seen from it, in our axes."""
    landmarks = head(imported.params).landmarks[0]
    turned = axis_angle_to_matrix(imported.params.pose[0, Joint.GLOBAL])
    flip = landmarks.new_tensor(_FLIP)
    if not isinstance(imported.view, Pinhole):
        return landmarks * flip, turned
    pose = torch.from_numpy(imported.view.cam2world).to(landmarks)
    inside = (landmarks - pose[:3, 3] * OBJECT_TO_WORLD) @ pose[:3, :3]
    return inside, flip[:, None] * (pose[:3, :3].T @ turned)


def _place_by_camera(view: WeakPerspective | Pinhole, landmarks: Tensor, frame: CropFrame) -> tuple[Tensor, Tensor]:
    """Where the middle of the anchors belongs in the crop's camera [3], OpenCV axes, and the direction [3] in which the other saw it."""
    middle = landmarks[list(ANCHORS)].mean(dim=0)
    x, y, z = (float(value) for value in middle)
    if isinstance(view, Pinhole):
        focal = (view.focal[0] * view.focal[1]) ** 0.5
        across, down, scale = view.focal[0] * x / z + view.centre[0], view.focal[1] * y / z + view.centre[1], focal / z
        sight = F.normalize(middle, dim=0)
    else:
        scale = view.scale / OBJECT_TO_WORLD
        across, down = view.left + scale * x, view.top + scale * y
        sight = middle.new_tensor([0.0, 0.0, 1.0])
    depth = PORTRAIT_FOCAL * frame.side / scale
    unit = ((across - frame.left) / frame.side - 0.5, (down - frame.top) / frame.side - 0.5)
    return middle.new_tensor([unit[0] * depth / PORTRAIT_FOCAL, unit[1] * depth / PORTRAIT_FOCAL, depth]), sight


def _place_by_landmarks(landmarks: Tensor, anchors: Tensor) -> Tensor:
    """Where the middle of the anchors belongs so that landmarks [68, 3] fall on what was detected [K, 2]: linear least squares."""
    chosen = landmarks[list(ANCHORS)]
    local = (chosen - chosen.mean(dim=0)).double()
    seen = (anchors.double() - 0.5) / PORTRAIT_FOCAL  # x / z and y / z of each point
    one, zero = torch.ones_like(seen[:, 0]), torch.zeros_like(seen[:, 0])
    rows = torch.cat([torch.stack([one, zero, -seen[:, 0]], dim=1), torch.stack([zero, one, -seen[:, 1]], dim=1)])
    right = torch.cat([seen[:, 0] * local[:, 2] - local[:, 0], seen[:, 1] * local[:, 2] - local[:, 1]])
    return torch.linalg.lstsq(rows, right[:, None]).solution[:, 0].to(landmarks)


def _posed_at(head: HeadModel, params: HeadParams, rotation: Tensor, target: Tensor) -> HeadParams:
    """The same head with another global rotation [3, 3], moved so that the middle of its anchors is at `target` [3]."""
    pose = params.pose.clone()
    pose[0, Joint.GLOBAL] = matrix_to_axis_angle(rotation[None])[0]
    turned = replace(params, pose=pose, translation=torch.zeros_like(params.translation))
    middle = head(turned).landmarks[0, list(ANCHORS)].mean(dim=0)
    return replace(turned, translation=(target - middle)[None])


def _project(points: Tensor, cam2world: Tensor) -> Tensor:
    """Unit coordinates [K, 2] of points [K, 3] in a crop with the standard focal length."""
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    return local[:, :2] / local[:, 2:] * PORTRAIT_FOCAL + 0.5


def _between(first: Tensor, second: Tensor) -> Tensor:
    """The shortest rotation [3, 3] that takes one unit vector to another; they are never opposite here: both point into the picture."""
    axis = torch.linalg.cross(first, second)
    sine, cosine = axis.norm(), torch.dot(first, second)
    return axis_angle_to_matrix(axis * (torch.atan2(sine, cosine) / sine.clamp_min(1e-12)))
