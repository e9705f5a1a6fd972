"""Shape directions of the default head: who it is. One is about one standard deviation; all are symmetric.

A shape is a function of position, so that joints move with the surface around them; eyeballs are moved and scaled as a whole.
Shapes of the lids alone (LID_SHAPES) are written on the left half's rings of vertices. `procedural` mirrors all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from next3d.head.chart import EYE_STEPS
from next3d.head.expressions import BLINK, lids
from next3d.head.fields import Field, along, bump, face_part, ridge, scale
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
    "lip_fullness": lambda v: along(_lips_away_from_line(v), (0, 0.2, 0)) + along(bump(v, (0, -6.85, 2.6), (2.4, 0.8, 1.4)), (0, 0, 0.1)),
    "mouth_width": lambda v: scale(v, bump(v, (0, -6.8, 2.0), (3.4, 1.5, 2.6)), (0, 0, 0), (0.085, 0, 0)),
    "mouth_height": lambda v: along(bump(v, (0, -6.8, 2.0), (3.4, 1.9, 3.0)), (0, 0.14, 0)),
    "mouth_protrusion": lambda v: along(bump(v, (0, -6.6, 2.2), (2.8, 1.9, 2.6)), (0, 0, 0.14)),
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
    # The face as a whole.
    "midface_length": lambda v: along(smoothstep(-0.8, -5.0, v[:, 1]) * smoothstep(-10, -3, v[:, 2]) * face_part(v), (0, -0.11, 0)),
    "face_depth": lambda v: along(smoothstep(-6.0, 3.0, v[:, 2]) * face_part(v) * smoothstep(9.0, 4.0, v[:, 1]), (0, 0, 0.16)),
    "profile": lambda v: along(bump(v, (0, -4.6, 2.5), (4.5, 3.4, 4.0)), (0, 0, 0.14)),
    "face_taper": lambda v: scale(
        v, np.clip((v[:, 1] + 2.5) / 8.0, -1, 1) * face_part(v) * smoothstep(-9, -2, v[:, 2]), (0, 0, 0), (0.04, 0, 0)
    ),
    "temple_width": lambda v: along(bump(v, (6.2, 2.2, -2.2), (2.2, 2.6, 3.2)), (0.2, 0, 0)),
    # Jaw and chin.
    "jaw_projection": lambda v: along(smoothstep(-6.2, -8.4, v[:, 1]) * smoothstep(-6.0, 0.0, v[:, 2]) * face_part(v), (0, 0, 0.18)),
    "jaw_slope": lambda v: along(bump(v, (4.4, -8.8, -2.0), (2.8, 2.0, 3.2)), (0, -0.26, 0)),
    "jowls": lambda v: along(bump(v, (3.6, -9.0, -0.2), (1.5, 1.4, 1.8)), (0.12, -0.2, 0.08)),
    "double_chin": lambda v: along(bump(v, (0, -11.6, -2.4), (3.4, 1.6, 2.6)), (0, -0.3, 0.08)),
    "chin_cleft": lambda v: along(bump(v, (0, -10.0, 2.2), (0.45, 0.9, 2.0)), (0, 0, -0.12)),
    "chin_fold": lambda v: along(bump(v, (0, -8.55, 2.0), (2.0, 0.55, 1.6)), (0, 0, -0.16)),
    # Cheeks.
    "cheek_hollow": lambda v: along(bump(v, (4.6, -5.4, -0.6), (1.6, 1.8, 2.4)), (-0.22, 0, -0.12)),
    "cheek_height": lambda v: along(bump(v, (4.4, -2.8, 0.0), (2.0, 1.8, 2.6)), (0.02, 0.18, 0.02)),
    "nasolabial_fold": lambda v: (
        along(ridge(v, (2.0, -4.2, 2.0), (3.0, -6.6, 1.3), 0.42), (0, 0, -0.14))
        + along(ridge(v, (2.8, -4.0, 1.6), (3.8, -6.2, 0.8), 0.7), (0.03, -0.03, 0.1))
    ),
    # Nose.
    "nose_hump": lambda v: along(bump(v, (0, -1.7, 2.9), (0.8, 0.9, 1.4)), (0, 0, 0.14)),
    "nose_root": lambda v: along(bump(v, (0, 0.5, 1.8), (0.9, 0.8, 1.4)), (0, 0, 0.16)),
    "nose_tip_width": lambda v: scale(v, bump(v, (0, -3.6, 3.8), (1.3, 0.9, 1.0)), (0, 0, 0), (0.14, 0, 0)),
    "nostril_flare": lambda v: along(bump(v, (1.5, -4.1, 2.4), (0.7, 0.8, 1.1)), (0.11, 0.03, 0)),
    "nose_wing_height": lambda v: along(bump(v, (1.3, -4.1, 2.5), (0.8, 0.7, 1.1)), (0, 0.13, 0)),
    "columella": lambda v: along(bump(v, (0, -4.5, 3.1), (0.5, 0.6, 1.0)), (0, -0.13, 0.02)),
    # Around the eyes.
    "eye_bags": lambda v: along(bump(v, (3.1, -1.45, 1.4), (1.5, 0.45, 1.2)), (0, -0.03, 0.12)),
    "socket_depth": lambda v: along(bump(v, (1.9, 0.8, 1.2), (1.2, 0.8, 1.4)) + bump(v, (3.6, 1.0, 1.0), (1.3, 0.6, 1.4)), (0, 0, -0.09)),
    "brow_angle": lambda v: along(np.clip((v[:, 0] - 2.9) / 1.5, -1, 1) * bump(v, (3.0, 2.0, 1.0), (3.0, 1.0, 2.0)), (0, 0.16, 0)),
    "brow_distance": lambda v: along(bump(v, (2.2, 2.0, 1.4), (1.6, 0.9, 2.0)), (0.16, 0, 0)),
    # Mouth.
    "upper_lip_fullness": lambda v: _one_lip(v, upper=True),
    "lower_lip_fullness": lambda v: _one_lip(v, upper=False),
    "cupid_bow": lambda v: (
        along(bump(v, (0.5, -6.05, 2.6), (0.35, 0.4, 1.0)), (0, 0.09, 0.02))
        + along(bump(v, (0, -6.1, 2.6), (0.25, 0.35, 1.0)), (0, -0.08, 0))
    ),
    "philtrum_length": lambda v: (
        along(bump(v, (0, -6.6, 2.4), (2.9, 1.3, 3.0)), (0, -0.09, 0)) + along(bump(v, (0, -4.5, 3.0), (1.8, 0.9, 2.4)), (0, 0.09, 0))
    ),
    "philtrum_depth": lambda v: along(bump(v, (0, -5.4, 2.8), (0.32, 0.7, 1.2)), (0, 0, -0.08)),
    "mouth_corners": lambda v: along(bump(v, (2.5, -6.9, 1.6), (1.0, 0.8, 1.8)), (0, 0.12, 0)),
    # Ears, skull, neck.
    "ear_length": lambda v: scale(v, _ear(v), (0, -1.7, 0), (0, 0.08, 0)),
    "ear_height": lambda v: along(_ear(v), (0, 0.22, 0)),
    "ear_lobes": lambda v: along(bump(v, (7.8, -5.2, -8.8), (1.6, 1.5, 1.6)), (0.05, -0.3, 0)),
    "forehead_bulge": lambda v: along(bump(v, (0, 4.8, 1.0), (4.6, 2.6, 3.6)), (0, 0, 0.24)),
    "forehead_width": lambda v: along(bump(v, (5.0, 4.6, -1.2), (2.6, 2.8, 3.6)), (0.22, 0, 0)),
    "occiput": lambda v: along(bump(v, (0, 1.0, -16.5), (5.5, 4.5, 4.5)), (0, 0, -0.4)),
    "larynx": lambda v: along(bump(v, (0, -14.2, -4.6), (1.0, 1.3, 2.0)), (0, 0, 0.22)),
    "shoulder_slope": lambda v: along(smoothstep(4.0, 11.0, v[:, 0]) * smoothstep(-13.0, -17.0, v[:, 1]), (0, -0.6, 0)),
}
"""Named fields of single features. SHAPES also blends them into directions of the whole person; see BLENDS."""

BLENDS: dict[str, dict[str, float]] = {
    "age": {
        "jowls": 0.8, "nasolabial_fold": 1.0, "eye_bags": 0.9, "cheek_hollow": 0.5, "lip_fullness": -0.6, "nose_length": 0.5,
        "nose_tip_up": -0.5, "ear_length": 0.6, "ear_lobes": 0.7, "brow_height": -0.5, "mouth_corners": -0.6, "socket_depth": 0.6,
        "philtrum_length": 0.5, "double_chin": 0.4,
    },
    "childlike": {
        "midface_length": -0.8, "face_length": -0.5, "eye_size": 0.9, "nose_projection": -0.6, "nose_bridge": -0.8, "nose_tip_up": 0.6,
        "forehead_bulge": 0.8, "brow_ridge": -0.7, "cheek_fullness": 0.7, "jaw_width": -0.5, "chin_projection": -0.5, "neck_width": -0.8,
    },
    "masculine": {
        "brow_ridge": 0.8, "jaw_width": 0.7, "jaw_slope": 0.5, "chin_width": 0.7, "chin_length": 0.5, "brow_height": -0.6,
        "lip_fullness": -0.4, "nose_projection": 0.5, "nose_width": 0.5, "neck_width": 0.9, "larynx": 0.9, "cheekbones": -0.2,
        "forehead_slope": 0.4, "eye_size": -0.4,
    },
    "weight": {
        "cheek_fullness": 1.0, "double_chin": 1.0, "jowls": 0.5, "neck_width": 0.8, "face_width": 0.5, "cheek_hollow": -0.5,
        "jaw_width": 0.4,
    },
}  # fmt: skip
"""Directions of the whole person as sums of the others: age-like, child-like and sex-like proportions, weight."""


BLEND_STRENGTH = 0.6
"""Scales all of BLENDS: their parts vary on their own as well."""


def _one_lip(v: Array, *, upper: bool) -> Array:
    """One lip's red grows away from the line where the lips meet, and forward."""
    side = v[:, 1] - mouth_line(v[:, 0])
    own = smoothstep(-0.05, 0.05, side if upper else -side)
    center = (0.0, -6.45, 2.6) if upper else (0.0, -7.25, 2.6)
    outwards = along(_lips_away_from_line(v) * own, (0, 0.15, 0))
    return outwards + along(own * np.minimum(np.abs(side) / 0.3, 1.0) * bump(v, center, (2.2, 0.6, 1.4)), (0, 0, 0.09))


