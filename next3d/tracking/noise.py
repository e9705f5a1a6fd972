"""How a detector errs: habits that all its points share, and the rest that each point has for itself.

A measurement (next3d.tracking.residuals) of a head is its true place plus

    offset + slopes x pose + factors x bias + noise of each point

with bias ~ N(0, 1): factor analysis, measured on synthetic portraits with known truth (`python -m bench.tracking --calibrate`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dnnlib.files import atomic_write
from next3d.head.model import LinearHeadModel
from next3d.tracking.points import PointModel, is_default, point_model
from next3d.types import TensorBundle

POSE_FEATURES = 5
HABITS_FILE = Path(__file__).with_name("face_mesh_habits.safetensors")
HABIT_STRENGTH = 0.8
"""How much of the offsets is carried over from synthetic heads to people, on whom MediaPipe is at home. With 1, fits to photos of people
lie beside the detected points. Factors count in full: without them, lips that part are not told from jaws that open."""
SLOPE_STRENGTH = 0.8
"""The same for the slopes: synthetic heads seem to turn less than people do."""
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
    factors: Tensor
    """[K, 3, B]."""
    spread: Tensor
    """[K, 3]: standard deviations."""

    def expected(self, pose: Tensor, bias: Tensor) -> Tensor:
        """How far the detector's points are expected from the true ones, [N, K, 3]; `pose` [N, 5] are `pose_features`."""
        table = torch.cat([self.slopes, self.factors], dim=2)
        return self.offset + (torch.cat([pose, bias], dim=1) @ table.flatten(0, 1).T).unflatten(1, (-1, 3))


def pose_features(rotation: Tensor) -> Tensor:
    """[N, 5]: where heads look whose rotations [N, 3, 3] lead to a camera's axes, sideways and down in the picture turned so that they are
    upright; and the squares and the product of that."""
    roll = upright_angle(rotation)
    right, below = rotation[:, 0, 2], rotation[:, 1, 2]
    side, down = roll.cos() * right + roll.sin() * below, roll.cos() * below - roll.sin() * right
    return torch.stack([side, down, side * side, down * down, side * down], dim=1)


def upright_angle(rotation: Tensor) -> Tensor:
    """[N]: by how much heads lean to the picture's right, radians."""
    return torch.atan2(rotation[:, 1, 0] + rotation[:, 0, 1], rotation[:, 0, 0] - rotation[:, 1, 1])


def plain_noise(points: PointModel) -> DetectorNoise:
    """A detector of which nothing is known but that its depths have no origin."""
    new = points.base.new_zeros
    count = len(points.base)
    factors = new(count, 3, 1)
    factors[:, 2] = _DEPTH_OFFSET
    return DetectorNoise(
        offset=new(count, 3),
        slopes=new(count, 3, POSE_FEATURES),
        factors=factors,
        spread=points.base.new_tensor(_PLAIN_SPREAD).expand(count, 3).clone(),
    )


def detector_noise(head: LinearHeadModel) -> DetectorNoise:
    """The habits of MediaPipe's face mesh in the points of a head, on its device and in its precision; plain where they are not known."""
    return _detector_noise(head, head.template.device, head.template.dtype)


@lru_cache(maxsize=4)
def _detector_noise(head: LinearHeadModel, device: torch.device, dtype: torch.dtype) -> DetectorNoise:
    if not is_default(head):
        return plain_noise(point_model(head))
    stored = load_file(HABITS_FILE)
    noise = DetectorNoise(**{name: table.to(device, dtype) for name, table in stored.items()})
    return replace(noise, offset=HABIT_STRENGTH * noise.offset, slopes=SLOPE_STRENGTH * noise.slopes)


def save_noise(noise: DetectorNoise) -> None:
    """Store the habits that `detector_noise` reads, in half precision."""
    tables = {field.name: getattr(noise, field.name).half().contiguous() for field in fields(DetectorNoise)}
    with atomic_write(HABITS_FILE) as temporary:
        save_file(tables, temporary)
