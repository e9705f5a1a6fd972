"""The head-model interface: parameters in, posed mesh out.

A head is a template plus linear shape and expression directions, posed by five joints with linear blend skinning
(FLAME, Li et al. 2017, Eq. 2-5). Joints: global, neck, jaw, left eye, right eye; rotations are axis-angle in radians.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from next3d.head.topology import Topology
from next3d.types import Camera, HeadMesh, TensorBundle

if TYPE_CHECKING:
    from next3d.head.dense import DetectorPoints

OBJECT_TO_WORLD = 2.5
"""Head models use metres-like object units; this many world units are one object unit (Next3D supplement, Sec. 2.1)."""


class Joint(IntEnum):
    """Rows of `HeadParams.pose`."""

    GLOBAL = 0
    NECK = 1
    JAW = 2
    LEFT_EYE = 3
    RIGHT_EYE = 4


JOINT_PARENTS = (-1, Joint.GLOBAL, Joint.NECK, Joint.NECK, Joint.NECK)
"""The joint that carries each joint; a parent comes before its children."""


@dataclass(frozen=True)
class HeadParams(TensorBundle):
    """Everything that poses a head model with S shape and E expression directions."""

    shape: Tensor
    """[N, S], in standard deviations."""
    expression: Tensor
    """[N, E]; for named blend shapes, 0 is off and 1 is full."""
    pose: Tensor
    """[N, 5, 3], axis-angle per joint, radians. Positive x turns the jaw open and the eyes down; positive y turns towards +x."""
    translation: Tensor
    """[N, 3], world units, added after posing."""
    scale: Tensor
    """[N], multiplies the posed head; 1 is the model's own size."""


class HeadModel(nn.Module, ABC):
    """Interface of head models; `forward` poses a batch."""

    identifier: str
    """Name and version, written into data sets and checkpoints."""
    topology: Topology
    shape_names: tuple[str, ...]
    expression_names: tuple[str, ...]

    @abstractmethod
    def neutral(self, count: int = 1) -> HeadParams:
        """Parameters of the mean head at rest."""

    @abstractmethod
    def forward(self, params: HeadParams) -> HeadMesh:
        """Pose the head: vertices and landmarks in world units."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over template, directions, joints, weights and topology: data and model must agree on it."""


@dataclass(frozen=True)
class LinearHead:
    """The numbers of a linear head model with V vertices, S shape, E expression and C pose-corrective directions, in object units."""

    template: Tensor
    """[V, 3]."""
    shape_directions: Tensor
    """[V, 3, S]."""
    expression_directions: Tensor
    """[V, 3, E]."""
    joints: Tensor
    """[5, 3], of the template. Rotations of Joint.GLOBAL turn about joints[0]."""
    joint_shape_directions: Tensor
    """[5, 3, S]: how joints move with shape. For a joint regressor [5, V] this is regressor @ shape_directions."""
    weights: Tensor
    """[V, 5], skinning weights; rows sum to 1."""
    pose_directions: Tensor | None = None
    """[V, 3, 36]: correctives, linear in the 9 entries of R - I of neck, jaw, left eye, right eye; None for none."""
    joint_expression_directions: Tensor | None = None
    """[5, 3, E]: how joints move with expression, for models that regress them from the expressive head; None where they do not."""


