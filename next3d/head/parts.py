"""The default head's other parts, left half: eyeball, ear, mouth cavity, teeth, tongue. Units and frame as in sculpt.

Parts are grids of vertices; those in the middle (teeth, tongue, mouth) start with a column at x = 0 that both halves share.
Texture coordinates lie in a strip below the skin's chart, the left half in u >= 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from next3d.head.chart import Indices
from next3d.head.sculpt import EYE_CENTER, EYE_RADIUS, Array, cast, mouth_line

PUPIL_ANGLE, IRIS_ANGLE = np.radians(9.0), np.radians(25.5)
"""Polar angles of the eyeball's loops that bound pupil and iris."""
EYE_ANGLES = np.radians([4.5, 9.0, 10.2, 14.0, 19.0, 23.5, 25.5, 27.5, 33.0, 40.0, 49.0, 60.0, 73.0, 90.0, 112.0, 140.0])
EYE_SEGMENTS = 24
EYE_CHART = (0.937, 0.06, 0.054)
"""Centre u, v and radius in the atlas."""
EAR_CHART = (0.822, 0.06, 0.054)
MOUTH_CHART = (0.5, 0.06, 0.056)


@dataclass(frozen=True)
class Part:
    """A separate piece of the left half."""

    vertices: Array
    """[n, 3] cm."""
    faces: Indices
    """[m, 3], counter-clockwise from outside."""
    uv: Array
    """[n, 2]."""


def grid_faces(rows: int, columns: int, *, closed: bool = False) -> Indices:
    """Two triangles per cell of a grid [rows, columns]; with `closed`, the last column joins the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    d, e = a + columns, b + columns
    return np.concatenate([np.stack([a, d, e], -1).reshape(-1, 3), np.stack([a, e, b], -1).reshape(-1, 3)]).astype(np.int64)


def eyeball() -> Part:
    """The left eyeball, looking along +z; vertex 0 is the pupil's centre, then loops of EYE_SEGMENTS at EYE_ANGLES."""
    around = 2 * np.pi * np.arange(EYE_SEGMENTS) / EYE_SEGMENTS
    angle, around = (w.ravel() for w in np.meshgrid(EYE_ANGLES, around, indexing="ij"))
    unit = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], 1)
    vertices = EYE_CENTER + EYE_RADIUS * np.concatenate([[[0.0, 0.0, 1.0]], unit])
    radius = EYE_CHART[2] * (angle / EYE_ANGLES[-1]) ** 0.65
    disc = np.concatenate([[[0.0, 0.0]], np.stack([radius * np.cos(around), radius * np.sin(around)], 1)])
    first = np.arange(EYE_SEGMENTS)
    cap = np.stack([np.zeros_like(first), 1 + first, 1 + (first + 1) % EYE_SEGMENTS], 1)
    return Part(vertices, np.concatenate([cap, 1 + grid_faces(len(EYE_ANGLES), EYE_SEGMENTS, closed=True)]), np.array(EYE_CHART[:2]) + disc)


EAR_SEGMENTS = 32
EAR_RINGS = (0.14, 0.28, 0.4, 0.5, 0.6, 0.69, 0.77, 0.85, 0.93, 1.0)
EAR_BACK = ((1.02, 0.2), (0.95, 0.4), (0.78, 0.55), (0.55, 0.55))
"""Rings of the ear's back side: radius, and how far behind the rim, cm. The last one lies under the head's skin."""
EAR_CENTER = (-1.7, -9.0)
"""(y, z) of the left ear's middle."""


