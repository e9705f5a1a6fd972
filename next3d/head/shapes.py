"""Shape directions of the default head: who it is. One is about one standard deviation; all are symmetric.

A shape is a function of position, so that joints move with the surface around them; eyeballs are moved and scaled as a whole.
Shapes of the lids alone (LID_SHAPES) are written on the left half's rings of vertices. `procedural` mirrors all of them.
"""

from __future__ import annotations

import numpy as np

from next3d.head.fields import Field, along, bump, face_part, scale
from next3d.head.half import HalfHead, Piece, smoothstep
from next3d.head.sculpt import EYE_CENTER, Array, mouth_line


def _lips_away_from_line(v: Array) -> Array:
    """Signed distance from the line where the lips meet, limited to the lips."""
    d = v[:, 1] - mouth_line(v[:, 0])
    return d * np.exp(-((d / 1.1) ** 2)) * smoothstep(3.0, 1.5, v[:, 0]) * smoothstep(-0.5, 1.2, v[:, 2])


NOSE_TIP = (0.0, -3.6, 4.0)
_TILT = 0.055 * np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
"""Turns row vectors counter-clockwise about z: the left eye's outer corner rises."""

SHAPES: dict[str, Field] = {
    "face_width": lambda v: scale(v, face_part(v), (0, 0, 0), (0.035, 0, 0)),
    "face_length": lambda v: along(smoothstep(-0.5, -11.0, v[:, 1]) * smoothstep(-10, -3, v[:, 2]), (0, -0.42, 0)),
    "jaw_width": lambda v: scale(v, bump(v, (4.2, -8.0, -3.0), (6.0, 3.2, 5.0)), (0, 0, 0), (0.05, 0, 0)),
    "jaw_angle": lambda v: along(bump(v, (5.2, -7.0, -5.5), (2.6, 2.4, 3.2)), (0.06, -0.2, 0)),
    "chin_length": lambda v: along(bump(v, (0, -11.0, 0.5), (3.8, 2.3, 3.8)), (0, -0.3, 0)),
    "chin_projection": lambda v: along(bump(v, (0, -10.2, 1.5), (3.0, 2.0, 3.0)), (0, 0, 0.3)),
    "chin_width": lambda v: scale(v, bump(v, (0, -10.3, 1.0), (3.4, 1.7, 3.0)), (0, 0, 0), (0.12, 0, 0)),
    "cheek_fullness": lambda v: along(bump(v, (3.9, -5.2, -0.2), (2.1, 2.4, 2.8)), (0.2, 0, 0.17)),
    "cheekbones": lambda v: along(bump(v, (5.0, -2.4, -0.8), (1.9, 1.3, 2.6)), (0.22, 0.05, 0.16)),
    "nose_length": lambda v: along(bump(v, (0, -4.2, 3.2), (1.8, 2.0, 2.4)), (0, -0.22, 0.03)),
    "nose_width": lambda v: scale(v, bump(v, (0, -3.9, 2.8), (2.3, 1.5, 2.0)), (0, 0, 0), (0.13, 0, 0)),
    "nose_projection": lambda v: along(bump(v, (0, -3.3, 3.8), (1.2, 1.7, 1.6)), (0, 0, 0.24)),
    "nose_bridge": lambda v: along(bump(v, (0, -0.7, 2.2), (1.0, 1.5, 1.6)), (0, 0, 0.2)),
    "nose_bridge_width": lambda v: scale(v, bump(v, (0, -1.2, 2.2), (1.3, 1.8, 1.6)), (0, 0, 0), (0.12, 0, 0)),
    "nose_tip_up": lambda v: along(bump(v, NOSE_TIP, (1.0, 1.0, 1.2)), (0, 0.2, 0.04)),
    "eye_size": lambda v: 0.05 * (v - EYE_CENTER) * bump(v, tuple(EYE_CENTER), (2.6, 2.0, 2.2))[:, None],
    "eye_distance": lambda v: along(bump(v, (3.15, 0, 0), (2.6, 1.8, 2.6)), (0.13, 0, 0)),
    "eye_tilt": lambda v: bump(v, (3.15, 0, 0), (1.9, 1.4, 2.4))[:, None] * ((v - EYE_CENTER) @ _TILT),
    "eye_height": lambda v: along(bump(v, (3.15, 0, 0), (3.0, 1.9, 2.6)), (0, 0.12, 0)),
    "eye_depth": lambda v: along(bump(v, (3.15, 0, 0), (2.2, 1.4, 3.0)), (0, 0, -0.1)),
    "brow_height": lambda v: along(bump(v, (3.0, 2.0, 1.0), (3.4, 1.0, 2.0)), (0, 0.16, 0)),
    "brow_ridge": lambda v: along(bump(v, (2.4, 1.8, 1.6), (2.8, 0.9, 1.6)), (0, 0, 0.2)),
    "forehead_slope": lambda v: along(smoothstep(2.0, 7.5, v[:, 1]) * smoothstep(-6, 1, v[:, 2]), (0, 0, -0.4)),
    "lip_fullness": lambda v: along(_lips_away_from_line(v), (0, 0.24, 0)) + along(bump(v, (0, -6.85, 2.6), (2.4, 0.8, 1.4)), (0, 0, 0.12)),
    "mouth_width": lambda v: scale(v, bump(v, (0, -6.8, 2.0), (3.4, 1.5, 2.6)), (0, 0, 0), (0.085, 0, 0)),
    "mouth_height": lambda v: along(bump(v, (0, -6.8, 2.0), (3.4, 1.9, 3.0)), (0, 0.17, 0)),
    "mouth_protrusion": lambda v: along(bump(v, (0, -6.6, 2.2), (2.8, 1.9, 2.6)), (0, 0, 0.18)),
    "ear_size": lambda v: (
        0.09 * (v - np.array([7.0, -1.7, -8.6])) * smoothstep(0.2, 0.9, bump(v, (8.2, -1.7, -9.6), (1.6, 5, 3.2)))[:, None]
    ),
    "ear_angle": lambda v: along(
        np.clip(-9.0 - v[:, 2], 0, 3) * smoothstep(0.1, 0.8, bump(v, (8.6, -1.7, -10.4), (1.5, 5, 2.6))), (0.16, 0, 0)
    ),
    "skull_height": lambda v: along(smoothstep(3.0, 11.0, v[:, 1]), (0, 0.5, 0)),
    "skull_length": lambda v: along(smoothstep(-7.0, -16.0, v[:, 2]) * smoothstep(-14, -5, v[:, 1]), (0, 0, -0.6)),
    "skull_width": lambda v: scale(v, smoothstep(0.0, 6.0, v[:, 1]) * smoothstep(2.0, -5.0, v[:, 2]), (0, 0, 0), (0.03, 0, 0)),
    "neck_width": lambda v: scale(v, smoothstep(-9.0, -14.0, v[:, 1]), (0, 0, -8.0), (0.06, 0, 0.05)),
}


