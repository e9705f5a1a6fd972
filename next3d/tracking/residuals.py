"""What a head under a camera lets a detector see, how that changes with everything unknown, and how likely a detection makes it.

Camera coordinates: x right, y down, z forwards, world units. A measurement of a point is its place in the picture and its depth, both in
world units at the head's distance and turned so that the head is upright (`View`): so a detector's errors look alike in all pictures. The
unknowns of a head are ordered: turn 3, move 3, motion M = E + 6, bias B, shape S; a step in them is applied by `moved`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.head.model import axis_angle_to_matrix
from next3d.tracking.noise import DetectorNoise
from next3d.tracking.points import ANGLES, HINGES, PointModel
from next3d.types import TensorBundle

RIGID = 6
"""Unknowns of turn and move."""


@dataclass(frozen=True)
class HeadState(TensorBundle):
    """N heads during a fit."""

    rotation: Tensor
    """[N, 3, 3], from the head's axes to the camera's."""
    centre: Tensor
    """[N, 3]: the mean head's `PointModel.anchor`, in camera coordinates."""
    motion: Tensor
    """[N, E + 6]: expression, then ANGLES."""
    bias: Tensor
    """[N, B]: how much of each of the detector's habits (`DetectorNoise.factors`) there is in this detection."""
    shape: Tensor
    """[N, S]."""

    @property
    def angles(self) -> Tensor:
        """[N, 3, 3]: axis-angle of each hinge."""
        turned = self.motion[:, -ANGLES:].unflatten(1, (3, 2))
        return torch.cat([turned, torch.zeros_like(turned[..., :1])], dim=2)


@dataclass(frozen=True)
class View(TensorBundle):
    """N pictures and what was detected in them."""

    intrinsics: Tensor
    """[N, 3, 3], normalised."""
    origin: Tensor
    """[N, 2]: about where the head's centre is, unit coordinates."""
    axes: Tensor
    """[N, 3, 3]: from unit coordinates (right, down, away) to those of measurements."""
    pose: Tensor
    """[N, 5]: `next3d.tracking.noise.pose_features`."""
    target: Tensor
    """[N, K, 3]: the measurements."""
    trust: Tensor
    """[N, K], 0 to 1: how much each is believed; 0 for points that were not found."""

    def measured(self, places: Tensor, depths: Tensor) -> Tensor:
        """Unit coordinates [N, K, 2] and depths in them [N, K] as measurements [N, K, 3]."""
        return torch.cat([places - self.origin[:, None], depths[..., None]], dim=2) @ self.axes.transpose(1, 2)


def moved(state: HeadState, step: Tensor) -> HeadState:
    """The state after a step [N, 6 + M + B + S]: turned in camera axes (radians), moved in parts of its distance, the rest added."""
    motion, bias = state.motion.shape[1], state.bias.shape[1]
    turn, move, change, habit, shape = step.split([3, 3, motion, bias, state.shape.shape[1]], dim=1)
    return HeadState(
        rotation=axis_angle_to_matrix(turn) @ state.rotation,
        centre=state.centre + state.centre[:, 2:] * move,
        motion=state.motion + change,
        bias=state.bias + habit,
        shape=state.shape + shape,
    )


def place(points: PointModel, state: HeadState) -> Tensor:
    """The points [N, K, 3] in the head's axes, seen from its anchor, world units."""
    rotations = axis_angle_to_matrix(state.angles)
    coefficients = _coefficients(points, state, rotations)
    swing = (rotations - _identity(rotations))[:, points.arm_hinge]  # [N, Q, 3, 3]
    arms = points.arm + _combine(points.arm_directions, coefficients)
    return (points.base + _combine(points.base_directions, coefficients)).index_add(1, points.arm_point, (swing @ arms[..., None])[..., 0])


def place_with_slopes(points: PointModel, state: HeadState) -> tuple[Tensor, Tensor]:
    """`place`, and its derivatives [N, K, 3, M + S] after motion and shape."""
    angles = state.angles
    rotations = axis_angle_to_matrix(angles)
    coefficients = _coefficients(points, state, rotations)
    swing = (rotations - _identity(rotations))[:, points.arm_hinge]
    arms = points.arm + _combine(points.arm_directions, coefficients)  # [N, Q, 3]
    placed = (points.base + _combine(points.base_directions, coefficients)).index_add(
        1, points.arm_point, (swing @ arms[..., None])[..., 0]
    )
    linear = points.base_directions.expand(len(angles), -1, -1, -1).index_add(1, points.arm_point, swing @ points.arm_directions)
    turning = turning_rates(angles)[:, :, :2]  # [N, 3 hinges, 2 angles, 3]
    spun = torch.linalg.cross(
        turning[:, points.arm_hinge], (rotations[:, points.arm_hinge] @ arms[..., None])[:, :, None, :, 0], dim=-1
    )  # [N, Q, 2, 3]
    slots = len(points.base) * len(HINGES)
    hinged = linear.new_zeros(len(angles), slots, 6).index_add(
        1, points.arm_point * len(HINGES) + points.arm_hinge, spun.transpose(2, 3).flatten(2)
    )
    hinged = hinged.unflatten(1, (-1, len(HINGES))).unflatten(3, (3, 2)).transpose(2, 3)  # [N, K, 3, hinge, angle]
    if points.bends:
        bend = linear[..., points.shapes + points.expressions :].unflatten(-1, (3, 9))
        change = torch.linalg.cross(turning[..., None, :], rotations.transpose(2, 3)[:, :, None], dim=-1)  # columns of dR as rows
        hinged = hinged + torch.einsum("nkahi,nhbi->nkahb", bend, change.transpose(3, 4).flatten(3))
    shape, expression = linear[..., : points.shapes], linear[..., points.shapes : points.shapes + points.expressions]
    return placed, torch.cat([expression, hinged.flatten(3), shape], dim=3)


