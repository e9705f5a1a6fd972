"""Scalar fields on the neutral head that say where cheeks flush, beards grow, brows and lids run.

Distances to lines are stored rather than masks: they interpolate well over triangles, so that a brow's edge is sharp at any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from next3d.synthetic.skull import hairline

_HAIRLINE_STEPS = 64


@dataclass(frozen=True)
class SkinFields:
    """At P points; world units of the neutral head unless said otherwise."""

    across: Tensor
    """[P]: x."""
    up: Tensor
    """[P]: y."""
    lips: Tensor
    """In [0, 1]."""
    flush: Tensor
    """Blood near the surface: cheeks, nose, chin, ears; about [0, 1]."""
    nose: Tensor
    """1 on the tip of the nose, fading over the middle of the face."""
    freckles: Tensor
    """1 on the bridge of the nose, fading over the cheeks."""
    nostrils: Tensor
    """1 in them."""
    beard: Tensor
    """1 where beards grow."""
    hairline: Tensor
    """Radians above the hairline, seen from the skull's middle."""
    brow: Tensor
    """Height above the middle of the brow."""
    brow_place: Tensor
    """0 at the brow's inner end, 1 at its outer one; far outside away from brows."""
    lids: Tensor
    """1 around the eyes."""
    above_lid: Tensor
    """Height above the edge of the upper lid."""
    below_lid: Tensor
    """Distance below the edge of the lower lid."""

    def columns(self) -> Tensor:
        """All fields as [P, K]."""
        return torch.stack(list(vars(self).values()), dim=1)

    @classmethod
    def from_columns(cls, columns: Tensor) -> SkinFields:
        """The inverse of `columns`."""
        return cls(*columns.unbind(dim=1))


def smooth(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high` (or the other way round if low > high), smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def measure_skin(template: Tensor, landmarks: Tensor, lips: Tensor, eye: Tensor, skull_middle: Tensor) -> SkinFields:
    """Fields of a neutral head.

    Args:
        template: [V, 3].
        landmarks: [68, 3].
        lips: [V] bool.
        eye: [3], centre of the left eyeball.
        skull_middle: [3].
    """
    x, y, z = template[:, 0].abs(), template[:, 1], template[:, 2]
    brow, upper, lower = landmarks[22:27], landmarks[42:46], landmarks[[42, 47, 46, 45]]
    first, last = float(upper[:, 0].min()), float(upper[:, 0].max())
    facing = smooth(z, float(eye[2]) - 0.02, float(eye[2]))
    place = (x - brow[:, 0].min()) / (brow[:, 0].max() - brow[:, 0].min())
    return SkinFields(
        across=template[:, 0],
        up=y,
        lips=lips.float(),
        flush=_flush(template, landmarks),
        nose=_near(template, landmarks[30], 0.10),
        freckles=_near(template, landmarks[29], 0.16),
        nostrils=_near(template, landmarks[34] + torch.tensor([0.0, 0.004, 0.0]), 0.017),
        beard=_beard(template, landmarks),
        hairline=_above_hairline(template - skull_middle),
        brow=y - _height(brow, x),
        brow_place=torch.where(facing > 0.5, place, 3.0),
        lids=smooth(x, first - 0.010, first + 0.004) * smooth(x, last + 0.014, last - 0.002) * facing,
        above_lid=y - _height(upper, x),
        below_lid=_height(lower, x) - y,
    )


def _height(line: Tensor, x: Tensor) -> Tensor:
    """Height of a polyline [K, 3] of the left half at x >= 0, constant beyond its ends."""
    ordered = line[line[:, 0].argsort()].double().numpy()
    return torch.from_numpy(np.interp(x.double().numpy(), ordered[:, 0], ordered[:, 1])).float()


def _near(template: Tensor, center: Tensor, radius: float) -> Tensor:
    """A soft ball around a point and its mirror image."""
    offset = torch.cat([template[:, :1].abs(), template[:, 1:]], dim=1) - torch.cat([center[:1].abs(), center[1:]])
    return torch.exp(-(offset**2).sum(dim=1) / (2 * (radius / 2) ** 2))


def _flush(template: Tensor, landmarks: Tensor) -> Tensor:
    cheek = 0.5 * (landmarks[46] + landmarks[54]) + torch.tensor([0.035, 0.0, -0.01])
    ear = smooth(template[:, 0].abs(), float(landmarks[16, 0]) + 0.01, float(landmarks[16, 0]) + 0.03)
    nose, chin = _near(template, landmarks[30], 0.06), _near(template, landmarks[8], 0.07)
    return 0.9 * _near(template, cheek, 0.12) + 0.6 * nose + 0.35 * chin + 0.5 * ear


def _beard(template: Tensor, landmarks: Tensor) -> Tensor:
    """Below a line from the ear's foot to the mouth's corner and up to the nose, as far as the jaw's underside."""
    x, y, z = template[:, 0].abs(), template[:, 1], template[:, 2]
    corner, jaw, chin = landmarks[54], landmarks[15], float(landmarks[8, 1])
    inner = float(corner[0]) * 1.1
    across = ((x - inner) / (float(jaw[0]) - inner)).clamp(0, 1)
    top = landmarks[33, 1] - 0.012 - 0.020 * smooth(x, 0.0, float(corner[0]))
    line = top + (jaw[1] + 0.02 - top) * across**1.6
    covered = smooth(line - y, -0.008, 0.022) * smooth(y, chin - 0.075, chin - 0.025)
    return covered * smooth(z, float(jaw[2]) - 0.05, float(jaw[2]))


def _above_hairline(offset: Tensor) -> Tensor:
    azimuth = torch.atan2(offset[:, 0], offset[:, 2]).double().numpy()
    elevation = torch.atan2(offset[:, 1], offset[:, [0, 2]].norm(dim=1))
    return elevation - torch.from_numpy(hairline(azimuth)).float()
