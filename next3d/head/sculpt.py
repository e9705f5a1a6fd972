"""The default head's skin as an implicit surface: ellipsoids and tapered capsules, blended smoothly.

Frame and unit: centimetres, origin midway between the eyeball centres, x to the person's left, y up, z forward.
The proportions are an average adult's (eyes at half the head's height, pupils 6.3 cm apart, head 23 x 15.2 x 19 cm);
every number here was chosen for this project by looking at renderings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EYE_CENTER = np.array([3.15, 0.0, -0.1])
"""The left eyeball's centre; the right one mirrors it."""
EYE_RADIUS = 1.35
"""Larger than a real eyeball (1.2 cm), so that the lids rest on it from corner to corner."""
LID_THICKNESS = 0.13
MOUTH_HALF_WIDTH = 2.5


def mouth_line(x: Array) -> Array:
    """Height at which the lips meet."""
    return -6.80 - 0.1 * np.minimum(np.abs(x) / MOUTH_HALF_WIDTH, 1.6) ** 2 - 0.05 * np.exp(-((x / 0.55) ** 2))


def ellipsoid(p: Array, center: tuple[float, float, float], radii: tuple[float, float, float]) -> Array:
    """Approximate distance of p [M, 3] to an ellipsoid, negative inside: exact in sign, first order near the surface."""
    q = p - np.asarray(center)
    scaled = q / np.asarray(radii)
    k0 = np.sqrt((scaled * scaled).sum(1)) + 1e-9
    scaled = scaled / np.asarray(radii)
    k1 = np.sqrt((scaled * scaled).sum(1)) + 1e-9
    return k0 * (k0 - 1) / k1


def capsule(p: Array, start: tuple[float, float, float], end: tuple[float, float, float], radius_start: float, radius_end: float) -> Array:
    """Approximate distance of p [M, 3] to a tapered capsule, negative inside."""
    a = np.asarray(start)
    axis = np.asarray(end) - a
    along = np.clip((p - a) @ axis / (axis @ axis), 0, 1)
    offset = p - a - along[:, None] * axis
    return np.sqrt((offset * offset).sum(1)) - (radius_start + (radius_end - radius_start) * along)


def smooth_union(a: Array, b: Array, width: float) -> Array:
    """Union whose seam is rounded over `width` cm."""
    h = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - h * h * width * 0.25


def smooth_subtract(a: Array, b: Array, width: float) -> Array:
    """What is left of a when b is carved out, rounded over `width` cm."""
    return -smooth_union(-a, b, width)


def _both_sides(p: Array, shape: Callable[[Array], Array], width: float) -> Array:
    """A shape near the middle and its mirror image, blended (p has x >= 0)."""
    mirrored = p * np.array([-1.0, 1.0, 1.0])
    return smooth_union(shape(p), shape(mirrored), width)


def _skull(p: Array) -> Array:
    d = ellipsoid(p, (0, 3.5, -7.6), (7.4, 7.9, 9.5))
    d = smooth_union(d, ellipsoid(p, (0, 3.6, -2.6), (5.9, 5.6, 4.75)), 2.5)  # forehead
    return smooth_union(d, ellipsoid(p, (0, -1.0, -11.0), (6.3, 5.6, 5.0)), 2.5)  # occiput


def _face(p: Array) -> Array:
    d = ellipsoid(p, (0, -3.6, -3.4), (5.9, 7.4, 5.3))
    d = smooth_union(d, capsule(p, (4.7, -6.7, -5.4), (1.35, -9.75, 0.0), 1.2, 1.25), 2.2)  # jaw bone
    d = smooth_union(d, ellipsoid(p, (0, -6.4, -0.3), (3.1, 3.0, 2.75)), 1.6)  # the teeth's arch
    d = smooth_union(d, ellipsoid(p, (4.2, -2.6, -1.2), (2.1, 1.7, 2.0)), 1.8)  # cheek bone
    d = smooth_union(d, ellipsoid(p, (4.2, -4.6, -4.4), (1.65, 3.4, 3.0)), 1.8)  # chewing muscle
    d = smooth_union(d, capsule(p, (5.4, -1.9, -2.8), (6.5, -1.3, -6.5), 1.0, 0.6), 1.8)  # zygomatic arch
    d = smooth_union(d, ellipsoid(p, (2.9, -5.2, -0.6), (2.0, 2.2, 2.0)), 1.6)  # cheek
    return smooth_union(d, ellipsoid(p, (0, -10.0, 0.55), (1.75, 1.3, 1.35)), 1.3)  # chin