def root_offset(points: PointModel, state: HeadState) -> Tensor:
    """[N, 3]: where Joint.GLOBAL is, in the head's axes, world units from the model's origin."""
    coefficients = torch.cat([state.shape, state.motion[:, :-ANGLES]], dim=1)
    return points.root + _combine(points.root_directions[None, :, : coefficients.shape[1]], coefficients)[:, 0]


def seen(points: PointModel, state: HeadState, view: View) -> tuple[Tensor, Tensor]:
    """Where the points appear: unit coordinates [N, K, 2], and the same with depth in camera coordinates [N, K, 3]."""
    local = place(points, state) @ state.rotation.transpose(1, 2) + state.centre[:, None]
    return (local / local[..., 2:] @ view.intrinsics.transpose(1, 2))[..., :2], local


def _focal(view: View) -> Tensor:
    return torch.linalg.det(view.intrinsics[:, :2, :2]).abs().sqrt()


def predict(points: PointModel, state: HeadState, view: View, noise: DetectorNoise) -> Tensor:
    """The measurements [N, K, 3] that a detector with these habits is expected to make."""
    places, local = seen(points, state, view)
    centre = state.centre[:, None, 2]
    depths = _focal(view)[:, None] * (local[..., 2] - centre) / centre
    return view.measured(places, depths) + noise.expected(view.pose, state.bias)


def predict_with_slopes(points: PointModel, state: HeadState, view: View, noise: DetectorNoise) -> tuple[Tensor, Tensor]:
    """`predict`, and its derivatives [N, K, 3, U] after all unknowns. How habits change with the head's rotation is left out of them."""
    placed, slopes = place_with_slopes(points, state)
    turned = placed @ state.rotation.transpose(1, 2)  # [N, K, 3]
    local = turned + state.centre[:, None]
    inverse = 1 / local[..., 2:]
    rays = local * inverse
    places = (rays @ view.intrinsics.transpose(1, 2))[..., :2]
    focal, distance = _focal(view)[:, None], state.centre[:, None, 2]
    depths = focal * turned[..., 2] / distance
    # d place / d local = K (1 - ray e_z') / z, and that of depth
    drop = _identity(rays)[:2] - rays[..., :2, None] * rays.new_tensor([0.0, 0.0, 1.0])  # [N, K, 2, 3]
    image = view.intrinsics[:, None, :2, :2] @ (drop * inverse[..., None])  # [N, K, 2, 3]
    deep = torch.zeros_like(image[..., :1, :])
    deep[..., 0, 2] = focal / distance
    move = torch.cat([image * distance[..., None, None], torch.zeros_like(deep)], dim=2)
    move[:, :, 2, 2] = -depths  # relative depths shrink as the head goes away
    image = view.axes[:, None] @ torch.cat([image, deep], dim=2)  # [N, K, 3, 3]: d measurement / d local
    turn, move = _cross_columns(turned, image), view.axes[:, None] @ move
    inner = (image @ state.rotation[:, None]) @ slopes  # [N, K, 3, M + S]
    motions = state.motion.shape[1]
    factors = noise.factors.expand(len(inner), -1, -1, -1)
    jacobian = torch.cat([turn, move, inner[..., :motions], factors, inner[..., motions:]], dim=3)
    expected = noise.expected(view.pose, state.bias)
    return view.measured(places, depths) + expected, jacobian


def _cross_columns(turned: Tensor, image: Tensor) -> Tensor:
    """d (image @ (w x p)) / d w = -image @ [p]x, [N, K, 3, 3]."""
    return torch.linalg.cross(turned[:, :, None].expand_as(image), image, dim=-1)


def _coefficients(points: PointModel, state: HeadState, rotations: Tensor) -> Tensor:
    parts = [state.shape, state.motion[:, :-ANGLES]]
    if points.bends:
        parts.append((rotations - _identity(rotations)).flatten(1))
    return torch.cat(parts, dim=1)


def _combine(directions: Tensor, coefficients: Tensor) -> Tensor:
    """Sum of directions [K, 3, L] with coefficients [N, L]: [N, K, 3]."""
    return (coefficients @ directions.flatten(0, 1).T).unflatten(1, (-1, 3))


def _identity(like: Tensor) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device)


def turning_rates(angles: Tensor) -> Tensor:
    """[..., i, :]: the angular velocity in outer axes when component i of axis-angle vectors [..., 3] grows (left Jacobian of SO(3))."""
    squared = (angles * angles).sum(dim=-1)[..., None, None]
    small = squared < 1e-4
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    second = torch.where(small, 1 / 6 - squared / 120, (angle - angle.sin()) / (safe * angle))
    unit = _identity(angles).expand(*angles.shape, 3)
    once = torch.linalg.cross(angles[..., None, :].expand_as(unit), unit, dim=-1)  # row i: a x e_i
    twice = torch.linalg.cross(angles[..., None, :].expand_as(unit), once, dim=-1)
    return unit + first * once + second * twice
