"""What is known about heads before a picture is seen: how strongly shapes and motions vary, what goes together, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from next3d.head.limits import JOINT_LIMITS
from next3d.head.model import HeadModel, Joint, LinearHeadModel
from next3d.tracking.points import ANGLES
from next3d.types import TensorBundle

SHAPE_LIMIT = 3.0
"""Standard deviations."""
STILL = ("jawOpen", "tongueOut")
"""Named expressions that are never fitted: one says what the jaw's joint says, the other hides in the mouth."""
_SAMPLES = 4000
_NOD_SPREAD = 0.16
"""Radians: the spread of portraits (next3d.synthetic.sampling has EG3D's). Photos show nods less clearly than all other turns."""
_ALIKE = 30.0
"""As many points as if they were one: what 478 of them say about a nod is not independent, and the prior would not be heard beside them.
Chosen on portraits that are not judged, together with what real ones show."""
_LEAST_SPREAD = 0.1
"""Of a named expression: people do what the sampler does not."""
_SPREADS = {"mouthClose": 0.1}
_JAW_SPREAD, _GAZE_SPREAD, _SIDE_SPREAD = 0.15, 0.2, 0.03
"""Radians: how far jaws open, where eyes look, and how far jaws go aside and eyes apart."""


@dataclass(frozen=True)
class Prior(TensorBundle):
    """Gaussians about zero, and limits."""

    motion: Tensor
    """[M, M]: inverse covariance."""
    low: Tensor
    """[M]."""
    high: Tensor
    """[M]; equal to `low` for what is not fitted."""
    shape: Tensor
    """[S]: inverse variances."""
    nod: Tensor
    """Inverse variance of how far heads look up or down towards the camera, as a sine."""


def head_prior(head: LinearHeadModel) -> Prior:
    """The prior of a head model, on its device and in its precision.

    Heads with ARKit's names move as the people of synthetic portraits do: their second moments about rest, so that a still face is the
    most likely one, with a floor for what people do beside. Other heads have coefficients in standard deviations.
    """
    return _head_prior(head, head.template.device, head.template.dtype)


@lru_cache(maxsize=4)
def _head_prior(head: LinearHeadModel, device: torch.device, dtype: torch.dtype) -> Prior:
    names = head.expression_names
    named = "mouthSmileLeft" in names
    spread = torch.diag(torch.tensor(_hinge_variances())) if not named else _sampled_moments(head)
    if not named:
        spread = torch.block_diag(torch.eye(len(names)), spread)
    low, high = torch.full((len(names),), -3.0), torch.full((len(names),), 3.0)
    if named:
        low, high = torch.zeros(len(names)), torch.ones(len(names))
        high[[names.index(name) for name in STILL if name in names]] = 0
    limits = [JOINT_LIMITS[joint][axis] for joint in (Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE) for axis in (0, 1)]
    lowest, highest = torch.tensor(limits).unbind(dim=1)
    prior = Prior(
        motion=torch.linalg.inv(spread.double()).to(dtype),
        low=torch.cat([low, lowest]).to(dtype),
        high=torch.cat([high, highest]).to(dtype),
        shape=torch.ones(len(head.shape_names), dtype=dtype),
        nod=torch.tensor(_ALIKE * _NOD_SPREAD**-2, dtype=dtype),
    )
    return prior.to(device)


def _hinge_variances() -> list[float]:
    jaw, side, gaze = _JAW_SPREAD**2, _SIDE_SPREAD**2, _GAZE_SPREAD**2
    return [jaw, side, gaze, gaze, gaze, gaze]


def _sampled_moments(head: HeadModel) -> Tensor:
    """[M, M]: second moments of the motions of synthetic portraits."""
    from next3d.synthetic.sampling import sample_params

    params = sample_params(head, torch.Generator().manual_seed(0), _SAMPLES)
    pose = params.pose[:, [Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE], :2].flatten(1)
    motion = torch.cat([params.expression, pose], dim=1).double()
    moments = motion.T @ motion / len(motion)
    floor = torch.full((len(head.expression_names),), _LEAST_SPREAD**2)
    for name, value in _SPREADS.items():
        if name in head.expression_names:
            floor[head.expression_names.index(name)] = value**2
    angles = torch.full((ANGLES,), _SIDE_SPREAD**2)
    return moments + torch.diag(torch.cat([floor, angles])).double()