def shape_displacement(half: HalfHead, field: Field) -> Array:
    """A shape field on the half's vertices [n, 3].

    Lids must stay on their eyeball, so around it the field is replaced by its closest similarity: both move and grow together,
    and the lids also turn.
    """
    ball = half.piece == Piece.EYEBALL
    hold = np.zeros(len(half.vertices))
    for ring, weight in zip(half.flat.eye_rings, (1.0, 1.0, 0.95, 0.8, 0.55, 0.28, 0.08), strict=True):
        hold[ring] = weight
    hold[half.lid_margin] = 1.0
    hold[ball] = 1.0
    shift, growth, turn = _similarity(field)
    offset = half.vertices - EYE_CENTER
    similar = shift + growth * offset + np.where(ball[:, None], 0.0, offset @ turn.T)
    moved = field(half.vertices) * (1 - hold[:, None]) + similar * hold[:, None]
    moved[half.vertices[:, 0] == 0, 0] = 0.0
    return moved


def _similarity(field: Field) -> tuple[Array, float, Array]:
    """What a field does to the eye as a whole: shift [3], relative growth, infinitesimal rotation [3, 3]."""
    step = 0.01
    ahead, behind = field(EYE_CENTER + step * np.eye(3)), field(EYE_CENTER - step * np.eye(3))
    jacobian = (ahead - behind).T / (2 * step)  # column: direction of the step
    return field(EYE_CENTER[None])[0], float(np.trace(jacobian)) / 3, 0.5 * (jacobian - jacobian.T)
