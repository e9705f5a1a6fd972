"""The default head: built by code, free of any licence but the project's own.

The left half is sculpted (sculpt, chart, parts, half), mirrored exactly, and scaled and placed so that the default portrait camera
frames it like an aligned photo. All arrays are rounded to a fixed grid, so that machines agree on them bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from next3d.head.chart import Indices
from next3d.head.expressions import EXPRESSIONS, JAW_OPEN, Expression, jaw_corrective
from next3d.head.fields import Field
from next3d.head.half import JAW_HINGE, NECK_JOINT, HalfHead, Piece, build_half, head_weights, smoothstep
from next3d.head.landmarks import embed_landmarks, eye_vertices
from next3d.head.model import OBJECT_TO_WORLD, Joint, LinearHead, LinearHeadModel
from next3d.head.paint import half_guide_colors, half_regions, uv_mask
from next3d.head.sculpt import EYE_CENTER, Array
from next3d.head.shapes import BLENDS, LID_SHAPES, SHAPE_NAMES, SHAPES, blend, shape_displacement
from next3d.head.topology import Topology

IDENTIFIER = "procedural-3"
CM_TO_WORLD = 0.024
"""World units per centimetre: the portrait camera then frames the face like an FFHQ crop: the pupils are a quarter of the image apart,
hair meets the top edge."""
EYE_LEVEL = 0.050
"""World height of the eyes: row 0.415 of a portrait, as in FFHQ crops."""
EYE_DEPTH = 0.155
"""World z of the plane through the eyeballs' centres."""
GRID = 1e-6
"""Object units; coordinates are rounded to it before they become float32."""


@dataclass(frozen=True)
class _Mirror:
    """How the half becomes the whole: half vertices first, then the mirror images of those off the middle line."""

    image: Indices
    """[n]: whole-head index of each half vertex's mirror image; itself on the middle line."""
    count: int
    """V."""

    def spread(self, half: Array, sign: float = -1.0) -> Array:
        """A field [n, 3] of the half to [V, 3]: x takes `sign` on the right half (-1 mirrors, 1 shifts both halves alike)."""
        whole = np.empty((self.count, 3))
        whole[self.image] = half * np.array([sign, 1.0, 1.0])
        whole[: len(half)] = half
        return whole

    def labels(self, half: np.ndarray) -> np.ndarray:
        """Values [n, ...] of the half to [V, ...], equal on both sides."""
        whole = np.empty((self.count, *half.shape[1:]), dtype=half.dtype)
        whole[self.image] = half
        whole[: len(half)] = half
        return whole

    def permutation(self) -> Indices:
        """[V], an involution."""
        permutation = np.arange(self.count)
        half = np.arange(len(self.image))
        permutation[half] = self.image
        permutation[self.image] = half
        return permutation


def _mirror_of(middle: np.ndarray) -> _Mirror:
    image = np.arange(len(middle))
    image[~middle] = len(middle) + np.arange((~middle).sum())
    return _Mirror(image, len(middle) + int((~middle).sum()))


@lru_cache(maxsize=1)
def procedural_numbers() -> tuple[LinearHead, Topology, tuple[str, ...], tuple[str, ...]]:
    """Template, directions, joints, weights; topology; names of the shape and of the expression directions."""
    half = build_half()
    mirror = _mirror_of(half.vertices[:, 0] == 0)
    fields = SHAPES | {name: blend(name) for name in BLENDS}
    shapes = [mirror.spread(shape_displacement(half, field)) for field in fields.values()]
    shapes += [mirror.spread(_on_middle(half, shape(half))) for shape in LID_SHAPES.values()]
    expressions, names = _expressions(half, mirror)
    joints = np.stack([_world_origin(), NECK_JOINT, JAW_HINGE, EYE_CENTER, EYE_CENTER * [-1, 1, 1]])
    joint_shapes = np.zeros((*joints.shape, len(SHAPE_NAMES)))  # lids leave the joints alone
    joint_shapes[..., : len(fields)] = np.stack([_joint_field(joints, field) for field in fields.values()], axis=-1)
    scale = CM_TO_WORLD / OBJECT_TO_WORLD
    place = np.array([0.0, EYE_LEVEL, EYE_DEPTH]) / OBJECT_TO_WORLD
    numbers = LinearHead(
        template=_on_grid(mirror.spread(half.vertices) * scale + place),
        shape_directions=_on_grid(np.stack(shapes, axis=-1) * scale),
        expression_directions=_on_grid(np.stack(expressions, axis=-1) * scale),
        joints=_on_grid(joints * scale + place),
        joint_shape_directions=_on_grid(joint_shapes * scale),
        weights=_skinning_weights(half, mirror),
        pose_directions=_on_grid(_pose_directions(half, mirror) * scale),
    )
    return numbers, _topology(half, mirror), SHAPE_NAMES, names


def procedural_head() -> LinearHeadModel:
    """The default head model."""
    numbers, topology, shape_names, expression_names = procedural_numbers()
    return LinearHeadModel(IDENTIFIER, numbers, topology, shape_names=shape_names, expression_names=expression_names)


def _world_origin() -> Array:
    """The world's origin in sculpting coordinates: global rotations turn about it, like a camera's orbit."""
    return np.array([0.0, -EYE_LEVEL, -EYE_DEPTH]) / CM_TO_WORLD