def _ear(v: Array) -> Array:
    """1 on the ear, 0 where it is attached."""
    return smoothstep(0.2, 0.9, bump(v, (8.2, -1.7, -9.6), (1.6, 5, 3.2)))


LID_SHAPES: dict[str, Callable[[HalfHead], Array]] = {
    "lid_height": lambda half: _both_lids(half, 0.045),
    "lid_slant": lambda half: _both_lids(half, 0.13) * (((half.vertices + lids(half, *BLINK))[:, :1] - EYE_CENTER[0]) / 1.3),
    "lid_fold": lambda half: _lid_fold(half),
}
"""What the lids alone do, with the eyeball where it is. Both margins go the same way: a blink must still just shut them."""


def _both_lids(half: HalfHead, share: float) -> Array:
    """Both lids turned upwards by a share of the opening, as they would be if they were shut: they still meet when they shut."""
    upper, lower = BLINK
    return lids(half, upper - share, lower + share) - lids(half, upper, lower)


def _lid_fold(half: HalfHead) -> Array:
    """The skin over the upper lid hangs lower, or is tighter."""
    moved = np.zeros_like(half.vertices)
    above = np.maximum(np.sin(np.pi * np.arange(2 * EYE_STEPS) / EYE_STEPS), 0) ** 0.7
    for ring, share in ((3, 0.5), (4, 1.0), (5, 0.9), (6, 0.4)):
        moved[half.flat.eye_rings[ring]] = share * above[:, None] * np.array([0.0, -0.05, 0.045])
    return moved


