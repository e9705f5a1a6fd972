"""What the default head's surface is where: region masks, guide colours, and the part of the atlas that the neural texture owns."""

from __future__ import annotations

import numpy as np

from next3d.head.chart import BROW, SLIT, brow_height, lip_height, uv_to_chart
from next3d.head.half import HalfHead, Piece, smoothstep
from next3d.head.parts import EYE_CHART, IRIS_ANGLE, PUPIL_ANGLE
from next3d.head.sculpt import EYE_CENTER, EYE_RADIUS, Array, mouth_line

MASK_SIZE = 256

LID, LID_MARGIN = np.array([0.1, 0.95, -0.5]), np.array([0.1, 0.95, -0.9])
UPPER_LIP, LOWER_LIP = np.array([0.1, -0.95, 0.75]), np.array([0.1, -0.55, 0.95])
LIP_STRENGTH = 0.75
"""How much of a lip's colour is its own; the rest is the skin's, which tells where on the lip it is."""
MOUTH_INTERIOR = np.array([0.9, -0.9, -0.9])


def half_regions(half: HalfHead) -> dict[str, np.ndarray]:
    """Masks [n] bool of the left half; names with a side start with "left_"."""
    piece, skin = half.piece, half.piece == Piece.SKIN
    p, q = np.nan_to_num(half.chart.T, nan=1e3)
    face = skin & (face_distance(p, q) < 0)
    below_ear = (half.vertices[:, 1] < -4.5) & (half.vertices[:, 2] > -10.0)
    neck = skin & ~face & ((half.vertices[:, 1] < -8.5) | below_ear)
    lids = piece == Piece.LID_MARGIN
    lids[half.flat.eye_rings[:4]] = True
    lips = np.zeros(len(piece), dtype=bool)
    lips[half.flat.upper_lip] = lips[half.flat.lower_lip] = True
    ball = piece == Piece.EYEBALL
    angle = np.where(ball, eye_angle(half), np.pi)
    return {
        "face": face | lids,
        "neck": neck,
        "scalp": skin & ~neck & ~face & ~lids,
        "lips": lips,
        "mouth_interior": piece == Piece.CAVITY,
        "teeth": (piece == Piece.UPPER_TEETH) | (piece == Piece.LOWER_TEETH),
        "tongue": piece == Piece.TONGUE,
        "left_ear": piece == Piece.EAR,
        "left_eye": ball,
        "left_iris": ball & (angle < IRIS_ANGLE + 1e-3),
        "left_pupil": ball & (angle < PUPIL_ANGLE + 1e-3),
        "left_lids": lids,
        "left_brow": skin & (brow_distance(p, q) < 0.3),
    }


def face_distance(p: Array, q: Array) -> Array:
    """Negative inside the face's outline in the chart, zero on it, about 1 at the chart's far end: forehead to chin, ear to ear."""
    below = np.where(q < -2.5, np.abs(q + 2.5) / 9.3, np.abs(q + 2.5) / 9.0)
    return (np.abs(p / 8.6) ** 2.6 + below**2.6) ** (1 / 2.6) - 1


def brow_distance(p: Array, q: Array) -> Array:
    """Distance in cm from the middle of the left brow, the curve through its landmarks."""
    along = np.clip(p, BROW[0][0], BROW[-1][0])
    return np.hypot(p - along, q - brow_height(along))


def eye_angle(half: HalfHead) -> Array:
    """[n]: angle between each vertex, seen from the eyeball's centre, and the gaze; meaningful on the eyeball."""
    return np.arccos(np.clip((half.vertices[:, 2] - EYE_CENTER[2]) / EYE_RADIUS, -1, 1))


