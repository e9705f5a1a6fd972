"""The skin's flat chart: where its vertices lie, how they are joined, and the ray on which each finds the skin.

A chart point (p, q) is in centimetres and reads like the front view: p is x and q is y on the face. Further out, p winds around
the head to a seam at the back (p = BACK), q climbs to the crown (q = TOP) and sinks to the shoulders (q = BOTTOM).
Only the left half (p >= 0) is built; the right half is its mirror image.

The eye is a hole bordered by rings; the mouth is a slit, which the chart opens into a lens, so that both lips have room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from next3d.head.sculpt import MOUTH_HALF_WIDTH, Array, mouth_line

Indices = NDArray[np.int64]

BACK, TOP, BOTTOM = 24.0, 18.0, -21.0

EYE_STEPS = 12
"""Edges of each lid's margin."""
EYE_INNER, EYE_OUTER = np.array([1.80, -0.17]), np.array([4.50, -0.02])
"""Corners of the left eye, (x, y)."""
EYE_RINGS = (0.0, 0.09, 0.2, 0.34, 0.52, 0.74, 1.0)
"""Distance of each ring from the lid margin, cm; the first is the margin itself."""

BROW = ((1.2, 1.65), (2.1, 2.1), (3.1, 2.25), (4.1, 2.0), (5.0, 1.45))
"""The middle of the left brow, from the nose outwards, (p, q)."""
BROW_ROWS = (-0.27, 0.0, 0.27)
"""Rows of vertices along the brow, cm above its middle."""

MOUTH_STEPS = 10
"""Edges of half a lip."""
LIP_RINGS = (0.0, 0.18, 0.42, 0.7, 1.0)
"""Rows of a lip, from the line where the lips meet (0) to its border (1)."""
LIP_SURROUND = (0.22, 0.52)
"""Rows around the lips, cm from their border."""
SLIT = 0.24
"""Half the height of the mouth's lens in the chart, cm."""


@dataclass(frozen=True)
class Chart:
    """The left half of the skin, flat."""

    points: Array
    """[M, 2], (p, q)."""
    triangles: Indices
    """[K, 3], counter-clockwise in the chart."""
    eye_rings: Indices
    """[rings, 2 * EYE_STEPS]: from the inner corner over the upper lid to the outer corner and back under the lower lid."""
    upper_lip: Indices
    """[lip rows, MOUTH_STEPS + 1] from the middle to the corner; the corner is one point for all rows."""
    lower_lip: Indices
    """As upper_lip."""


def eye_outline() -> Array:
    """The lid margin of the left eye [2 * EYE_STEPS, 2]; see Chart.eye_rings for the order."""
    t = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, EYE_STEPS + 1))
    t = 0.55 * t + 0.45 * np.linspace(0, 1, EYE_STEPS + 1)
    axis = EYE_INNER + t[:, None] * (EYE_OUTER - EYE_INNER)
    upper = 0.54 * np.sin(np.pi * t**0.92) ** 0.85
    lower = 0.44 * np.sin(np.pi * t**1.12) ** 0.9
    upper[-1] = lower[-1] = 0.0
    above = axis + np.stack([np.zeros_like(t), upper], 1)
    below = axis - np.stack([np.zeros_like(t), lower], 1)
    return np.concatenate([above, below[-2:0:-1]])


def _eye_ring_points() -> Array:
    """[rings, 2 * EYE_STEPS, 2]."""
    outline = eye_outline()
    normal = (outline - 0.5 * (EYE_INNER + EYE_OUTER)) / np.array([1.5, 0.62]) ** 2
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.stack([outline + distance * normal for distance in EYE_RINGS])


def brow_height(p: Array) -> Array:
    """q of the brow's middle: a smooth curve through BROW."""
    points = np.array(BROW)
    return np.polyval(np.polyfit(points[:, 0], points[:, 1], 4), p)


def _brow_points() -> Array:
    p = np.linspace(BROW[0][0], BROW[-1][0], 12)
    return np.concatenate([np.stack([p, brow_height(p) + row], 1) for row in BROW_ROWS])