def blend(name: str) -> Field:
    """The field of a direction in BLENDS."""
    parts = [(SHAPES[part], BLEND_STRENGTH * share) for part, share in BLENDS[name].items()]
    return lambda v: np.sum([share * field(v) for field, share in parts], axis=0)


SHAPE_NAMES = (*SHAPES, *BLENDS, *LID_SHAPES)
"""All shape directions, in the order of HeadParams.shape."""


def shape_displacement(half: HalfHead, field: Field) -> Array:
    """A shape field on the half's vertices [n, 3].

    Lids must stay on their eyeball, so around it the field is replaced by its closest similarity: both move and grow together,
    and the lids also turn. Lids move as they would if they were shut: a blink, which is the same for everybody, then shuts
    them for everybody, whatever the size of their eyes; it is the way to go that must not grow.
    """
    ball = half.piece == Piece.EYEBALL
    hold = np.zeros(len(half.vertices))
    for ring, weight in zip(half.flat.eye_rings, (1.0, 1.0, 1.0, 0.85, 0.55, 0.28, 0.08), strict=True):
        hold[ring] = weight
    hold[half.lid_margin] = 1.0
    hold[ball] = 1.0
    shift, growth, turn = _similarity(field)
    offset = half.vertices + lids(half, *BLINK) - EYE_CENTER
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
