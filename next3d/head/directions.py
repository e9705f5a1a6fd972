"""Shape and expression directions of the default head, as displacement fields written by formula.

Fields act on the left half (see half.HalfHead, cm); `procedural` mirrors them. A shape field is a function of position, so that
joints move with the surface around them; eyeballs are moved and scaled as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from next3d.head.chart import EYE_STEPS, lip_height
from next3d.head.half import HalfHead, Piece, smoothstep
from next3d.head.sculpt import EYE_CENTER, EYE_RADIUS, LID_THICKNESS, MOUTH_HALF_WIDTH, Array, mouth_line

Field = Callable[[Array], Array]


def bump(v: Array, center: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
    """A smooth weight [M], 1 at the centre."""
    q = (v - np.asarray(center)) / np.asarray(radii)
    return np.exp(-(q * q).sum(1))


def _along(weight: Array, direction: tuple[float, float, float]) -> Array:
    return weight[:, None] * np.asarray(direction)


def _scale(v: Array, weight: Array, center: tuple[float, float, float], factors: tuple[float, float, float]) -> Array:
    return weight[:, None] * (v - np.asarray(center)) * np.asarray(factors)


def _face_part(v: Array) -> Array:
    """1 on the head, fading to 0 down the neck."""
    return smoothstep(-16.0, -10.0, v[:, 1] + 0.25 * np.minimum(v[:, 2] + 3, 0))


def _lips_away_from_line(v: Array) -> Array:
    """Signed distance from the line where the lips meet, limited to the lips."""
    d = v[:, 1] - mouth_line(v[:, 0])
    return d * np.exp(-((d / 1.1) ** 2)) * smoothstep(3.0, 1.5, v[:, 0]) * smoothstep(-0.5, 1.2, v[:, 2])


NOSE_TIP = (0.0, -3.6, 4.0)
_TILT = 0.055 * np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
"""Turns row vectors counter-clockwise about z: the left eye's outer corner rises."""

