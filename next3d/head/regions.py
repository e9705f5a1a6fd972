"""Regions, guide colours and UV mask of a head that is known by its mesh, skinning weights and 68 landmarks (FLAME).

Frame: object units (metres), x to the person's left, y up, z forward; the head is at rest and looks along +z. Lips, lids and the
mouth's inside are found by closed rings of edges through the landmarks around them; eyeballs are the separate parts that follow an
eye's joint; the face is what lies in front, inside the outline of the jaw and an assumed hairline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from torch import Tensor

from next3d.head.chart import Indices, inside_polygon
from next3d.head.model import Joint
from next3d.head.paint import LID, LIP_STRENGTH, LOWER_LIP, MASK_SIZE, MOUTH_INTERIOR, UPPER_LIP, eyeball_colors, skin_colors
from next3d.head.sculpt import Array
from torch_utils.ops.rasterize import rasterize

Mask = NDArray[np.bool_]

IRIS_ANGLE, PUPIL_ANGLE = 0.5, 0.17
"""Where iris and pupil end, radians from the gaze seen from the eyeball's centre: radii of 5.9 and 2 mm on an eye of 12.3 mm."""
LID_WIDTH = 0.16
"""The lids' extent from their margin, in widths of the eye."""
CORNEA_BULGE = 1.03
"""An eyeball whose farthest point is beyond this many median radii has a cornea there."""
OUTER_LIPS, INNER_LIPS = range(48, 60), range(60, 68)
UPPER_LANDMARKS, LOWER_LANDMARKS = (*range(48, 55), *range(60, 65)), (*range(55, 60), *range(65, 68))
LIDS = {"left": range(42, 48), "right": range(36, 42)}


@dataclass(frozen=True)
class HeadSurface:
    """A head at rest with V vertices."""

    vertices: Array
    """[V, 3]."""
    faces: Indices
    """[F, 3]."""
    weights: Array
    """[V, 5], skinning weights."""
    landmarks: Array
    """[68, 3]."""
    landmark_vertices: Indices
    """[68]: the vertex nearest to each landmark on its triangle: the lips touch, so the nearest in space might be on the other one."""


@dataclass(frozen=True)
class Eyeball:
    """A separate part that turns with an eye's joint."""

    mask: Mask
    """[V]."""
    unit: Array
    """[n, 3]: its vertices relative to its centre, in radii."""
    angle: Array
    """[n]: radians from the gaze."""


def find_eyeballs(surface: HeadSurface) -> dict[str, Eyeball]:
    """The eyeballs by side; those that are not separate parts are left out."""
    _, part = connected_components(_graph(surface), directed=False)
    found = {}
    for side, joint in (("left", Joint.LEFT_EYE), ("right", Joint.RIGHT_EYE)):
        share = np.bincount(part, surface.weights[:, joint]) / np.bincount(part)
        if share.max() > 0.5:
            found[side] = _eyeball(surface, part == share.argmax())
    return found


def _eyeball(surface: HeadSurface, mask: Mask) -> Eyeball:
    points = surface.vertices[mask] - surface.vertices[mask].mean(0)
    # The centre of the closest sphere |p|² = 2 p·c + r² - |c|², which need not be closed.
    sphere = np.linalg.lstsq(np.column_stack([2 * points, np.ones(len(points))]), (points**2).sum(1), rcond=None)[0]
    offset = points - sphere[:3]
    distance = np.linalg.norm(offset, axis=1)
    radius = max(float(np.median(distance)), 1e-9)
    gaze = np.array([0.0, 0.0, 1.0])
    if distance.max() > CORNEA_BULGE * radius:
        gaze = offset[distance.argmax()] / distance.max()
    cosine = offset @ gaze / np.maximum(distance, 1e-12)
    return Eyeball(mask, offset / radius, np.arccos(np.clip(cosine, -1, 1)))


def find_regions(surface: HeadSurface, known: Mapping[str, Mask]) -> dict[str, Mask]:
    """Vertex masks [V] by name, see `Topology.regions`; all but the eyes are sought on the largest connected part, the skin.

    Args:
        surface: the head.
        known: masks from elsewhere. They are taken before anything is guessed, but overlaps are resolved as Topology.regions says.

    Returns:
        face, lips, mouth_interior, left_lids, right_lids; eyes and irises if the eyeballs are separate; and what else is known.
    """
    eyeballs = find_eyeballs(surface)
    _, part = connected_components(_graph(surface), directed=False)
    skin: Mask = part == np.bincount(part).argmax()
    regions: dict[str, Mask] = {}
    for side, ball in eyeballs.items():
        regions[f"{side}_eye"] = ball.mask
        regions[f"{side}_iris"] = ball.mask.copy()
        regions[f"{side}_iris"][ball.mask] = ball.angle < IRIS_ANGLE
    hidden = np.zeros_like(skin)
    for side, landmarks in LIDS.items():
        regions[f"{side}_lids"], socket = _lids(surface, skin, landmarks)
        hidden |= socket & ~regions[f"{side}_lids"]
    inner = _Ring(surface, skin, INNER_LIPS)
    outer = _Ring(surface, skin, OUTER_LIPS)
    interior = inner.enclosed
    lips = known.get("lips", outer.enclosed | outer.on_ring | inner.on_ring) & skin & ~interior
    lids = regions["left_lids"] | regions["right_lids"]
    face = (known.get("face", _face(surface)) | lips | lids) & skin & ~interior & ~hidden
    regions |= {"face": face, "lips": lips, "mouth_interior": interior}
    taken = np.any([face, interior, *(ball.mask for ball in eyeballs.values())], axis=0)
    for name in sorted(known.keys() - regions.keys()):
        regions[name] = known[name] & ~taken
        taken = taken | regions[name]
    return regions