def ear() -> Part:
    """The left ear: curled rim (helix), inner ridge (antihelix), bowl with the flap in front of it (tragus), flat lobe, convex back."""
    theta = np.pi * (2 * np.arange(EAR_SEGMENTS) / EAR_SEGMENTS - 1)  # 0 points to the back of the head, a quarter turn up
    cosine, sine = np.cos(theta), np.sin(theta)
    reach_back = np.where(cosine > 0, 1.75 + 0.35 * np.maximum(sine, 0) - 0.3 * np.maximum(-sine, 0), 1.35 - 0.45 * np.maximum(-sine, 0))
    reach_up = np.where(sine > 0, 3.1, 3.3)
    rings = np.array([0.0, *EAR_RINGS, *(radius for radius, _ in EAR_BACK)])[:, None]
    back, up = rings * reach_back * cosine, rings * reach_up * sine
    back = back + 0.12 * np.maximum(up, 0) - 0.1 * np.maximum(-up, 0)
    height, depth = EAR_CENTER[0] + up, EAR_CENTER[1] - back
    head = _head_side(height, depth)
    front = len(EAR_RINGS) + 1
    plane = _head_side(np.array(EAR_CENTER[0]), np.array(EAR_CENTER[1] + 1.3)) + 0.2 + 0.15 * up + 0.3 * (back + 1.35)
    x = plane + _ear_relief(rings, theta)
    attached = np.clip((-back - 0.4 + 0.1 * np.minimum(up, 0)) / 0.7, 0, 1) * np.clip((rings - 0.66) / 0.3, 0, 1.0)
    x = np.where(rings < 0.8, np.maximum(x, head + 0.04), x) - 0.85 * attached
    x[front:] = x[front - 1] - np.array([behind for _, behind in EAR_BACK])[:, None]
    x[-2] = np.minimum(x[-2], 0.5 * (x[-2] + head[-2]))
    x[-1] = np.minimum(x[-1], head[-1] - 0.1)
    vertices = np.stack([x, height, depth], -1)[1:].reshape(-1, 3)
    vertices = np.concatenate([[[x[0, 0], height[0, 0], depth[0, 0]]], vertices])
    disc = np.linspace(0, 1, len(rings))[:, None] * np.stack(
        [np.broadcast_to(-cosine, (len(rings), EAR_SEGMENTS)), np.broadcast_to(sine, (len(rings), EAR_SEGMENTS))]
    )
    uv = np.array(EAR_CHART[:2]) + EAR_CHART[2] * np.concatenate([[[0.0, 0.0]], disc[:, 1:].reshape(2, -1).T])
    first = np.arange(EAR_SEGMENTS)
    cap = np.stack([np.zeros_like(first), 1 + first, 1 + (first + 1) % EAR_SEGMENTS], 1)
    faces = np.concatenate([cap, 1 + grid_faces(len(rings) - 1, EAR_SEGMENTS, closed=True)])
    return Part(vertices, faces, uv)


def _ear_relief(rings: Array, theta: Array) -> Array:
    """How far each point [rings, EAR_SEGMENTS] stands out of the ear's plane, cm."""

    def around(start: float, middle: float, end: float) -> Array:
        """1 at one angle, falling to 0 at two others."""
        t = np.where(theta < middle, (theta - start) / (middle - start), (end - theta) / (end - middle))
        return np.clip(1.8 * t, 0, 1)

    def ring(radius: float, width: float) -> Array:
        return np.exp(-(((rings - radius) / width) ** 2))

    helix = ring(0.93, 0.085) * around(-1.5, 0.9, 3.1)
    groove = ring(0.78, 0.07) * around(-1.3, 0.6, 2.6)
    antihelix = ring(0.62, 0.085) * around(-1.7, 0.3, 2.3)
    bowl = np.exp(-((rings / 0.46) ** 4))
    root = ring(0.5, 0.25) * around(2.2, 2.75, 3.2)  # where the helix begins, in front above the bowl
    tragus = ring(0.62, 0.16) * around(-3.3, -2.8, -2.1)
    antitragus = ring(0.58, 0.12) * around(-2.2, -1.6, -1.1)
    lobe = np.clip(-np.sin(theta) - 0.6, 0, 0.4) / 0.4 * rings
    return 0.36 * helix - 0.14 * groove + 0.3 * antihelix - 0.45 * bowl + 0.22 * root + 0.42 * tragus + 0.22 * antitragus + 0.12 * lobe


def _head_side(height: Array, depth: Array) -> Array:
    """x of the head's side at (y, z), any equal shapes."""
    origins = np.stack([np.zeros_like(height), height, depth], -1).reshape(-1, 3)
    sideways = np.broadcast_to([1.0, 0.0, 0.0], origins.shape)
    return cast(origins, sideways, reach=9.0, steps=16, refinements=16)[:, 0].reshape(height.shape)


TEETH_STEPS = 10
TEETH_HALF_WIDTH = 1.95
TEETH_FRONT = 1.6


def teeth(upper: bool) -> Part:
    """Half a row of teeth: a curved strip with a biting edge, seen from both sides."""
    x = np.linspace(0, TEETH_HALF_WIDTH, TEETH_STEPS + 1)
    front = TEETH_FRONT - (0.0 if upper else 0.22) - 0.33 * x**2
    gum, middle = (-5.8, -7.08) if upper else (-8.1, -7.16)
    edge = middle + (0.12 if upper else -0.06) * (x / TEETH_HALF_WIDTH) ** 2
    heights = [np.full_like(x, gum), 0.5 * (gum + edge), edge, edge, np.full_like(x, gum)]
    depths = [front - 0.1, front, front - 0.06, front - 0.28, front - 0.5]
    vertices = np.stack([np.broadcast_to(x, (5, len(x))), np.stack(heights), np.stack(depths)], -1)
    faces = grid_faces(5, len(x))
    u = 0.572 + 0.145 * x / TEETH_HALF_WIDTH
    v0 = 0.068 if upper else 0.012
    uv = np.stack([np.stack([u, np.full_like(u, v0 + 0.045 * (1 - row / 4))], 1) for row in range(5)])
    return Part(vertices.reshape(-1, 3), faces if upper else faces[:, ::-1], uv.reshape(-1, 2))