SHAPES: dict[str, Field] = {
    "face_width": lambda v: _scale(v, _face_part(v), (0, 0, 0), (0.035, 0, 0)),
    "face_length": lambda v: _along(smoothstep(-0.5, -11.0, v[:, 1]) * smoothstep(-10, -3, v[:, 2]), (0, -0.42, 0)),
    "jaw_width": lambda v: _scale(v, bump(v, (4.2, -8.0, -3.0), (6.0, 3.2, 5.0)), (0, 0, 0), (0.05, 0, 0)),
    "jaw_angle": lambda v: _along(bump(v, (5.2, -7.0, -5.5), (2.6, 2.4, 3.2)), (0.06, -0.2, 0)),
    "chin_length": lambda v: _along(bump(v, (0, -11.0, 0.5), (3.8, 2.3, 3.8)), (0, -0.3, 0)),
    "chin_projection": lambda v: _along(bump(v, (0, -10.2, 1.5), (3.0, 2.0, 3.0)), (0, 0, 0.3)),
    "chin_width": lambda v: _scale(v, bump(v, (0, -10.3, 1.0), (3.4, 1.7, 3.0)), (0, 0, 0), (0.12, 0, 0)),
    "cheek_fullness": lambda v: _along(bump(v, (3.9, -5.2, -0.2), (2.1, 2.4, 2.8)), (0.2, 0, 0.17)),
    "cheekbones": lambda v: _along(bump(v, (5.0, -2.4, -0.8), (1.9, 1.3, 2.6)), (0.22, 0.05, 0.16)),
    "nose_length": lambda v: _along(bump(v, (0, -4.2, 3.2), (1.8, 2.0, 2.4)), (0, -0.22, 0.03)),
    "nose_width": lambda v: _scale(v, bump(v, (0, -3.9, 2.8), (2.3, 1.5, 2.0)), (0, 0, 0), (0.13, 0, 0)),
    "nose_projection": lambda v: _along(bump(v, (0, -3.3, 3.8), (1.2, 1.7, 1.6)), (0, 0, 0.24)),
    "nose_bridge": lambda v: _along(bump(v, (0, -0.7, 2.2), (1.0, 1.5, 1.6)), (0, 0, 0.2)),
    "nose_bridge_width": lambda v: _scale(v, bump(v, (0, -1.2, 2.2), (1.3, 1.8, 1.6)), (0, 0, 0), (0.12, 0, 0)),
    "nose_tip_up": lambda v: _along(bump(v, NOSE_TIP, (1.0, 1.0, 1.2)), (0, 0.2, 0.04)),
    "eye_size": lambda v: 0.05 * (v - EYE_CENTER) * bump(v, tuple(EYE_CENTER), (2.6, 2.0, 2.2))[:, None],
    "eye_distance": lambda v: _along(bump(v, (3.15, 0, 0), (2.6, 1.8, 2.6)), (0.13, 0, 0)),
    "eye_tilt": lambda v: bump(v, (3.15, 0, 0), (1.9, 1.4, 2.4))[:, None] * ((v - EYE_CENTER) @ _TILT),
    "eye_height": lambda v: _along(bump(v, (3.15, 0, 0), (3.0, 1.9, 2.6)), (0, 0.12, 0)),
    "eye_depth": lambda v: _along(bump(v, (3.15, 0, 0), (2.2, 1.4, 3.0)), (0, 0, -0.1)),
    "brow_height": lambda v: _along(bump(v, (3.0, 2.0, 1.0), (3.4, 1.0, 2.0)), (0, 0.16, 0)),
    "brow_ridge": lambda v: _along(bump(v, (2.4, 1.8, 1.6), (2.8, 0.9, 1.6)), (0, 0, 0.2)),
    "forehead_slope": lambda v: _along(smoothstep(2.0, 7.5, v[:, 1]) * smoothstep(-6, 1, v[:, 2]), (0, 0, -0.4)),
    "lip_fullness": lambda v: (
        _along(_lips_away_from_line(v), (0, 0.24, 0)) + _along(bump(v, (0, -6.85, 2.6), (2.4, 0.8, 1.4)), (0, 0, 0.12))
    ),
    "mouth_width": lambda v: _scale(v, bump(v, (0, -6.8, 2.0), (3.4, 1.5, 2.6)), (0, 0, 0), (0.085, 0, 0)),
    "mouth_height": lambda v: _along(bump(v, (0, -6.8, 2.0), (3.4, 1.9, 3.0)), (0, 0.17, 0)),
    "mouth_protrusion": lambda v: _along(bump(v, (0, -6.6, 2.2), (2.8, 1.9, 2.6)), (0, 0, 0.18)),
    "ear_size": lambda v: (
        0.09 * (v - np.array([7.0, -1.7, -8.6])) * smoothstep(0.2, 0.9, bump(v, (8.2, -1.7, -9.6), (1.6, 5, 3.2)))[:, None]
    ),
    "ear_angle": lambda v: _along(
        np.clip(-9.0 - v[:, 2], 0, 3) * smoothstep(0.1, 0.8, bump(v, (8.6, -1.7, -10.4), (1.5, 5, 2.6))), (0.16, 0, 0)
    ),
    "skull_height": lambda v: _along(smoothstep(3.0, 11.0, v[:, 1]), (0, 0.5, 0)),
    "skull_length": lambda v: _along(smoothstep(-7.0, -16.0, v[:, 2]) * smoothstep(-14, -5, v[:, 1]), (0, 0, -0.6)),
    "skull_width": lambda v: _scale(v, smoothstep(0.0, 6.0, v[:, 1]) * smoothstep(2.0, -5.0, v[:, 2]), (0, 0, 0), (0.03, 0, 0)),
    "neck_width": lambda v: _scale(v, smoothstep(-9.0, -14.0, v[:, 1]), (0, 0, -8.0), (0.06, 0, 0.05)),
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


@dataclass(frozen=True)
class Expression:
    """One field of the face's muscles; `side` says how it becomes directions."""

    name: str
    side: str
    """"both": one symmetric direction; "split": a left and a right one; "shift": towards +x (left) and -x (right)."""
    field: Callable[[HalfHead], Array]


def lids(half: HalfHead, upper: float, lower: float) -> Array:
    """Lids turned over the eyeball: the fraction of the opening that each margin travels towards the other."""
    moved = np.zeros_like(half.vertices)
    rings = half.flat.eye_rings
    offset = half.vertices[rings] - EYE_CENTER  # [rings, 2 * EYE_STEPS, 3]
    angle = np.arctan2(offset[..., 1], offset[..., 2])
    reach = np.hypot(offset[..., 1], offset[..., 2])
    top = np.arange(EYE_STEPS + 1)
    opposite = (-np.arange(2 * EYE_STEPS)) % (2 * EYE_STEPS)
    is_top = np.isin(np.arange(2 * EYE_STEPS), top)
    travel = np.where(is_top, upper, lower) * (angle[0][opposite] - angle[0])
    meet_x = 0.5 * (offset[0, :, 0] + offset[0][opposite, 0])
    closed_reach = np.maximum(reach[0], reach[0][opposite])
    for row, weight in zip(range(len(rings)), (1.0, 0.97, 0.9, 0.76, 0.52, 0.24, 0.05), strict=True):
        turned = angle[row] + weight * travel
        floor = np.sqrt(np.maximum((EYE_RADIUS + LID_THICKNESS) ** 2 - offset[row, :, 0] ** 2, 0.01))
        share = min(weight * abs(upper + lower), 1.0)
        radius = reach[row] + share * (np.maximum(closed_reach if row == 0 else reach[row], floor) - reach[row])
        target = EYE_CENTER + np.stack([offset[row, :, 0], radius * np.sin(turned), radius * np.cos(turned)], 1)
        if row == 0:
            target[:, 0] = EYE_CENTER[0] + meet_x
        moved[rings[row]] = target - half.vertices[rings[row]]
    inner = half.vertices[half.lid_margin] - EYE_CENTER
    inner_angle = np.arctan2(inner[:, 1], inner[:, 2]) + travel
    inner_reach = np.hypot(inner[:, 1], inner[:, 2])
    turned_inner = np.stack([inner[:, 0], inner_reach * np.sin(inner_angle), inner_reach * np.cos(inner_angle)], 1)
    moved[half.lid_margin] = turned_inner - inner
    return moved


def _soft(half: HalfHead, *, lips_only: float | None = None) -> Array:
    """Which vertices muscles may move: not eyeballs, teeth, tongue or ears; `lips_only` 0 / 1 picks the upper / lower half of the mouth."""
    rigid = (Piece.EYEBALL, Piece.EAR, Piece.UPPER_TEETH, Piece.LOWER_TEETH, Piece.TONGUE, Piece.LID_MARGIN)
    soft = (~np.isin(half.piece, rigid)).astype(np.float64)
    for ring, weight in zip(half.flat.eye_rings, (0.0, 0.0, 0.05, 0.15, 0.35, 0.6, 0.85), strict=True):
        soft[ring] = weight
    if lips_only is None:
        return soft
    return soft * (half.jaw if lips_only == 1 else 1 - half.jaw)


def _push(half: HalfHead, *pushes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]) -> Array:
    """Sum of bumps (centre, radii, direction) on the soft skin."""
    v, soft = half.vertices, _soft(half)
    return sum((_along(soft * bump(v, center, radii), direction) for center, radii, direction in pushes), np.zeros_like(v))


