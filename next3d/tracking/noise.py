"""How a detector errs: habits that all its points share, and the rest that each point has for itself.

A measurement (next3d.tracking.residuals) of a head is its true place plus

    offset + slopes x pose + response x motion + factors x bias + noise of each point

with bias ~ N(0, 1): factor analysis, measured on synthetic portraits with known truth (`python -m bench.tracking --calibrate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.head.model import LinearHeadModel
from next3d.tracking.points import PointModel, point_model
from next3d.types import TensorBundle

POSE_FEATURES = 5
_PLAIN_SPREAD = (0.006, 0.006, 0.02)
"""World units; of a detector of which nothing is known."""
_DEPTH_OFFSET = 0.05
"""World units: detectors choose the origin of depths freely."""


@dataclass(frozen=True)
class DetectorNoise(TensorBundle):
    """Habits of a detector, in measurements of K points."""

    offset: Tensor
    """[K, 3]."""
    slopes: Tensor
    """[K, 3, 5]: times `pose_features`."""
    response: Tensor
    """[K, 3, M]: times the motion."""
    factors: Tensor
    """[K, 3, B]."""
    spread: Tensor
    """[K, 3]: standard deviations."""

    def expected(self, rotation: Tensor, upright: Tensor, motion: Tensor, bias: Tensor) -> Tensor:
        """How far the detector's points are expected from the true ones, [N, K, 3]."""
        features = pose_features(rotation, upright)
        weights = torch.cat([features, motion, bias], dim=1)
        table = torch.cat([self.slopes, self.response, self.factors], dim=2)
        return self.offset + (weights @ table.flatten(0, 1).T).unflatten(1, (-1, 3))


def pose_features(rotation: Tensor, upright: Tensor) -> Tensor:
    """[N, 5]: where heads [N, 3, 3] look, sideways and down in the upright picture, and the squares and the product of that."""
    ahead = (upright @ rotation[:, :2, 2:])[..., 0] / torch.linalg.det(upright).sqrt()[:, None]
    side, down = ahead.unbind(dim=1)
    return torch.stack([side, down, side * side, down * down, side * down], dim=1)


def plain_noise(points: PointModel, motions: int) -> DetectorNoise:
    """A detector of which nothing is known but that its depths have no origin."""
    new = points.base.new_zeros
    count = len(points.base)
    factors = new(count, 3, 1)
    factors[:, 2] = _DEPTH_OFFSET
    return DetectorNoise(
        offset=new(count, 3),
        slopes=new(count, 3, POSE_FEATURES),
        response=new(count, 3, motions),
        factors=factors,
        spread=points.base.new_tensor(_PLAIN_SPREAD).expand(count, 3).clone(),
    )


def detector_noise(head: LinearHeadModel) -> DetectorNoise:
    """The habits of MediaPipe's face mesh in the points of a head, on its device and in its precision."""
    points = point_model(head)
    return plain_noise(points, points.expressions + 6)