TONGUE_TIP, TONGUE_LENGTH = (0.0, -7.75, 0.6), 4.2
"""(x, y, z) of the tip and the way back to the throat, cm."""
TONGUE_ROWS, TONGUE_STEPS = 9, 7


def tongue() -> Part:
    """Half of the tongue, closed from tip to throat: the tip, then rows back, each from the upper middle round to the lower."""
    t = np.linspace(0, 1, TONGUE_ROWS)[1:, None] ** 1.3
    turn = np.linspace(0, np.pi, TONGUE_STEPS)[None]
    round_tip = np.sqrt(np.minimum(1.0, 2 * t / 0.24 * np.maximum(1 - t / 0.48, 0.5)))
    width = (1.25 + 0.25 * t) * round_tip
    thickness = (0.2 + 0.3 * t) * np.sqrt(round_tip)
    x = width * np.abs(np.sin(turn)) ** 0.8
    groove = 0.08 * np.exp(-((x / 0.3) ** 2)) * np.maximum(np.cos(turn), 0) * np.sin(np.pi * t)
    y = TONGUE_TIP[1] + 0.5 * np.sin(np.pi * 0.9 * t) + thickness * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** 0.8 - groove
    z = TONGUE_TIP[2] - TONGUE_LENGTH * t - 0.12 * np.sin(turn) * (1 - t)
    x[:, [0, -1]] = 0.0
    vertices = np.concatenate([[TONGUE_TIP], np.stack([x, y, z + 0 * x], -1).reshape(-1, 3)])
    strip = np.stack([0.728 + 0.034 * turn / np.pi + 0 * t, 0.012 + 0.1 * t + 0 * turn], -1).reshape(-1, 2)
    first = 1 + np.arange(TONGUE_STEPS - 1)
    cap = np.stack([first + 1, first, np.zeros_like(first)], 1)
    faces = np.concatenate([cap, 1 + grid_faces(len(t), TONGUE_STEPS)[:, ::-1]])
    return Part(vertices, faces, np.concatenate([[[0.745, 0.012]], strip]))


MOUTH_DEPTHS = (0.02, 0.05, 0.14, 0.3, 0.6, 1.0, 1.0)
MOUTH_HEIGHTS = (0.06, 0.6, 1.4, 1.6, 1.5, 0.9, 0.0)
MOUTH_WIDTHS = (1.0, 1.0, 1.03, 1.15, 1.0, 0.5, 0.5)
MOUTH_ROUNDNESS = (1.0, 1.0, 0.8, 0.4, 0.4, 0.6, 0.6)
"""Rings of the cavity, from the lips inwards; the last one closes it. Depths are shares of the way to MOUTH_BACK; the flatter the
roundness, the boxier the ring."""
MOUTH_BACK = -4.2
"""z of the cavity's end, cm."""


def mouth_cavity(rim: Array) -> tuple[Array, Array, Indices]:
    """The inside of the left half of the mouth, hung from the line where the lips meet.

    Args:
        rim: [C, 3] from the upper lip's middle to the corner to the lower lip's middle.

    Returns:
        New vertices [rings * C, 3]; uv [(1 + rings) * C, 2]; faces that index rim vertices first, then the new ones.
    """
    columns = len(rim)
    turn = np.linspace(np.pi / 2, -np.pi / 2, columns)
    rings = []
    for depth, height, width, power in zip(MOUTH_DEPTHS, MOUTH_HEIGHTS, MOUTH_WIDTHS, MOUTH_ROUNDNESS, strict=True):
        z = rim[:, 2] + depth * (MOUTH_BACK - rim[:, 2])
        x = rim[:, 0] * width
        rings.append(np.stack([x, mouth_line(rim[:, 0]) + height * np.sign(turn) * np.abs(np.sin(turn)) ** power, z], 1))
    radius = MOUTH_CHART[2] * np.linspace(1.0, 0.12, len(rings) + 1)[:, None]
    uv = np.stack([MOUTH_CHART[0] + radius * np.cos(turn), MOUTH_CHART[1] + radius * np.sin(turn)], -1)
    uv[:, [0, -1], 0] = MOUTH_CHART[0]
    return np.concatenate(rings), uv.reshape(-1, 2), grid_faces(len(rings) + 1, columns)
