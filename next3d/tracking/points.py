"""Which points of a head are compared with which of the detector's, and where on the head they lie.

A head is a linear model with linear blend skinning (next3d.head.model). With global and neck rotation left to the head as a whole, what
moves a point beside shape and expression are three hinges: the jaw and the two eyeballs. So a point that is fixed on a triangle is

    base(coefficients) + sum over hinges of (R - 1) arm(coefficients),

both linear in the coefficients: shape, expression, and the entries of R - 1 where the model has pose correctives. That is exact, and K
points cost what K vertices cost.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from torch import Tensor

from next3d.head.dense import DENSE_COUNT, DetectorPoints, Embedding, dense_embedding
from next3d.head.model import OBJECT_TO_WORLD, HeadModel, Joint, LinearHeadModel

HINGES = (Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE)
"""The joints that move points within the head."""
ANGLES = 6
"""Last unknowns of a motion: jaw (x, y), left eye (x, y), right eye (x, y), axis-angle, radians."""
OUTER_EYE_CORNERS = (33, 263)
"""Of the 478 points."""
_NEIGHBOURS = 4
"""Of the 478 points that stand for a landmark."""
_OUTLINE = 17
"""Of the 68 landmarks, the first: the jaw's outline."""


@dataclass(frozen=True)
class PointModel:
    """K points of a head as functions of L coefficients, world units, seen from the anchor; Q of them times hinges follow a hinge."""

    shapes: int
    """S: coefficients 0 ... S - 1."""
    expressions: int
    """E: those after them; then follow 27 where `bends`."""
    base: Tensor
    """[K, 3]."""
    base_directions: Tensor
    """[K, 3, L]."""
    arm: Tensor
    """[Q, 3]: where a point is seen from its hinge, times how much it follows."""
    arm_directions: Tensor
    """[Q, 3, L]."""
    arm_point: Tensor
    """[Q] int64, below K."""
    arm_hinge: Tensor
    """[Q] int64, into HINGES."""
    anchor: Tensor
    """[3]: the point midway between the eyeballs of the mean head. It is the head's centre in `HeadState`."""
    root: Tensor
    """[3]: about which Joint.GLOBAL turns the mean head."""
    root_directions: Tensor
    """[3, L]."""
    source: Tensor
    """[K, W] int64: into the detector's 478 points."""
    share: Tensor
    """[K, W]: rows sum to 1; the measurement of a point is this mean of the detector's."""

    @property
    def bends(self) -> bool:
        """Whether the head has pose correctives."""
        return self.base_directions.shape[2] > self.shapes + self.expressions

    def measure(self, points: Tensor) -> Tensor:
        """The detector's points [N, 478, C] to measurements [N, K, C]."""
        return (points[:, self.source] * self.share[..., None]).sum(dim=2)

    def to(self, device: torch.device, dtype: torch.dtype) -> PointModel:
        """A copy elsewhere, or in another precision."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if isinstance(getattr(self, field.name), Tensor)}
        moved = {name: tensor.to(device, dtype if tensor.is_floating_point() else None) for name, tensor in tensors.items()}
        return replace(self, **moved)


def shaped(points: PointModel, shape: Tensor) -> PointModel:
    """The points of one person: a model without shape directions, for fits that keep a shape [S]."""
    count = points.shapes
    return replace(
        points,
        shapes=0,
        base=points.base + points.base_directions[..., :count] @ shape,
        base_directions=points.base_directions[..., count:],
        arm=points.arm + points.arm_directions[..., :count] @ shape,
        arm_directions=points.arm_directions[..., count:],
        root=points.root + points.root_directions[..., :count] @ shape,
        root_directions=points.root_directions[..., count:],
    )


def point_model(head: HeadModel) -> PointModel:
    """The points that are compared, on the head's device and in its precision; measured once per head.

    The default head has all 478. On other heads, whose surface the detector's points were not measured on, it is the 68 usual
    landmarks; where those are among the 478 is known from the default head. Where the head's makers say where some of the 478 lie, those
    take the place of all landmarks but the outline.

    Raises:
        TypeError: the head is no linear model.
        ValueError: it has no landmarks.
    """
    if not isinstance(head, LinearHeadModel):
        raise TypeError(f"fitting: the head is a {type(head).__name__}, expected a linear model such as the default head or FLAME")
    return _point_model(head, head.template.device, head.template.dtype)


def is_default(head: HeadModel) -> bool:
    """Whether it is the default head, on which the detector's points were measured."""
    return head.identifier.startswith("procedural")


