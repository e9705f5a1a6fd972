"""The left half of the default head as one mesh: skin, lid margins, mouth cavity and the parts, joined and labelled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from next3d.head.chart import BOTTOM, EYE_STEPS, TOP, Chart, Indices, build_chart, chart_to_uv, rays
from next3d.head.parts import MOUTH_DEPTHS, Part, ear, eyeball, mouth_cavity, teeth, tongue
from next3d.head.sculpt import EYE_CENTER, EYE_RADIUS, Array, cast, mouth_line

JAW_HINGE = np.array([0.0, -1.6, -6.9])
NECK_JOINT = np.array([0.0, -6.0, -9.0])


class Piece(IntEnum):
    """What a vertex belongs to."""

    SKIN = 0
    LID_MARGIN = 1
    EYEBALL = 2
    EAR = 3
    UPPER_TEETH = 4
    LOWER_TEETH = 5
    TONGUE = 6
    CAVITY = 7


@dataclass(frozen=True)
class HalfHead:
    """The left half (x >= 0), n vertices in cm."""

    vertices: Array
    """[n, 3]; x is exactly 0 on the middle line."""
    faces: Indices
    """[m, 3], counter-clockwise from outside."""
    uv: Array
    """[k, 2]; the middle line of the skin's front has u = 0.5 exactly."""
    uv_faces: Indices
    """[m, 3]."""
    piece: Indices
    """[n], Piece."""
    chart: Array
    """[n, 2]: chart coordinates of skin vertices, NaN elsewhere."""
    jaw: Array
    """[n] in [0, 1]: how far a vertex follows the jaw."""
    flat: Chart
    """The skin's chart; its indices are vertex indices too."""
    lid_margin: Indices
    """[2 * EYE_STEPS]: where each lid's inner edge meets the eyeball, in the order of Chart.eye_rings."""


def build_half() -> HalfHead:
    """Sculpt and join everything."""
    chart = build_chart()
    flat = _weld_crown(chart)
    skin = _skin_vertices(flat)
    jaw = skin_jaw_weight(flat.points, skin)
    margin, margin_uv, margin_faces = _lid_margin(flat, skin)
    rim = np.concatenate([flat.upper_lip[0], flat.lower_lip[0][-2::-1]])
    cavity, cavity_uv, cavity_faces = mouth_cavity(skin[rim])
    builder = _Builder(skin, flat.triangles, chart_to_uv(chart.points), chart.triangles, jaw)
    first_margin = builder.hang(flat.eye_rings[0], margin, margin_uv, margin_faces, Piece.LID_MARGIN, np.zeros(len(margin)))
    builder.hang(rim, cavity, cavity_uv, cavity_faces, Piece.CAVITY, _cavity_jaw_weight(jaw[rim]))
    for piece, part, weight in (
        (Piece.EYEBALL, eyeball(), 0.0),
        (Piece.EAR, ear(), 0.0),
        (Piece.UPPER_TEETH, teeth(upper=True), 0.0),
        (Piece.LOWER_TEETH, teeth(upper=False), 1.0),
        (Piece.TONGUE, tongue(), 1.0),
    ):
        builder.add(part, piece, weight)
    coordinates = np.full((builder.count, 2), np.nan)
    coordinates[: len(skin)] = flat.points
    lid_margin = first_margin + np.arange(len(margin))
    return HalfHead(*builder.arrays(), coordinates, np.concatenate(builder.jaw), flat, lid_margin)


