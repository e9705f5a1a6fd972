"""Displacement fields of the default head, the common vocabulary of shapes and expressions. Unit and frame as in sculpt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from next3d.head.half import smoothstep
from next3d.head.sculpt import Array

Field = Callable[[Array], Array]
"""Positions [M, 3] of the left half to displacements [M, 3], cm."""
Triple = tuple[float, float, float]


def bump(v: Array, center: Triple, radii: Triple) -> Array:
    """A smooth weight [M], 1 at the centre."""
    q = (v - np.asarray(center)) / np.asarray(radii)
    return np.exp(-(q * q).sum(1))


def along(weight: Array, direction: Triple) -> Array:
    """A weight [M] times one direction: [M, 3]."""
    return weight[:, None] * np.asarray(direction)


def scale(v: Array, weight: Array, center: Triple, factors: Triple) -> Array:
    """Growth about a centre by weighted factors per axis: [M, 3]."""
    return weight[:, None] * (v - np.asarray(center)) * np.asarray(factors)


def ridge(v: Array, start: Triple, end: Triple, width: float) -> Array:
    """A smooth weight [M] around a straight line, 1 on it; width is where it has fallen to 1/e, cm."""
    a, axis = np.asarray(start), np.asarray(end) - np.asarray(start)
    share = np.clip((v - a) @ axis / (axis @ axis), 0, 1)
    offset = v - a - share[:, None] * axis
    return np.exp(-(offset * offset).sum(1) / width**2)


def face_part(v: Array) -> Array:
    """1 on the head, fading to 0 down the neck."""
    return smoothstep(-16.0, -10.0, v[:, 1] + 0.25 * np.minimum(v[:, 2] + 3, 0))
