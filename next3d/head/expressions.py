"""Expression directions of the default head: the 52 blend shapes that ARKit names, as displacement fields of the left half.

Left and right are the person's; 1 is full strength. Fields act on half.HalfHead (cm); `procedural` mirrors them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from next3d.head.chart import EYE_STEPS, lip_height
from next3d.head.fields import Triple, along, bump, scale
from next3d.head.half import JAW_HINGE, HalfHead, Piece, head_weights, smoothstep
from next3d.head.parts import TONGUE_LENGTH, TONGUE_TIP
from next3d.head.sculpt import EYE_CENTER, EYE_RADIUS, LID_THICKNESS, MOUTH_HALF_WIDTH, Array, mouth_line


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
            target[:, 0] = EYE_CENTER[0] + offset[0, :, 0] + min(upper + lower, 1.0) * (meet_x - offset[0, :, 0])
        moved[rings[row]] = target - half.vertices[rings[row]]
    inner = half.vertices[half.lid_margin] - EYE_CENTER
    inner_angle = np.arctan2(inner[:, 1], inner[:, 2]) + travel
    inner_x = inner[:, 0] + min(upper + lower, 1.0) * 0.5 * (inner[opposite, 0] - inner[:, 0])
    inner_reach = np.sqrt((inner * inner).sum(1) - inner_x**2)  # it slides on a sphere
    moved[half.lid_margin] = np.stack([inner_x, inner_reach * np.sin(inner_angle), inner_reach * np.cos(inner_angle)], 1) - inner
    return moved


def _lids_aside(half: HalfHead, turn: float) -> Array:
    """Lids dragged sideways over the eyeball by `turn` radians, positive towards +x; the corners stay."""
    moved = np.zeros_like(half.vertices)
    free = np.sin(np.pi * np.arange(2 * EYE_STEPS) / EYE_STEPS) ** 2
    held = (1.0, 0.95, 0.85, 0.65, 0.4, 0.18, 0.04)
    for row, weight in zip((half.lid_margin, *half.flat.eye_rings), (1.0, *held), strict=True):
        offset = half.vertices[row] - EYE_CENTER
        angle = turn * weight * free
        x = offset[:, 0] * np.cos(angle) + offset[:, 2] * np.sin(angle)
        z = offset[:, 2] * np.cos(angle) - offset[:, 0] * np.sin(angle)
        moved[row] = np.stack([x - offset[:, 0], np.zeros_like(x), z - offset[:, 2]], 1)
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


def _push(half: HalfHead, *pushes: tuple[Triple, Triple, Triple]) -> Array:
    """Sum of bumps (centre, radii, direction) on the soft skin."""
    v, soft = half.vertices, _soft(half)
    return sum((along(soft * bump(v, center, radii), direction) for center, radii, direction in pushes), np.zeros_like(v))


def _push_lip(half: HalfHead, lower: int, *pushes: tuple[Triple, Triple, Triple]) -> Array:
    """As _push, on the upper (0) or lower (1) side of the mouth only."""
    v, soft = half.vertices, _soft(half, lips_only=float(lower))
    return sum((along(soft * bump(v, center, radii), direction) for center, radii, direction in pushes), np.zeros_like(v))


def _jaw_shift(half: HalfHead, direction: Triple) -> Array:
    return along(half.jaw, direction)


def _gather(half: HalfHead, narrow: float, forward: float, part: float) -> Array:
    """Lips drawn together and forward; `part` moves them apart."""
    v = half.vertices
    weight = _soft(half) * bump(v, (0, -6.85, 2.2), (3.0, 1.7, 2.4))
    moved = scale(v, weight, (0, 0, 0), (-narrow, 0, 0)) + along(weight * bump(v, (0, -6.85, 2.6), (2.2, 1.5, 4.0)), (0, 0, forward))
    side = (1 - 2 * half.jaw) * smoothstep(2.5, 1.0, v[:, 0])
    return moved + along(weight * bump(v, (0, -6.85, 2.2), (9, 1.1, 9)) * side, (0, part, 0))


def _roll(half: HalfHead, lower: int) -> Array:
    """A lip rolled in over the teeth: its border comes to the mouth line and back."""
    v, soft = half.vertices, _soft(half, lips_only=float(lower))
    height = lip_height(v[:, 0], upper=lower == 0) + 1e-3
    share = np.clip(np.abs(v[:, 1] - mouth_line(v[:, 0])) / height, 0, 3)
    weight = soft * np.exp(-((share / 1.6) ** 2)) * smoothstep(MOUTH_HALF_WIDTH, 1.2, v[:, 0]) * smoothstep(0, 1.5, v[:, 2])
    towards = (mouth_line(v[:, 0]) - v[:, 1]) * 0.45
    return np.stack([np.zeros_like(towards), weight * towards, -0.35 * weight], 1)


JAW_OPEN = 0.35
"""Wide open, radians: the jaw joint's limit, and what the blend shape jawOpen is worth at full strength."""