def lip_height(x: Array, upper: bool) -> Array:
    """Height of a lip over the mouth line, cm, 0 at the corner."""
    s = np.minimum(np.abs(x) / MOUTH_HALF_WIDTH, 1.0)
    if upper:
        return 0.78 * (1 - s**1.7) ** 0.95 - 0.1 * np.exp(-((x / 0.32) ** 2))
    return 0.98 * (1 - s**2.0) ** 0.8


def _slit(x: Array) -> Array:
    return SLIT * np.maximum(1 - (x / MOUTH_HALF_WIDTH) ** 2, 0)


def _open_slit(x: Array, distance: Array) -> Array:
    """Distance from the mouth line in the chart of a skin point at `distance` >= 0 from it."""
    gap = _slit(x)
    result = distance + gap
    for _ in range(40):
        result = distance + gap * np.exp(-(result - gap) / 0.8)
    return result


def front_position(points: Array) -> Array:
    """(x, y) on the face of chart points [M, 2] in front (|p| < FLAT); closes the mouth's lens."""
    p, q = points.T
    gap, line = _slit(p), mouth_line(p)
    distance = np.abs(q - line)
    closed = np.maximum(distance - gap * np.exp(-np.maximum(distance - gap, 0) / 0.8), 0)
    return np.stack([p, line + np.sign(q - line) * closed], 1)