class LinearHeadModel(HeadModel):
    """Linear directions and linear blend skinning: FLAME's form, whatever the numbers (FLAME, Eq. 2-5)."""

    template: Tensor
    shape_directions: Tensor
    expression_directions: Tensor
    joints: Tensor
    joint_shape_directions: Tensor
    weights: Tensor
    pose_directions: Tensor | None
    joint_expression_directions: Tensor | None
    detector_points: DetectorPoints | None = None
    """Points of MediaPipe's face mesh on this head, on the CPU, where somebody measured them; not part of the fingerprint."""

    def __init__(
        self,
        identifier: str,
        numbers: LinearHead,
        topology: Topology,
        *,
        shape_names: tuple[str, ...],
        expression_names: tuple[str, ...],
    ) -> None:
        """Raises ValueError where shapes disagree."""
        super().__init__()
        _check_shapes(numbers, len(shape_names), len(expression_names))
        self.identifier = identifier
        self.topology = topology
        self.shape_names = shape_names
        self.expression_names = expression_names
        for name in (
            "template",
            "shape_directions",
            "expression_directions",
            "joints",
            "joint_shape_directions",
            "weights",
            "pose_directions",
            "joint_expression_directions",
        ):
            self.register_buffer(name, getattr(numbers, name), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LinearHeadModel:
        """Move the topology together with the buffers."""
        super()._apply(fn, recurse)
        self.topology = self.topology.to(self.template.device)
        return self

    def neutral(self, count: int = 1) -> HeadParams:
        """Parameters of the mean head at rest."""
        new = self.template.new_zeros
        return HeadParams(
            shape=new(count, len(self.shape_names)),
            expression=new(count, len(self.expression_names)),
            pose=new(count, len(Joint), 3),
            translation=new(count, 3),
            scale=self.template.new_ones(count),
        )

    def expression_index(self, name: str) -> int:
        """Column of `HeadParams.expression` for a named expression; KeyError with the known names otherwise."""
        return _index(self.expression_names, name, "expression")

    def shape_index(self, name: str) -> int:
        """Column of `HeadParams.shape` for a named shape direction; KeyError with the known names otherwise."""
        return _index(self.shape_names, name, "shape direction")

    def forward(self, params: HeadParams) -> HeadMesh:
        """Pose the head.

        Args:
            params: N heads; every field may carry gradients.

        Returns:
            Vertices [N, V, 3] and landmarks [N, 68, 3], world units.
        """
        rotations = axis_angle_to_matrix(params.pose)  # [N, 5, 3, 3]
        rest = self.template + _blend(self.shape_directions, params.shape) + _blend(self.expression_directions, params.expression)
        if self.pose_directions is not None:
            bend = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            rest = rest + _blend(self.pose_directions, bend.flatten(1))
        joints = self.joints + _blend(self.joint_shape_directions, params.shape)  # [N, 5, 3]
        if self.joint_expression_directions is not None:
            joints = joints + _blend(self.joint_expression_directions, params.expression)
        posed = skin(rest, joints, rotations, self.weights)
        vertices = posed * (OBJECT_TO_WORLD * params.scale[:, None, None]) + params.translation[:, None]
        return HeadMesh(vertices=vertices, landmarks=self.topology.landmarks(vertices))

    def mirror(self, params: HeadParams) -> HeadParams:
        """Parameters of the mirror image at x = 0; vertices come out mirrored and permuted by `topology.mirror_vertices`.

        For models whose shape directions are symmetric and whose expressions end in Left and Right where they have a side.
        """
        swap = torch.tensor(
            [self.expression_names.index(_other_side(name)) for name in self.expression_names], device=params.expression.device
        )
        sides = [Joint.GLOBAL, Joint.NECK, Joint.JAW, Joint.RIGHT_EYE, Joint.LEFT_EYE]
        turned = params.pose[:, sides] * params.pose.new_tensor([1.0, -1.0, -1.0])
        moved = params.translation * params.translation.new_tensor([-1.0, 1.0, 1.0])
        return HeadParams(params.shape, params.expression[:, swap], turned, moved, params.scale)

    def fingerprint(self) -> str:
        """SHA-256 over template, directions, joints, weights and topology: data and model must agree on it."""
        digest = hashlib.sha256()
        named = [(name, buffer) for name, buffer in sorted(self.named_buffers())]
        named += sorted(self.topology.geometry().items())
        for name, tensor in named:
            array = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


def axis_angle_to_matrix(rotation: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axis-angle vectors [..., 3] (Rodrigues); smooth at zero."""
    squared = (rotation * rotation).sum(-1)[..., None, None]
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    x, y, z = rotation.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=rotation.dtype, device=rotation.device) + sine * cross + cosine * (cross @ cross)


def matrix_to_axis_angle(rotation: Tensor) -> Tensor:
    """Axis-angle [N, 3] of rotation matrices [N, 3, 3] by less than half a turn."""
    sine = 0.5 * torch.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        dim=1,
    )  # axis times sine
    length = sine.norm(dim=1, keepdim=True)
    cosine = 0.5 * (rotation.diagonal(dim1=1, dim2=2).sum(dim=1, keepdim=True) - 1)
    return sine * torch.where(length > 1e-6, torch.atan2(length, cosine) / length.clamp_min(1e-6), torch.ones_like(length))


def yaw_in_view(pose: Tensor, camera: Camera | None = None) -> Tensor:
    """How far heads are turned to the side as a camera sees them.

    Args:
        pose: [N, 5, 3], as in `HeadParams`; global and neck rotation count.
        camera: N cameras; None for one that looks along -z.

    Returns:
        [N], radians in [-pi/2, pi/2], positive towards the view's +x: the angle between the head's x axis and the image plane, which
        nodding and tilting the head to the shoulder leave alone.
    """
    turn = axis_angle_to_matrix(pose[:, Joint.GLOBAL]) @ axis_angle_to_matrix(pose[:, Joint.NECK])  # [N, 3, 3]
    if camera is None:
        depth = turn[:, 2, 0]
    else:
        forward = camera.cam2world[:, :3, 2]  # away from the viewer
        depth = -(forward * turn[:, :, 0]).sum(dim=1)
    return torch.asin(-depth.clamp(-1, 1))


def skin(rest: Tensor, joints: Tensor, rotations: Tensor, weights: Tensor) -> Tensor:
    """Linear blend skinning.

    Args:
        rest: [N, V, 3] unposed vertices.
        joints: [N, 5, 3] unposed joints.
        rotations: [N, 5, 3, 3] of each joint relative to its parent.
        weights: [V, 5].

    Returns:
        [N, V, 3].
    """
    turns: list[Tensor] = []  # [N, 3, 3] per joint: from rest to posed directions
    shifts: list[Tensor] = []  # [N, 3] per joint: posed point = turn @ rest point + shift
    for joint, parent in enumerate(JOINT_PARENTS):
        center, turn = joints[:, joint], rotations[:, joint]
        shift = center - (turn @ center[..., None])[..., 0]
        if parent >= 0:
            shift = (turns[parent] @ shift[..., None])[..., 0] + shifts[parent]
            turn = turns[parent] @ turn
        turns.append(turn)
        shifts.append(shift)
    blended = torch.einsum("vj,njab->nvab", weights, torch.stack(turns, dim=1))
    moved = (blended @ rest[..., None])[..., 0]
    return moved + torch.einsum("vj,nja->nva", weights, torch.stack(shifts, dim=1))


def _blend(directions: Tensor, coefficients: Tensor) -> Tensor:
    """Sum of directions [V, 3, K] with coefficients [N, K]: [N, V, 3]."""
    return (coefficients @ directions.flatten(0, 1).T).unflatten(1, directions.shape[:2])


def _other_side(name: str) -> str:
    if name.endswith("Left"):
        return name[:-4] + "Right"
    return name[:-5] + "Left" if name.endswith("Right") else name


def _index(names: tuple[str, ...], name: str, kind: str) -> int:
    if name not in names:
        raise KeyError(f"no {kind} {name!r}; known: {', '.join(names)}")
    return names.index(name)


def _check_shapes(numbers: LinearHead, shapes: int, expressions: int) -> None:
    count = len(numbers.template)
    expected = {
        "template": (count, 3),
        "shape_directions": (count, 3, shapes),
        "expression_directions": (count, 3, expressions),
        "joints": (len(Joint), 3),
        "joint_shape_directions": (len(Joint), 3, shapes),
        "weights": (count, len(Joint)),
        "pose_directions": (count, 3, 9 * (len(Joint) - 1)),
        "joint_expression_directions": (len(Joint), 3, expressions),
    }
    for name, shape in expected.items():
        tensor = getattr(numbers, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"head model: {name} has shape {tuple(tensor.shape)}, expected {shape}")