def _push_lip(
    half: HalfHead, lower: int, *pushes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
) -> Array:
    """As _push, on the upper (0) or lower (1) side of the mouth only."""
    v, soft = half.vertices, _soft(half, lips_only=float(lower))
    return sum((_along(soft * bump(v, center, radii), direction) for center, radii, direction in pushes), np.zeros_like(v))


def _jaw_shift(half: HalfHead, direction: tuple[float, float, float]) -> Array:
    return _along(half.jaw, direction)


def _gather(half: HalfHead, narrow: float, forward: float, part: float) -> Array:
    """Lips drawn together and forward; `part` moves them apart."""
    v = half.vertices
    weight = _soft(half) * bump(v, (0, -6.85, 2.2), (3.0, 1.7, 2.4))
    moved = _scale(v, weight, (0, 0, 0), (-narrow, 0, 0)) + _along(weight * bump(v, (0, -6.85, 2.6), (2.2, 1.5, 4.0)), (0, 0, forward))
    side = (1 - 2 * half.jaw) * smoothstep(2.5, 1.0, v[:, 0])
    return moved + _along(weight * bump(v, (0, -6.85, 2.2), (9, 1.1, 9)) * side, (0, part, 0))


def _roll(half: HalfHead, lower: int) -> Array:
    """A lip rolled in over the teeth: its border comes to the mouth line and back."""
    v, soft = half.vertices, _soft(half, lips_only=float(lower))
    height = lip_height(v[:, 0], upper=lower == 0) + 1e-3
    share = np.clip(np.abs(v[:, 1] - mouth_line(v[:, 0])) / height, 0, 3)
    weight = soft * np.exp(-((share / 1.6) ** 2)) * smoothstep(MOUTH_HALF_WIDTH, 1.2, v[:, 0]) * smoothstep(0, 1.5, v[:, 2])
    towards = (mouth_line(v[:, 0]) - v[:, 1]) * 0.45
    return np.stack([np.zeros_like(towards), weight * towards, -0.35 * weight], 1)


JAW_OPEN = 0.35
"""Wide open, radians."""


def jaw_corrective(half: HalfHead) -> Array:
    """What skinning alone gets wrong at JAW_OPEN: the mouth's corners come inwards and the cheeks sink a little."""
    v = half.vertices
    soft = _soft(half)
    corners = _along(-v[:, 0] * soft * bump(v, (2.3, -7.0, 1.7), (1.9, 1.7, 2.4)), (0.2, 0, 0))
    return corners + _along(soft * bump(v, (4.2, -5.6, -0.5), (1.8, 2.2, 2.6)), (-0.3, 0, -0.1))


