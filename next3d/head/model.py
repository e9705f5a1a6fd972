"""The head-model interface: parameters in, posed mesh out.

A head is a template plus linear shape and expression directions, posed by five joints with linear blend skinning
(FLAME, Li et al. 2017, Eq. 2-5). Joints: global, neck, jaw, left eye, right eye; rotations are axis-angle in radians.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor, nn

from next3d.head.topology import Topology
from next3d.types import HeadMesh, TensorBundle

OBJECT_TO_WORLD = 2.5
"""Head models use metres-like object units; this many world units are one object unit (Next3D supplement, Sec. 2.1)."""


class Joint(IntEnum):
    """Rows of `HeadParams.pose`."""

    GLOBAL = 0
    NECK = 1
    JAW = 2
    LEFT_EYE = 3
    RIGHT_EYE = 4


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