@lru_cache(maxsize=4)
def _point_model(head: LinearHeadModel, device: torch.device, dtype: torch.dtype) -> PointModel:
    if is_default(head):
        source = torch.arange(DENSE_COUNT)[:, None]
        return build_points(head, dense_embedding(head), source, torch.ones(DENSE_COUNT, 1)).to(device, dtype)
    topology = head.topology
    if topology.landmark_faces is None or topology.landmark_barycentrics is None:
        raise ValueError(f"fitting: the head {head.identifier!r} has no landmarks, so nothing of it can be compared with a picture")
    embedding = Embedding(topology.faces[topology.landmark_faces].cpu(), topology.landmark_barycentrics.cpu())
    source, share = landmarks_among_dense()
    if head.detector_points is not None:
        embedding, source, share = _with_published(head.detector_points, embedding, source, share)
    return build_points(head, embedding, source, share).to(device, dtype)


def _with_published(known: DetectorPoints, embedding: Embedding, source: Tensor, share: Tensor) -> tuple[Embedding, Tensor, Tensor]:
    """The points of the detector that lie on the head as its makers say, and of the 68 landmarks the outline, which is not among them."""
    alone = torch.zeros(len(known.numbers), source.shape[1]).index_fill_(1, torch.tensor(0), 1.0)
    corners = torch.cat([embedding.corners[:_OUTLINE], known.embedding.corners])
    weights = torch.cat([embedding.weights[:_OUTLINE], known.embedding.weights])
    sources = torch.cat([source[:_OUTLINE], known.numbers[:, None].expand(-1, source.shape[1])])
    return Embedding(corners, weights), sources, torch.cat([share[:_OUTLINE], alone.to(share)])


@lru_cache(maxsize=1)
def landmarks_among_dense() -> tuple[Tensor, Tensor]:
    """The 68 landmarks as means of the detector's points, as they lie on the default head: numbers and shares [68, 4]."""
    from next3d.head import load_head

    head = load_head("procedural")
    mesh = head(head.neutral(1))
    dense = dense_embedding(head).place(mesh.vertices)[0]
    distance = torch.cdist(mesh.landmarks[0], dense[:468])
    near, source = distance.topk(_NEIGHBOURS, largest=False)
    share = 1 / (near**2 + 1e-6)
    return source, share / share.sum(dim=1, keepdim=True)


@torch.no_grad()
def build_points(head: LinearHeadModel, embedding: Embedding, source: Tensor, share: Tensor) -> PointModel:
    """The points of an embedding [K] on a head, in its precision, on the CPU; `source` and `share` as in `PointModel`."""
    corners, weights = embedding.corners, embedding.weights.to(head.template.dtype)
    bend = head.pose_directions is not None and bool(head.pose_directions[..., 9:].any())
    extra = [head.pose_directions[..., 9:]] if bend and head.pose_directions is not None else []
    directions = torch.cat([head.shape_directions, head.expression_directions, *extra], dim=2).cpu()  # [V, 3, L]
    moved = [head.joint_shape_directions, _expression_joints(head)]
    joint_directions = torch.cat([*moved, head.joints.new_zeros(len(Joint), 3, 27 if bend else 0)], dim=2).cpu()  # [5, 3, L]
    template, joints, skinning = head.template.cpu(), head.joints.cpu(), head.weights.cpu()
    base = torch.einsum("kc,kca->ka", weights, template[corners])
    base_directions = torch.einsum("kc,kcal->kal", weights, directions[corners])
    arms, arm_directions, arm_point, arm_hinge = [], [], [], []
    for number, joint in enumerate(HINGES):
        follow = weights * skinning[corners][..., joint]  # [K, 3]
        point = follow.sum(dim=1).nonzero()[:, 0]
        follow, total = follow[point], follow[point].sum(dim=1)
        arms.append(torch.einsum("kc,kca->ka", follow, template[corners[point]]) - total[:, None] * joints[joint])
        turned = torch.einsum("kc,kcal->kal", follow, directions[corners[point]])
        arm_directions.append(turned - total[:, None, None] * joint_directions[joint])
        arm_point.append(point)
        arm_hinge.append(torch.full_like(point, number))
    anchor = joints[[Joint.LEFT_EYE, Joint.RIGHT_EYE]].mean(dim=0)
    return PointModel(
        shapes=head.shape_directions.shape[2],
        expressions=head.expression_directions.shape[2],
        base=OBJECT_TO_WORLD * (base - anchor),
        base_directions=OBJECT_TO_WORLD * base_directions,
        arm=OBJECT_TO_WORLD * torch.cat(arms),
        arm_directions=OBJECT_TO_WORLD * torch.cat(arm_directions),
        arm_point=torch.cat(arm_point),
        arm_hinge=torch.cat(arm_hinge),
        anchor=OBJECT_TO_WORLD * anchor,
        root=OBJECT_TO_WORLD * joints[Joint.GLOBAL],
        root_directions=OBJECT_TO_WORLD * joint_directions[Joint.GLOBAL],
        source=source,
        share=share.to(template.dtype),
    )


def _expression_joints(head: LinearHeadModel) -> Tensor:
    if head.joint_expression_directions is not None:
        return head.joint_expression_directions
    return head.joints.new_zeros(len(Joint), 3, head.expression_directions.shape[2])