CORNER = (2.5, -6.9, 1.7)

EXPRESSIONS: tuple[Expression, ...] = (
    Expression("eyeBlink", "split", lambda h: lids(h, 0.84, 0.16)),
    Expression("eyeWide", "split", lambda h: lids(h, -0.26, -0.08) + _push(h, ((3.1, 1.6, 1.0), (2.2, 0.9, 2.0), (0, 0.12, 0)))),
    Expression("eyeSquint", "split", lambda h: lids(h, 0.12, 0.3) + _push(h, ((3.3, -1.9, 1.2), (1.9, 1.0, 2.0), (0, 0.2, 0.1)))),
    Expression("browInnerUp", "both", lambda h: _push(h, ((0.9, 2.0, 2.2), (1.6, 1.3, 2.0), (0.02, 0.6, 0)))),
    Expression("browDown", "split", lambda h: _push(h, ((2.0, 1.9, 1.8), (2.2, 1.0, 2.0), (-0.18, -0.5, 0.06)))),
    Expression("browOuterUp", "split", lambda h: _push(h, ((4.2, 2.0, 0.6), (1.9, 1.3, 2.2), (0, 0.6, 0)))),
    Expression("cheekPuff", "both", lambda h: _push(h, ((3.6, -6.3, 0.6), (2.0, 2.1, 2.4), (0.7, 0, 0.45)))),
    Expression("cheekSquint", "split", lambda h: _push(h, ((3.9, -2.6, 0.8), (1.7, 1.3, 2.0), (0.05, 0.4, 0.2)))),
    Expression(
        "noseSneer",
        "split",
        lambda h: _push(h, ((1.2, -3.7, 2.6), (0.9, 1.0, 1.2), (0.1, 0.35, 0)), ((1.7, -5.6, 2.0), (1.0, 1.0, 1.5), (0, 0.2, 0))),
    ),
    Expression(
        "mouthSmile",
        "split",
        lambda h: _push(h, (CORNER, (1.5, 1.1, 1.9), (0.55, 0.75, -0.3)), ((4.0, -4.4, 0.8), (1.6, 1.6, 2.0), (0.12, 0.3, 0.25))),
    ),
    Expression("mouthFrown", "split", lambda h: _push(h, (CORNER, (1.3, 1.1, 1.9), (0.1, -0.65, -0.1)))),
    Expression("mouthDimple", "split", lambda h: _push(h, (CORNER, (1.2, 1.0, 1.6), (0.35, 0.1, -0.3)))),
    Expression("mouthStretch", "split", lambda h: _push(h, (CORNER, (1.6, 1.4, 2.0), (0.65, -0.3, -0.3)))),
    Expression("mouthPress", "split", lambda h: _roll(h, 0) * 0.5 + _roll(h, 1) * 0.5),
    Expression("mouthUpperUp", "split", lambda h: _push_lip(h, 0, ((1.0, -6.4, 2.5), (1.6, 1.2, 1.8), (0, 0.6, 0.02)))),
    Expression("mouthLowerDown", "split", lambda h: _push_lip(h, 1, ((1.0, -7.2, 2.4), (1.6, 1.2, 1.8), (0, -0.65, 0.02)))),
    Expression("mouthPucker", "both", lambda h: _gather(h, 0.42, 0.55, 0.0)),
    Expression("mouthFunnel", "both", lambda h: _gather(h, 0.3, 0.5, 0.5)),
    Expression("mouthRollUpper", "both", lambda h: _roll(h, 0)),
    Expression("mouthRollLower", "both", lambda h: _roll(h, 1)),
    Expression("mouthShrugUpper", "both", lambda h: _push_lip(h, 0, ((0, -6.2, 2.6), (1.9, 1.2, 1.6), (0, 0.2, 0.25)))),
    Expression(
        "mouthShrugLower",
        "both",
        lambda h: _push(h, ((0, -8.0, 2.2), (2.4, 1.5, 2.0), (0, 0.35, 0.25)), ((0, -9.8, 2.0), (2.0, 1.4, 2.0), (0, 0.3, 0))),
    ),
    Expression("mouth", "shift", lambda h: _push(h, ((0, -6.85, 2.2), (3.2, 1.8, 2.6), (0.75, 0, 0)))),
    Expression("jaw", "shift", lambda h: _jaw_shift(h, (0.7, 0, 0))),
    Expression("jawForward", "both", lambda h: _jaw_shift(h, (0, -0.05, 0.6))),
)