class _Builder:
    """Grows vertex, face and label lists together."""

    def __init__(self, skin: Array, triangles: Indices, uv: Array, uv_triangles: Indices, jaw: Array) -> None:
        self.vertices, self.faces, self.uv, self.uv_faces = [skin], [triangles], [uv], [uv_triangles]
        self.piece = [np.full(len(skin), int(Piece.SKIN))]
        self.jaw = [jaw]
        self.count, self.uv_count = len(skin), len(uv)

    def _append(self, vertices: Array, uv: Array, piece: Piece, jaw: Array) -> None:
        self.vertices.append(vertices)
        self.uv.append(uv)
        self.piece.append(np.full(len(vertices), int(piece)))
        self.jaw.append(jaw)
        self.count += len(vertices)
        self.uv_count += len(uv)

    def add(self, part: Part, piece: Piece, jaw: float) -> None:
        """A separate part that follows the jaw as a whole."""
        self.faces.append(part.faces + self.count)
        self.uv_faces.append(part.faces + self.uv_count)
        self._append(part.vertices, part.uv, piece, np.full(len(part.vertices), jaw))

    def hang(self, rim: Indices, vertices: Array, uv: Array, faces: Indices, piece: Piece, jaw: Array) -> int:
        """Vertices joined to existing `rim` vertices, with texture coordinates of their own; returns the first new index."""
        first = self.count
        index = np.concatenate([rim, first + np.arange(len(vertices))])
        self.faces.append(index[faces])
        self.uv_faces.append(faces + self.uv_count)
        self._append(vertices, uv, piece, jaw)
        return first

    def arrays(self) -> tuple[Array, Indices, Array, Indices, Indices]:
        """Everything joined: vertices, faces, uv, uv_faces, piece."""
        return (
            np.concatenate(self.vertices),
            np.concatenate(self.faces),
            np.concatenate(self.uv),
            np.concatenate(self.uv_faces),
            np.concatenate(self.piece),
        )


def _weld_crown(chart: Chart) -> Chart:
    """The chart with its top edge, which is one point of the head, as a single vertex (the first of them).

    No triangle loses its area by that, because none has two corners there: see chart.build_chart.
    """
    crown = np.flatnonzero(chart.points[:, 1] == TOP)
    keep = np.ones(len(chart.points), dtype=bool)
    keep[crown[1:]] = False
    index = np.cumsum(keep) - 1
    index[crown] = index[crown[0]]
    return Chart(chart.points[keep], index[chart.triangles], index[chart.eye_rings], index[chart.upper_lip], index[chart.lower_lip])


def _skin_vertices(flat: Chart) -> Array:
    origins, directions = rays(flat.points)
    vertices = cast(origins, directions)
    middle = (flat.points[:, 0] == 0) | (np.abs(vertices[:, 0]) < 1e-6) | (flat.points[:, 1] == TOP)
    vertices[middle, 0] = 0.0
    return _crease(flat, _fold(flat, _fair(flat, vertices, middle)))