def _brow_and_sockets(p: Array, d: Array) -> Array:
    brow = _both_sides(p, lambda q: capsule(q, (1.0, 1.7, 1.1), (4.3, 1.75, -0.3), 0.75, 0.75), 1.0)
    d = smooth_union(d, brow, 1.4)
    d = smooth_subtract(d, ellipsoid(p, (3.1, -0.15, 2.15), (1.75, 1.0, 1.35)), 1.0)
    d = smooth_subtract(d, ellipsoid(p, (1.6, -0.05, 2.05), (0.5, 0.8, 0.8)), 0.9)  # beside the nose's root
    eye = np.linalg.norm(p - EYE_CENTER, axis=1) - (EYE_RADIUS + LID_THICKNESS)
    return smooth_union(d, eye, 0.45)


def _nose(p: Array, d: Array) -> Array:
    d = smooth_union(d, capsule(p, (0, 0.9, 1.1), (0, -2.9, 2.75), 0.68, 0.78), 1.2)  # bridge
    d = smooth_union(d, ellipsoid(p, (0, -3.5, 3.2), (0.95, 0.8, 1.0)), 0.7)  # tip
    d = smooth_union(d, ellipsoid(p, (1.05, -3.95, 2.3), (0.68, 0.58, 0.95)), 0.6)  # wing
    d = smooth_union(d, capsule(p, (0, -3.95, 3.5), (0, -4.65, 2.4), 0.3, 0.38), 0.35)  # columella
    groove = capsule(p, (1.78, -3.3, 2.0), (1.85, -4.3, 1.75), 0.16, 0.16)  # behind the wing
    d = smooth_subtract(d, groove, 0.35)
    nostril = capsule(p, (0.56, -4.62, 3.2), (0.74, -3.95, 2.5), 0.3, 0.26)
    return smooth_subtract(d, nostril, 0.14)


def _lips(p: Array, d: Array) -> Array:
    upper = _both_sides(p, lambda q: capsule(q, (0.35, -6.38, 2.42), (1.4, -6.5, 1.98), 0.42, 0.34), 0.3)
    upper = smooth_union(upper, capsule(p, (1.4, -6.5, 1.98), (2.45, -6.85, 1.05), 0.34, 0.18), 0.3)
    lower = _both_sides(p, lambda q: capsule(q, (0.2, -7.32, 2.3), (1.3, -7.22, 1.92), 0.5, 0.4), 0.4)
    lower = smooth_union(lower, capsule(p, (1.3, -7.22, 1.92), (2.45, -6.98, 1.05), 0.4, 0.18), 0.3)
    d = smooth_union(d, upper, 0.45)
    d = smooth_union(d, lower, 0.35)
    philtrum = capsule(p, (0, -4.9, 3.25), (0, -6.0, 3.35), 0.45, 0.5)
    return smooth_subtract(d, philtrum, 0.35)


def _neck(p: Array, d: Array) -> Array:
    squeezed = p * np.array([1.0, 1.0, 0.92])
    d = smooth_union(d, capsule(squeezed, (0, -5.0, -8.6), (0, -21.0, -9.2), 4.7, 5.0), 2.2)
    d = smooth_union(d, capsule(p, (4.9, -6.5, -9.6), (1.2, -18.5, -5.0), 0.6, 0.7), 2.0)  # the long muscle beside the throat
    shoulder = capsule(p, (3.0, -17.2, -11.0), (13.0, -21.5, -10.0), 2.6, 2.6)
    return smooth_union(d, shoulder, 3.0)


def skin_distance(points: Array) -> Array:
    """Approximate signed distance [M] of points [M, 3] to the skin, negative inside; symmetric in x."""
    p = points * np.array([1.0, 1.0, 1.0])
    p[:, 0] = np.abs(p[:, 0])
    d = smooth_union(_skull(p), _face(p), 2.5)
    d = _brow_and_sockets(p, d)
    d = _nose(p, d)
    d = _lips(p, d)
    return _neck(p, d)


def cast(origins: Array, directions: Array, reach: float = 16.0, steps: int = 56, refinements: int = 22) -> Array:
    """The outermost skin point on each ray from inside the head.

    Args:
        origins: [M, 3], inside the skin.
        directions: [M, 3], unit length, pointing outwards.
        reach: where the search starts, cm from the origin.
        steps: how finely the way in is sampled.
        refinements: bisections after the first crossing.

    Returns:
        [M, 3]; the origin where a ray meets nothing.
    """
    outside = np.full(len(origins), reach)
    inside = np.zeros(len(origins))
    searching = np.ones(len(origins), dtype=bool)
    for t in np.linspace(reach, 0, steps)[1:]:
        rows = np.flatnonzero(searching)
        hit = skin_distance(origins[rows] + t * directions[rows]) < 0
        inside[rows[hit]] = t
        outside[rows[~hit]] = t
        searching[rows[hit]] = False
    for _ in range(refinements):
        middle = 0.5 * (inside + outside)
        within = skin_distance(origins + middle[:, None] * directions) < 0
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return origins + inside[:, None] * directions