class _Ring:
    """A closed path along edges of the skin through landmarks, and what it encloses."""

    def __init__(self, surface: HeadSurface, skin: Mask, landmarks: Sequence[int]) -> None:
        graph, stops = _graph(surface), surface.landmark_vertices[list(landmarks)]
        _, before = dijkstra(graph, directed=False, indices=stops, return_predecessors=True)
        self.on_ring = np.zeros(len(skin), dtype=bool)
        for start, end in enumerate(np.roll(stops, -1)):
            while end >= 0:  # the predecessor of a path's first vertex is negative
                self.on_ring[end] = True
                end = before[start, end]
        self.distance: Array = dijkstra(graph, directed=False, indices=np.flatnonzero(self.on_ring), min_only=True)
        """[V]: way along the edges to the ring; infinite on other parts."""
        open_skin = np.flatnonzero(skin & ~self.on_ring)
        _, part = connected_components(graph[open_skin][:, open_skin], directed=False)
        self.enclosed = np.zeros(len(skin), dtype=bool)
        self.enclosed[open_skin] = part != np.bincount(part).argmax()


def _lids(surface: HeadSurface, skin: Mask, landmarks: Sequence[int]) -> tuple[Mask, Mask]:
    """The lids around six landmarks, and what their margin encloses (the socket's inside, in part lid)."""
    ring = _Ring(surface, skin, landmarks)
    corners = surface.landmarks[[landmarks[0], landmarks[3]]]
    return ring.distance <= LID_WIDTH * np.linalg.norm(corners[1] - corners[0]), ring.enclosed


def _face(surface: HeadSurface) -> Mask:
    """In front of the ears, inside the jaw's outline and below a hairline that is as far above the brows as the nose is below."""
    jaw, brow, nose = surface.landmarks[:17], surface.landmarks[17:27, 1].mean(), surface.landmarks[33, 1]
    right, left = jaw[0, :2], jaw[16, :2]
    turn = np.linspace(0, np.pi, 33)[1:-1, None]
    middle, half = 0.5 * (left + right), 0.5 * (left - right)
    arc = middle + half * np.cos(turn) + np.array([0.0, 2 * brow - nose - middle[1]]) * np.sin(turn)
    inside = inside_polygon(np.concatenate([jaw[:, :2], arc]), surface.vertices[:, :2])
    return inside & (surface.vertices[:, 2] > jaw[[0, 16], 2].min())


def region_colors(surface: HeadSurface, regions: Mapping[str, Mask]) -> Array:
    """Guide colours [V, 3] in [-1, 1], in the tones of the default head; equal on both sides."""
    eyes = surface.landmarks[36:48].mean(0)
    colors = skin_colors(100 * (surface.vertices - eyes))
    lids = regions["left_lids"] | regions["right_lids"]
    colors[lids] = LID
    upper, lower = (
        dijkstra(_graph(surface), directed=False, indices=surface.landmark_vertices[list(landmarks)], min_only=True)
        for landmarks in (UPPER_LANDMARKS, LOWER_LANDMARKS)
    )
    for lip, tone in ((upper <= lower, UPPER_LIP), (upper > lower, LOWER_LIP)):
        part = regions["lips"] & lip
        colors[part] = (1 - LIP_STRENGTH) * colors[part] + LIP_STRENGTH * tone
    colors[regions["mouth_interior"]] = MOUTH_INTERIOR
    for side, ball in find_eyeballs(surface).items():
        unit = ball.unit * np.array([1.0 if side == "left" else -1.0, 1.0, 1.0])
        colors[ball.mask] = np.clip(eyeball_colors(unit, ball.angle, IRIS_ANGLE, PUPIL_ANGLE), -1, 1)
    return colors


def region_uv_mask(faces: Tensor, uvs: Tensor, uv_faces: Tensor, regions: Mapping[str, Mask]) -> Tensor:
    """UV mask [1, M, M] in [0, 1], row 0 at v = 1: triangles of face and eyes without the mouth's inside, with soft edges."""
    shown = regions["face"] | regions.get("left_eye", False) | regions.get("right_eye", False)
    chosen = torch.from_numpy(shown)[faces].all(dim=1)
    points = torch.cat([2 * uvs - 1, torch.zeros(len(uvs), 1)], dim=1) * torch.tensor([1.0, -1.0, 1.0])
    size = 2 * MASK_SIZE
    covered = rasterize(points[None], uv_faces[chosen], (size, size)).face[0] >= 0
    soft = uniform_filter(covered.numpy().astype(np.float64), 4)[::2, ::2]
    return torch.from_numpy((np.round(soft * 255) / 255).astype(np.float32))[None]


def _graph(surface: HeadSurface) -> csr_matrix:
    """[V, V]: lengths of the edges."""
    faces = surface.faces
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    lengths = np.linalg.norm(surface.vertices[edges[:, 0]] - surface.vertices[edges[:, 1]], axis=1)
    count = len(surface.vertices)
    return coo_matrix((np.maximum(lengths, 1e-12), (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