def _fair(flat: Chart, vertices: Array, middle: np.ndarray, rounds: int = 3) -> Array:
    """Even out the skin where nothing small is modelled: a few steps towards the neighbours' mean."""
    p, q = flat.points.T
    nose = np.exp(-((p / 2.0) ** 4) - ((q + 3.2) / 2.6) ** 4)
    free = 0.5 * (1 - 0.85 * nose)
    for rows, weight in ((flat.eye_rings[-2:], 0.15), (flat.eye_rings[:-2], 0.0), (flat.upper_lip, 0.1), (flat.lower_lip, 0.1)):
        free[rows] = weight
    free[flat.upper_lip[0]] = free[flat.lower_lip[0]] = 0.0
    free[(q <= BOTTOM) | (q >= TOP)] = 0.0
    neck = q < -9.8
    edges = np.concatenate([flat.triangles[:, [0, 1]], flat.triangles[:, [1, 2]], flat.triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    edges = np.concatenate([edges, edges[:, ::-1]])
    count = np.maximum(np.bincount(edges[:, 0], minlength=len(vertices)), 1)
    for step in range(3 * rounds):
        moving = free if step < rounds else free * neck
        mean = np.stack([np.bincount(edges[:, 0], vertices[edges[:, 1], axis], len(vertices)) for axis in range(3)], 1) / count[:, None]
        vertices = vertices + moving[:, None] * (mean - vertices)
        vertices[middle, 0] = 0.0
    return vertices


NASOLABIAL = ((1.95, -4.3), (2.45, -5.2), (2.95, -6.3), (3.15, -7.1))
"""The fold between cheek and upper lip in the chart, from the nose's wing to beside the mouth."""


def _fold(flat: Chart, vertices: Array) -> Array:
    """The fold from the nose's wing to the mouth's corner, deeper above: a groove, and the cheek's edge beside it."""
    p, q = flat.points.T
    line = np.array(NASOLABIAL)
    middle = np.interp(-q, -line[:, 1], line[:, 0])
    strength = smoothstep(-4.0, -4.6, q) * smoothstep(-7.6, -5.4, q) * (p < 6)
    groove, edge = np.exp(-(((p - middle) / 0.3) ** 2)), np.exp(-(((p - middle - 0.75) / 0.55) ** 2))
    vertices = vertices.copy()
    vertices[:, 2] += strength * (0.07 * edge - 0.11 * groove)
    return vertices


def _crease(flat: Chart, vertices: Array) -> Array:
    """The fold above the upper lid and a faint one under the lower lid."""
    turn = np.pi * np.arange(2 * EYE_STEPS) / EYE_STEPS
    above, below = np.maximum(np.sin(turn), 0) ** 0.7, np.maximum(-np.sin(turn), 0) ** 0.7
    vertices = vertices.copy()
    for ring, fold, bulge in ((3, 0.1, 0.0), (4, 0.0, 0.05), (5, 0.0, 0.1)):
        vertices[flat.eye_rings[ring], 2] += (bulge - fold) * above - 0.35 * fold * below
    return vertices


def _lid_margin(flat: Chart, skin: Array) -> tuple[Array, Array, Indices]:
    """The lids' thickness: a strip from the outer edge of each margin to just inside the eyeball."""
    rim = flat.eye_rings[0]
    offset = skin[rim] - EYE_CENTER
    inner = EYE_CENTER + offset / np.linalg.norm(offset, axis=1, keepdims=True) * (EYE_RADIUS - 0.04)
    outline = flat.points[rim]
    middle = outline.mean(0)
    uv = chart_to_uv(np.concatenate([outline, outline + 0.15 * (middle - outline)]))
    count = len(rim)
    a = np.arange(count)
    b = (a + 1) % count
    faces = np.concatenate([np.stack([a, a + count, b], 1), np.stack([b, a + count, b + count], 1)])
    return inner, uv, faces


def smoothstep(low: float, high: float, x: Array) -> Array:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def skin_jaw_weight(chart: Array, vertices: Array) -> Array:
    """How far the skin follows the jaw: 1 on the lower lip and chin, 0 on the upper lip, a wide blend on the cheeks."""
    p, q = chart.T
    below = mouth_line(np.minimum(p, 2.5)) - q  # chart distance under the mouth line; the open lens sets the lips apart
    band = 0.24 + 1.0 * smoothstep(1.95, 3.1, p) + 0.42 * np.maximum(p - 2.6, 0)
    weight = smoothstep(-1, 1, below / band)
    weight *= smoothstep(-8.6, -4.6, vertices[:, 2])
    return weight * (1 - smoothstep(11.9, 15.2, -q))


def head_weights(half: HalfHead) -> tuple[Array, Array]:
    """How far each vertex [n] follows the neck joint (it bends over its whole length), and how far the jaw, which is never more."""
    v = half.vertices
    neck = smoothstep(-19.0, -9.5, v[:, 1] + 0.3 * np.minimum(v[:, 2] + 4.0, 0))
    neck[half.piece != Piece.SKIN] = 1.0
    return neck, np.minimum(half.jaw, neck)


def _cavity_jaw_weight(rim: Array) -> Array:
    """The cavity follows the lips at its rim and moves as one piece at its end."""
    depth = smoothstep(0.25, 1.0, np.array(MOUTH_DEPTHS))[:, None]
    return (rim * (1 - depth) + 0.4 * depth).ravel()