def half_guide_colors(half: HalfHead) -> Array:
    """[n, 3] in [-1, 1]. Both sides get the same colours, so that the picture of a mirrored head is the mirrored picture."""
    skin = skin_colors(half.vertices)
    colors = skin.copy()
    for ring, strength in zip(half.flat.eye_rings[:4], (1.0, 1.0, 0.9, 0.55), strict=True):
        colors[ring] = skin[ring] * (1 - strength) + strength * LID
    colors[half.piece == Piece.LID_MARGIN] = LID_MARGIN
    for lip, tone in ((half.flat.upper_lip, UPPER_LIP), (half.flat.lower_lip, LOWER_LIP)):
        colors[lip] = (1 - LIP_STRENGTH) * skin[lip] + LIP_STRENGTH * tone
    colors[half.piece == Piece.CAVITY] = MOUTH_INTERIOR
    colors[half.piece == Piece.UPPER_TEETH] = (0.05, 0.9, 0.9)
    colors[half.piece == Piece.LOWER_TEETH] = (0.05, 0.7, 0.95)
    colors[half.piece == Piece.TONGUE] = (0.9, -0.5, -0.3)
    ball = half.piece == Piece.EYEBALL
    colors[ball] = eyeball_colors((half.vertices[ball] - EYE_CENTER) / EYE_RADIUS, eye_angle(half)[ball], IRIS_ANGLE, PUPIL_ANGLE)
    return colors


def skin_colors(v: Array) -> Array:
    """[n, 3] in [-1, 1] by position [n, 3]: centimetres from the point midway between the eyes. Equal on both sides."""
    colors = np.empty((len(v), 3))
    colors[:, 0] = 0.7 - 1.4 * np.exp(-((v[:, 0] / 4.5) ** 2))
    colors[:, 1] = np.clip((v[:, 1] + 2.0) / 14.0, -1, 1) * 0.7
    colors[:, 2] = np.clip((v[:, 2] + 6.0) / 10.0, -1, 1) * 0.7
    return colors


def eyeball_colors(unit: Array, angle: Array, iris_angle: float, pupil_angle: float) -> Array:
    """Bright white with a slope across it, a saturated iris that darkens to the pupil: any turn of the eye changes the picture.

    Args:
        unit: [n, 3], positions on the left eyeball relative to its centre, in radii.
        angle: [n], from the gaze.
        iris_angle, pupil_angle: where iris and pupil end.

    Returns:
        [n, 3] in [-1, 1].
    """
    white = np.stack([0.55 * unit[:, 0], 0.8 + 0.2 * unit[:, 1], 0.85 + 0 * angle], 1)
    iris = np.stack([0.25 * unit[:, 0], -0.35 + 0.5 * unit[:, 1], -0.75 + 0 * angle], 1)
    to_white = smoothstep(iris_angle - 0.01, iris_angle + 0.05, angle)[:, None]
    to_iris = smoothstep(pupil_angle - 0.01, pupil_angle + 0.03, angle)[:, None]
    painted = np.array([0.0, -1.0, -1.0]) * (1 - to_iris) + iris * to_iris
    return painted * (1 - to_white) + white * to_white


def uv_mask(size: int = MASK_SIZE) -> Array:
    """[1, size, size] float32 in [0, 1], row 0 at v = 1: face, lids, lips and eyes, with soft edges; not the mouth's slit or inside."""
    v, u = np.meshgrid(1 - (np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size, indexing="ij")
    uv = np.stack([u.ravel(), v.ravel()], 1)
    p, q = uv_to_chart(uv).T
    face = smoothstep(0.02, -0.09, face_distance(p, q))
    eyes = np.zeros(len(uv))
    for center in (EYE_CHART[0], 1 - EYE_CHART[0]):
        distance = np.hypot(uv[:, 0] - center, uv[:, 1] - EYE_CHART[1])
        eyes = np.maximum(eyes, smoothstep(EYE_CHART[2] + 0.004, EYE_CHART[2] - 0.004, distance))
    inside_slit = (np.abs(q - mouth_line(p)) < SLIT * np.maximum(1 - (p / 2.5) ** 2, 0)) & (lip_height(p, upper=False) > 0)
    mask = np.maximum(np.where(uv[:, 1] > 0.125, face * ~inside_slit, 0), eyes)
    return (np.round(mask * 255) / 255).astype(np.float32).reshape(1, size, size)