def jaw_corrective(half: HalfHead) -> Array:
    """What skinning alone gets wrong at JAW_OPEN: the mouth's corners come inwards and the cheeks sink a little."""
    v = half.vertices
    soft = _soft(half)
    corners = along(-v[:, 0] * soft * bump(v, (2.3, -7.0, 1.7), (1.9, 1.7, 2.4)), (0.2, 0, 0))
    return corners + along(soft * bump(v, (4.2, -5.6, -0.5), (1.8, 2.2, 2.6)), (-0.3, 0, -0.1))


def _jaw_open(half: HalfHead) -> Array:
    """Where the jaw joint at JAW_OPEN takes each vertex of the neutral head; on the way there vertices go straight, not on arcs."""
    corrective = jaw_corrective(half)
    _, y, z = (half.vertices + corrective - JAW_HINGE).T
    cosine, sine = np.cos(JAW_OPEN), np.sin(JAW_OPEN)
    turned = np.stack([np.zeros_like(y), y * (cosine - 1) - z * sine, y * sine + z * (cosine - 1)], 1)
    return corrective + head_weights(half)[1][:, None] * turned


UPPER_SHARE = 0.3
"""How much of the way to each other the upper lip makes in mouthClose."""


def _mouth_close(half: HalfHead) -> Array:
    """What shuts the lips over an open jaw: jawOpen and mouthClose together, at equal strengths, leave no gap."""
    v, opened = half.vertices, _jaw_open(half)
    upper, lower = half.flat.upper_lip[0], half.flat.lower_lip[0]
    gap = opened[lower] - opened[upper]  # [MOUTH_STEPS + 1, 3], from the middle to the corner
    below = mouth_line(v[:, 0]) - v[:, 1]
    is_lower = below > 0
    is_lower[upper], is_lower[lower] = False, True
    at_lips = np.stack([np.interp(v[:, 0], v[upper, 0], gap[:, axis]) for axis in range(3)], 1)
    around = np.exp(-((v[:, :1] / 2.0) ** 2)) * gap[0]
    wanted = at_lips + smoothstep(0.5, 1.7, np.abs(below))[:, None] * (around - at_lips)
    fade = np.exp(-((np.maximum(np.abs(below) - 0.8, 0) / np.where(is_lower, 1.7, 1.2)) ** 2))
    fade *= smoothstep(-3.5, 0.8, v[:, 2]) * _soft(half)
    fade[upper] = fade[lower] = 1.0
    return wanted * np.where(is_lower, UPPER_SHARE - 1, UPPER_SHARE)[:, None] * fade[:, None]


def _tongue_out(half: HalfHead) -> Array:
    """The tongue over the lower teeth and lip; the jaw has to be open by 0.2 rad at least, or it goes through teeth and lips."""
    v = half.vertices
    front = np.clip(1 - (TONGUE_TIP[2] - v[:, 2]) / TONGUE_LENGTH, 0, 1)  # 1 at the tip, 0 at the throat
    out = front**1.5
    rise = 1.3 * smoothstep(0.2, 0.7, front) - 0.5 * smoothstep(0.85, 1.0, front)
    moved = np.stack([0.1 * v[:, 0] * out, rise, 3.9 * out], 1)
    return moved * (half.piece == Piece.TONGUE)[:, None]


CORNER = (2.5, -6.9, 1.7)
BLINK = (0.84, 0.16)
"""What the upper and the lower lid contribute to shutting an eye; together the whole way."""

EXPRESSIONS: tuple[Expression, ...] = (
    Expression("eyeBlink", "split", lambda h: lids(h, *BLINK)),
    Expression("eyeWide", "split", lambda h: lids(h, -0.26, -0.08) + _push(h, ((3.1, 1.6, 1.0), (2.2, 0.9, 2.0), (0, 0.12, 0)))),
    Expression("eyeLookUp", "split", lambda h: lids(h, -0.2, 0.15)),
    Expression("eyeLookDown", "split", lambda h: lids(h, 0.3, -0.3)),
    Expression("eyeLookIn", "split", lambda h: _lids_aside(h, -0.08)),
    Expression("eyeLookOut", "split", lambda h: _lids_aside(h, 0.08)),
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
    Expression("jaw", "shift", lambda h: _jaw_shift(h, (0.6, 0, 0))),
    Expression("jawForward", "both", lambda h: _jaw_shift(h, (0, -0.05, 0.6))),
    Expression("jawOpen", "both", _jaw_open),
    Expression("mouthClose", "both", _mouth_close),
    Expression("tongueOut", "both", _tongue_out),
)
