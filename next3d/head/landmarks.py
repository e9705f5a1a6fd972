"""The 68 landmarks of the default head, in the usual (iBUG) order, placed on the features.

Points 0-16 run along the jaw from the image's left (the person's right) over the chin; 17-26 along the brows; 27-35 down and
under the nose; 36-41 and 42-47 around the eyes; 48-59 and 60-67 around the outer and inner edge of the lips.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from next3d.head.chart import BROW, EYE_STEPS, LIP_RINGS, Indices
from next3d.head.half import HalfHead, Piece
from next3d.head.parts import EYE_ANGLES, EYE_SEGMENTS, IRIS_ANGLE
from next3d.head.sculpt import Array

CHART_POINTS = {
    8: (0.0, -11.4), 9: (2.1, -11.0), 10: (4.0, -10.3), 11: (5.6, -9.3), 12: (6.9, -7.9),
    13: (8.0, -6.1), 14: (8.7, -4.2), 15: (9.1, -2.2), 16: (9.75, -0.3),
    27: (0.0, 0.2), 28: (0.0, -1.15), 29: (0.0, -2.4), 30: (0.0, -3.6), 33: (0.0, -4.75), 34: (0.65, -4.62), 35: (1.3, -4.4),
}  # fmt: skip
"""Left and middle landmarks in chart coordinates (cm)."""


def mirror_order() -> Indices:
    """[68]: the landmark on the other side."""
    pairs = [(i, 16 - i) for i in range(17)] + [(17 + i, 26 - i) for i in range(10)] + [(i, i) for i in range(27, 31)]
    pairs += [(31 + i, 35 - i) for i in range(5)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48 + i, 54 - i) for i in range(7)] + [(55 + i, 59 - i) for i in range(5)]
    pairs += [(60 + i, 64 - i) for i in range(5)] + [(65, 67), (66, 66)]
    order = np.full(68, -1)
    for a, b in pairs:
        order[a], order[b] = b, a
    return order


def _vertex_landmarks(half: HalfHead) -> dict[int, int]:
    """Landmarks that are skin vertices: corners and edges of eye and lips."""
    eye, upper, lower = half.flat.eye_rings[0], half.flat.upper_lip, half.flat.lower_lip
    third, rim, border = EYE_STEPS // 3, 0, len(LIP_RINGS) - 1
    return {
        42: eye[0], 43: eye[third], 44: eye[2 * third], 45: eye[EYE_STEPS], 46: eye[EYE_STEPS + third], 47: eye[EYE_STEPS + 2 * third],
        51: upper[border, 0], 52: upper[border, 3], 53: upper[border, 6], 54: upper[border, -1],
        55: lower[border, 6], 56: lower[border, 3], 57: lower[border, 0],
        62: upper[rim, 0], 63: upper[rim, 4], 64: upper[rim, -2], 65: lower[rim, 4], 66: lower[rim, 0],
    }  # fmt: skip


def embed_landmarks(half: HalfHead) -> tuple[Indices, NDArray[np.float32], Indices]:
    """Triangles [68], barycentrics [68, 3] float32 and mirror order [68] of the landmarks on the whole head."""
    order = mirror_order()
    faces, weights = np.full(68, -1), np.zeros((68, 3), dtype=np.float32)
    for landmark, vertex in _vertex_landmarks(half).items():
        faces[landmark], corner = np.argwhere(half.faces == vertex)[0]
        weights[landmark, corner] = 1
    for landmark, point in [*CHART_POINTS.items(), *zip(range(22, 27), BROW, strict=True)]:
        faces[landmark], weights[landmark] = _locate(half, np.asarray(point))
    left = np.flatnonzero(faces >= 0)
    for landmark in left:
        other = order[landmark]
        if other != landmark:
            faces[other] = faces[landmark] + len(half.faces)
            weights[other] = weights[landmark, ::-1]
    return faces, weights, order


IRIS_POINTS = 8
"""Points around the edge of each iris."""


def eye_vertices(half: HalfHead) -> dict[str, Indices]:
    """Vertices of the left eye by name, see Topology.eye_points."""
    first = int(np.flatnonzero(half.piece == Piece.EYEBALL)[0])
    edge = first + 1 + EYE_SEGMENTS * int(np.abs(EYE_ANGLES - IRIS_ANGLE).argmin())
    margin = half.flat.eye_rings[0]
    return {
        "left_pupil": np.array([first]),
        "left_iris": edge + np.arange(0, EYE_SEGMENTS, EYE_SEGMENTS // IRIS_POINTS),
        "left_upper_lid": margin[: EYE_STEPS + 1],
        "left_lower_lid": margin[[0, *range(2 * EYE_STEPS - 1, EYE_STEPS - 1, -1)]],
    }


def _locate(half: HalfHead, point: Array) -> tuple[int, NDArray[np.float32]]:
    """The chart triangle that holds a point, and where in it."""
    corners = half.flat.points[half.flat.triangles]  # [K, 3, 2]; skin triangles come first in half.faces
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = _cross(b - a, c - a)
    weights = np.stack([_cross(b - point, c - point), _cross(c - point, a - point), _cross(a - point, b - point)], 1) / area[:, None]
    best = int(weights.min(1).argmax())
    inside = np.round(np.maximum(weights[best], 0) * 2**16) / 2**16
    return best, (inside / inside.sum()).astype(np.float32)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