def _joint_field(joints: Array, field: Field) -> Array:
    """A shape field at the joints [5, 3]: the root stays, joints on the middle line stay there, the eyes move as mirror images."""
    moved = field(joints * [0.0, 1.0, 1.0])
    moved[:, 0] = 0
    moved[Joint.GLOBAL] = 0
    left = field(EYE_CENTER[None])[0]
    moved[Joint.LEFT_EYE], moved[Joint.RIGHT_EYE] = left, left * [-1, 1, 1]
    return moved


def _expressions(half: HalfHead, mirror: _Mirror) -> tuple[list[Array], tuple[str, ...]]:
    """Whole-head fields [V, 3] and their names."""
    fields, names = [], []
    permutation, flip = mirror.permutation(), np.array([-1.0, 1.0, 1.0])
    for expression in EXPRESSIONS:
        left = _left_version(expression, half, mirror)
        if expression.side == "both":
            fields.append(left)
            names.append(expression.name)
        else:
            fields += [left, left[permutation] * flip]
            names += [expression.name + "Left", expression.name + "Right"]
    return fields, tuple(names)


def _left_version(expression: Expression, half: HalfHead, mirror: _Mirror) -> Array:
    field = expression.field(half)
    if expression.side == "shift":
        return mirror.spread(field, sign=1.0)
    whole = mirror.spread(_on_middle(half, field))
    if expression.side == "both":
        return whole
    x = mirror.spread(half.vertices)[:, 0]
    return whole * smoothstep(-0.8, 0.8, x)[:, None]


def _on_middle(half: HalfHead, field: Array) -> Array:
    """A symmetric field [n, 3] keeps the middle line in the middle."""
    field[half.vertices[:, 0] == 0, 0] = 0.0
    return field


def _pose_directions(half: HalfHead, mirror: _Mirror) -> Array:
    """[V, 3, 36]: the jaw's corrective, driven by the entry of R - I that is minus the sine of its opening."""
    directions = np.zeros((mirror.count, 3, 9 * (len(Joint) - 1)))
    entry = 9 * (Joint.JAW - 1) + 3 * 1 + 2
    directions[:, :, entry] = mirror.spread(_on_middle(half, jaw_corrective(half))) / -np.sin(JAW_OPEN)
    return directions


def _skinning_weights(half: HalfHead, mirror: _Mirror) -> Tensor:
    """[V, 5]; the neck bends over its whole length, the jaw follows half.jaw, eyeballs are rigid."""
    v = half.vertices
    neck, jaw = head_weights(half)
    weights = np.zeros((len(v), len(Joint)))
    weights[:, Joint.GLOBAL], weights[:, Joint.NECK], weights[:, Joint.JAW] = 1 - neck, neck - jaw, jaw
    ball = half.piece == Piece.EYEBALL
    weights[ball] = 0.0
    weights[ball, Joint.LEFT_EYE] = 1.0
    whole = np.round(mirror.labels(weights) * 2**16) / 2**16
    whole[:, Joint.NECK] = 1 - whole[:, [Joint.GLOBAL, Joint.JAW, Joint.LEFT_EYE]].sum(1)
    right = np.flatnonzero((np.arange(mirror.count) >= len(v)) & (whole[:, Joint.LEFT_EYE] == 1))
    whole[right, Joint.LEFT_EYE], whole[right, Joint.RIGHT_EYE] = 0.0, 1.0
    return torch.from_numpy(whole.astype(np.float32))


def _on_grid(values: Array) -> Tensor:
    return torch.from_numpy((np.round(values / GRID) * GRID).astype(np.float32) + np.float32(0))


def _topology(half: HalfHead, mirror: _Mirror) -> Topology:
    faces = np.concatenate([half.faces, mirror.image[half.faces][:, ::-1]])
    uv = np.round(half.uv * 2**20) / 2**20  # so that 1 - u is exact
    own = uv[:, 0] != 0.5
    uv_image = np.arange(len(uv))
    uv_image[own] = len(uv) + np.arange(own.sum())
    uvs = np.concatenate([uv, uv[own] * [-1, 1] + [1, 0]])
    uv_faces = np.concatenate([half.uv_faces, uv_image[half.uv_faces][:, ::-1]])
    landmark_faces, landmark_barycentrics, mirror_landmarks = embed_landmarks(half)
    regions = {}
    for name, mask in half_regions(half).items():
        whole = mirror.labels(mask)
        left = np.arange(mirror.count) < len(half.vertices)
        if name.startswith("left_"):
            regions[name] = torch.from_numpy(whole & left)
            regions["right_" + name[5:]] = torch.from_numpy(regions[name].numpy()[mirror.permutation()])
        else:
            regions[name] = torch.from_numpy(whole)
    colors = mirror.labels(half_guide_colors(half))
    eye_points = {name: torch.from_numpy(index.astype(np.int64)) for name, index in eye_vertices(half).items()}
    eye_points |= {"right_" + name[5:]: torch.from_numpy(mirror.permutation())[index] for name, index in eye_points.items()}
    return Topology(
        faces=torch.from_numpy(faces),
        uvs=torch.from_numpy(uvs.astype(np.float32)),
        uv_faces=torch.from_numpy(uv_faces),
        uv_mask=torch.from_numpy(uv_mask()),
        guide_colors=torch.from_numpy(colors.astype(np.float32)),
        landmark_faces=torch.from_numpy(landmark_faces),
        landmark_barycentrics=torch.from_numpy(landmark_barycentrics),
        mirror_vertices=torch.from_numpy(mirror.permutation()),
        mirror_landmarks=torch.from_numpy(mirror_landmarks),
        regions=regions,
        eye_points=eye_points,
    )