def _lip_points(upper: bool) -> tuple[Array, Array]:
    """Rows of a lip [rows, MOUTH_STEPS + 1, 2] and rows around it, in the chart."""
    t = np.linspace(0, 1, MOUTH_STEPS + 1)
    x = MOUTH_HALF_WIDTH * (0.6 * t + 0.4 * np.sin(np.pi * t / 2))
    height, sign = lip_height(x, upper), 1.0 if upper else -1.0
    rows = [np.stack([x, mouth_line(x) + sign * _open_slit(x, f * height)], 1) for f in LIP_RINGS]
    border = np.stack([x, height], 1)
    tangent = np.gradient(border, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    normal[0], normal[-1] = (0.0, 1.0), (1.0, 0.0)
    around = []
    for distance in LIP_SURROUND:
        moved = border + distance * normal
        around.append(np.stack([moved[:, 0], mouth_line(moved[:, 0]) + sign * _open_slit(moved[:, 0], moved[:, 1])], 1))
    return np.stack(rows), np.concatenate([row[:-1] if upper else row for row in around])


def spacing(points: Array) -> Array:
    """Wanted distance between neighbouring vertices, cm in the chart."""
    p, q = np.abs(points[:, 0]), points[:, 1]
    outside = np.hypot(np.maximum(p - 5.0, 0), np.maximum(np.maximum(q - 3.0, -13.0 - q), 0))
    base = np.minimum(0.5 + 0.08 * outside, 1.25)
    nose = np.hypot(np.maximum(p - 1.7, 0), np.maximum(np.maximum(q + 3.0, -4.9 - q), 0))
    bridge = np.hypot(np.maximum(p - 1.0, 0), np.maximum(np.maximum(q - 1.0, -3.0 - q), 0))
    chin = np.hypot(np.maximum(p - 3.5, 0), np.maximum(np.maximum(q + 8.0, -12.6 - q), 0))
    return np.minimum(np.minimum(base, 0.4 + 0.1 * chin), np.minimum(0.24 + 0.22 * nose, 0.34 + 0.2 * bridge))


def _candidates() -> Array:
    """Hexagonal lattices of three densities, slightly irregular so that no four points share a circle."""
    lattices = []
    for step, (p0, p1, q0, q1) in (
        (0.12, (0, 2.5, -5.4, -2.4)),
        (0.21, (0, 7.0, -13.5, 5.0)),
        (0.47, (0, BACK, BOTTOM, TOP)),
    ):
        q, p = np.meshgrid(np.arange(q0 + 0.3 * step, q1, step * 0.866), np.arange(p0 + 0.25 * step, p1, step), indexing="ij")
        p = p + 0.5 * step * (np.arange(len(p)) % 2)[:, None]
        lattices.append(np.stack([p.ravel(), q.ravel()], 1))
    points = np.concatenate(lattices)
    phase = np.arange(len(points))
    wobble = 0.05 * np.stack([np.sin(phase * 12.9898), np.sin(phase * 78.233)], 1)
    return points + wobble * spacing(points)[:, None]


def _thin(candidates: Array, fixed: Array) -> Array:
    """Accept candidates, densest areas first, that keep their distance from each other and from the fixed points."""
    wanted = spacing(candidates)
    taken = np.empty((len(fixed) + len(candidates), 2))
    taken[: len(fixed)] = fixed
    count = len(fixed)
    for index in np.argsort(wanted, kind="stable"):
        offset = taken[:count] - candidates[index]
        if (offset * offset).sum(1).min() > wanted[index] ** 2 * 0.72:
            taken[count] = candidates[index]
            count += 1
    return taken[len(fixed) : count]


def _edge_points(fixed: Array) -> Array:
    """Points on the chart's border: front and back middle lines, crown, bottom."""
    front = _march(np.array([0.0, BOTTOM]), np.array([0.0, TOP]))
    distance = np.sqrt(((front[:, None] - fixed[None]) ** 2).sum(2)).min(1)
    lens = np.abs(front[:, 1] - mouth_line(np.zeros(1))) < SLIT
    front = front[(distance > 0.6 * spacing(front)) & ~lens]
    back_q = np.linspace(BOTTOM, TOP, 33)
    back = np.stack([np.full_like(back_q, BACK), back_q], 1)
    top = _march(np.array([0.0, TOP]), np.array([BACK, TOP]))[1:-1]
    return np.concatenate([front, back, top * [1, 0] + [0, BOTTOM], top])


def _march(start: Array, end: Array) -> Array:
    """Points from start to end, both included, about the wanted spacing apart."""
    length = float(np.linalg.norm(end - start))
    travelled = [0.0]
    while travelled[-1] < length:
        travelled.append(travelled[-1] + float(spacing((start + travelled[-1] / length * (end - start))[None])[0]))
    return start + (np.asarray(travelled) / travelled[-1])[:, None] * (end - start)


def inside_polygon(polygon: Array, points: Array) -> NDArray[np.bool_]:
    """Which points lie inside a closed polygon (even-odd rule)."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    slope = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
    at = a[:, 0] + (y - a[:, 1]) / slope * (b[:, 0] - a[:, 0])
    return (crosses & (x < at)).sum(1) % 2 == 1


def build_chart() -> Chart:
    """Place the vertices of the left half and join them."""
    eye = _eye_ring_points()
    upper, upper_around = _lip_points(upper=True)
    lower, lower_around = _lip_points(upper=False)
    named = np.concatenate([eye.reshape(-1, 2), upper.reshape(-1, 2), lower.reshape(-1, 2)])
    named, index = _merge(named)
    rings = index[: eye.shape[0] * eye.shape[1]].reshape(eye.shape[:2])
    lips = index[rings.size :].reshape(2, *upper.shape[:2])
    fixed = _merge(np.concatenate([named, upper_around, lower_around, _brow_points()]))[0]
    fixed = np.concatenate([fixed, _edge_points(fixed)])
    holes = [eye_outline(), np.concatenate([upper[0], lower[0][-2::-1]])]
    blocked = [_eye_ring_points()[-1], np.concatenate([upper[-1], lower[-1][-2::-1]])]
    candidates = _candidates()
    candidates = candidates[(candidates[:, 0] > 0.1) & ~inside_polygon(blocked[0], candidates) & ~inside_polygon(blocked[1], candidates)]
    points = np.concatenate([fixed, _thin(candidates, fixed)])
    points = _relax(points, len(fixed))
    triangles = Delaunay(points).simplices.astype(np.int64)
    centers = points[triangles].mean(1)
    on_crown = (points[triangles, 1] == TOP).sum(1) > 1  # the top edge is one point of the head
    triangles = triangles[~inside_polygon(holes[0], centers) & ~inside_polygon(holes[1], centers) & ~on_crown]
    return Chart(points, _counter_clockwise(points, triangles), rings, lips[0], lips[1])


def _merge(points: Array) -> tuple[Array, Indices]:
    """Points without repetitions (to 1e-6 cm), in order of first appearance, and where each one went."""
    _, first, inverse = np.unique(np.round(points, 6), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return points[np.sort(first)], rank[inverse.ravel()].astype(np.int64)


def _relax(points: Array, fixed: int, rounds: int = 8) -> Array:
    """Move the free points towards the middle of their neighbours."""
    points = points.copy()
    for _ in range(rounds):
        triangles = Delaunay(points).simplices
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
        edges = np.concatenate([edges, edges[:, ::-1]])
        count = np.bincount(edges[:, 0], minlength=len(points))
        mean = np.stack([np.bincount(edges[:, 0], points[edges[:, 1], axis], len(points)) for axis in (0, 1)], 1) / count[:, None]
        points[fixed:] = 0.5 * points[fixed:] + 0.5 * mean[fixed:]
    return points


def _counter_clockwise(points: Array, triangles: Indices) -> Indices:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    flipped = np.where((area < 0)[:, None], triangles[:, ::-1], triangles)
    return flipped[np.abs(area) > 1e-9]


FLAT = 4.2
"""Up to this |p| rays are parallel to z, so that p is x."""


_UNDER = (9.0, 11.4, 12.4, 13.6, 14.6, 16.5, 21.0)
"""-q from the mouth over the chin (11.4) and the floor of the mouth to the throat (14.6) and down the neck."""
_UNDER_TILT = (0.0, 0.33, 0.42, 0.62, 0.85, 0.3, 0.0)
_UNDER_HEIGHT = (-9.0, -9.3, -9.4, -9.5, -9.7, -13.5, -20.0)
_UNDER_BACK = (0.0, 0.03, 0.06, 0.15, 0.3, 1.0, 1.0)
"""How far the rays' origins have moved back into the neck."""


def rays(points: Array) -> tuple[Array, Array]:
    """Origins and unit directions [M, 3] of the rays on which chart points [M, 2] find the skin (cm, see sculpt).

    Rays start on a core inside the head and never cross before they reach the skin: parallel to z in front, turning about the
    head's axis along p, up to the crown along q, and down under the chin before they level out on the neck.
    """
    p, q = points.T
    angle = np.pi * np.maximum(p - FLAT, 0) / (BACK - FLAT)
    frontness = 0.5 * (1 + np.cos(angle))
    up = np.clip((q - 3.0) / (TOP - 3.0), 0, 1)
    inwards = np.sin(0.5 * np.pi * up)
    neck = np.interp(-q, _UNDER, _UNDER_BACK)
    tilt = 0.5 * np.pi * up - frontness * np.interp(-q, _UNDER, _UNDER_TILT)
    core_front = -5.0 - 3.5 * neck
    core_z = core_front + (-9.5 - core_front) * (1 - frontness)
    core_z = core_z + (-7.2 - core_z) * inwards
    core_x = np.minimum(p, FLAT) * frontness * (1 - inwards) * (1 - 0.35 * neck)
    under = frontness * np.interp(-q, _UNDER, _UNDER_HEIGHT) + (1 - frontness) * np.interp(-q, [9.0, 21.0], [-9.0, -20.0])
    height = np.where(q > 3.0, 3.0 + 1.2 * inwards, np.where(q < -9.0, under, front_position(points)[:, 1]))
    direction = np.stack([np.sin(angle) * np.cos(tilt), np.sin(tilt), np.cos(angle) * np.cos(tilt)], 1)
    return np.stack([core_x, height, core_z], 1), direction


# The atlas: u and v stretch the middle of the face and compress the rest.
_U_SLOPE, _V_SLOPE, _BEND, _V_CENTER, _Q_CENTER = 0.0690, 0.0655, 10.0, 0.550, -3.0


def chart_to_uv(points: Array) -> Array:
    """Texture coordinates [M, 2] of chart points; the left half lands in u >= 0.5."""
    p, q = points[:, 0], points[:, 1] - _Q_CENTER
    return np.stack([0.5 + _U_SLOPE * p / (1 + np.abs(p) / _BEND), _V_CENTER + _V_SLOPE * q / (1 + np.abs(q) / _BEND)], 1)


def uv_to_chart(uv: Array) -> Array:
    """Inverse of chart_to_uv; far outside the chart for coordinates that are not on it."""
    x, y = (uv[:, 0] - 0.5) / _U_SLOPE, (uv[:, 1] - _V_CENTER) / _V_SLOPE
    p, q = (w / np.maximum(1 - np.abs(w) / _BEND, 1e-3) for w in (x, y))
    return np.stack([p, q + _Q_CENTER], 1)
