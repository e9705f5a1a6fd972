"""MediaPipe's face mesh as a judge of synthetic portraits: what it finds, where its points lie on our head, what it reads off a face."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dnnlib.files import atomic_write
from next3d.head.dense import DENSE_COUNT, IRIS_START, outer_faces, reference_vertices
from next3d.head.model import HeadModel, HeadParams
from next3d.render.cameras import project
from next3d.tracking.face_mesh import FaceMesh, open_face_mesh
from next3d.types import Camera

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

# Numbers of single points. "Upper" and "lower" lips run from corner to corner; the corners belong to both.
UPPER_LIP = (185, 40, 39, 37, 0, 267, 269, 270, 409, 191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324)
INNER_LIPS = ((82, 87), (13, 14), (312, 317))
OUTER_EYE_CORNERS = (33, 263)
EYES = {
    # corners (outer, inner), pairs of points on the upper and the lower lid, centre of the iris
    "right": ((33, 133), ((160, 144), (159, 145), (158, 153)), 468),
    "left": ((263, 362), ((387, 373), (386, 374), (385, 380)), 473),
}
NOSE_BASE, CHIN = 2, 152
JAW_WEIGHTS, JAW_REST = np.array([1.85, -1.08, 1.06, 0.88, 1.18, 0.98, -0.11]), 0.07
"""From `jaw_distances` to radians: least squares over the portraits of other seeds than those that are judged
(`python -m bench.portraits --fit`)."""

_LOOKS = 4
"""How often a detector that follows a face looks at a picture that stands still."""
_SAMPLES = torch.tensor([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [3, 3, 0], [0, 3, 3], [3, 0, 3]], dtype=torch.float32)
"""Places tried in each triangle."""


class FaceReader:
    """Finds faces in single pictures, and follows one through looks at the same picture to read what it does."""

    def __init__(self, detector: FaceMesh, follower: Any) -> None:
        self._detector = detector
        self._follower = follower

    def find(self, image: Pixels) -> list[Array]:
        """Points [478, 3] of each face in an RGB image [H, W, 3]: pixels, and depth on the same scale."""
        return self._detector.find(image)

    def follow(self, image: Pixels) -> Array | None:
        """The points [478, 3] of one face, found as in a film that stands still: each look begins where the last one saw the face."""
        self._follower.reset()
        seen: list[Array] = []
        for _ in range(_LOOKS):
            seen = FaceMesh(self._follower).find(image)
        return seen[0] if seen else None

    def read(self, image: Pixels, control: str) -> float | None:
        """What the points say about a control: the mean over the picture and its mirror image; None where no face is found."""
        plain, mirrored = self.follow(image), self.follow(np.ascontiguousarray(image[:, ::-1]))
        if plain is None or mirrored is None:
            return None
        return (READERS[control](plain) + (-1 if control == "gaze" else 1) * READERS[control](mirrored)) / 2


@contextmanager
def open_face_reader() -> Iterator[FaceReader]:
    """MediaPipe's detector twice: for up to two faces in single pictures, and for one that it follows."""
    make: Any = importlib.import_module("mediapipe").solutions.face_mesh.FaceMesh
    with open_face_mesh() as detector, make(static_image_mode=False, max_num_faces=1, refine_landmarks=True) as follower:
        yield FaceReader(detector, follower)


def regions() -> dict[str, list[int]]:
    """Points by part of the face; every point is in exactly one."""
    named: Any = importlib.import_module("mediapipe.python.solutions.face_mesh_connections")

    def points(*edges: Iterable[tuple[int, int]]) -> set[int]:
        return {point for some in edges for edge in some for point in edge}

    parts = {
        "irises": set(range(IRIS_START, DENSE_COUNT)),
        "eyes": points(named.FACEMESH_LEFT_EYE, named.FACEMESH_RIGHT_EYE),
        "brows": points(named.FACEMESH_LEFT_EYEBROW, named.FACEMESH_RIGHT_EYEBROW),
        "lips": points(named.FACEMESH_LIPS),
        "nose": points(named.FACEMESH_NOSE),
        "outline": points(named.FACEMESH_FACE_OVAL),
        "cheeks_and_forehead": set(range(DENSE_COUNT)),
    }
    taken: set[int] = set()
    split = {}
    for name, members in parts.items():
        split[name] = sorted(members - taken)
        taken |= members
    return split


def eye_distance(points: Array) -> float:
    """Pixels between the outer corners of the eyes in points [478, >= 2]."""
    return float(np.linalg.norm(points[OUTER_EYE_CORNERS[0], :2] - points[OUTER_EYE_CORNERS[1], :2]))


def jaw_distances(points: Array) -> Array:
    """[7] distances in three dimensions from points [478, 3], which turning the head leaves alone; 1 is that of the outer eye corners.

    The gap between the lips; nose to chin; nose to upper lip; height of the upper and of the lower lip; lower lip to chin; mouth's width.
    """

    def between(first: int, second: int) -> float:
        return float(np.linalg.norm(points[first] - points[second]))

    gap = np.mean([between(up, low) for up, low in INNER_LIPS])
    rest = [between(*pair) for pair in ((NOSE_BASE, CHIN), (NOSE_BASE, 0), (0, 13), (14, 17), (17, CHIN), (78, 308))]
    return np.array([gap, *rest]) / between(*OUTER_EYE_CORNERS)


def read_jaw(points: Array) -> float:
    """How far the jaw is open, radians: the gap between the lips, and how much the way from nose over lips to chin bends.

    Lips part without the jaw, too; a chin that swings down and back is nearer to the nose than that way is long.
    """
    return float(JAW_WEIGHTS @ jaw_distances(points)) + JAW_REST


def read_blink(points: Array) -> float:
    """How far the eyes are shut: minus the gap between the lids, relative to the eye's width, mean of both."""
    shares = []
    for (outer, inner), lids, _ in EYES.values():
        width = np.linalg.norm(points[outer] - points[inner])
        shares.append(np.mean([np.linalg.norm(points[up, :2] - points[low, :2]) for up, low in lids]) / width)
    return -float(np.mean(shares))


def read_gaze(points: Array) -> float:
    """How far the irises are to the picture's right between the corners of their eyes."""
    places = []
    for (outer, inner), _, iris in EYES.values():
        middle, along = (points[outer, :2] + points[inner, :2]) / 2, points[outer, :2] - points[inner, :2]
        along = along * np.sign(along[0])
        places.append((points[iris, :2] - middle) @ along / (along @ along))
    return float(np.mean(places))


READERS = {"jaw": read_jaw, "blink": read_blink, "gaze": read_gaze}


@torch.no_grad()
def fit_places(head: HeadModel, params: HeadParams, cameras: Camera, found: Array, size: int) -> Array:
    """Where the detector's points lie on a head.

    Every point becomes the place of the surface whose projections are, over all pictures, nearest to the detector's points.

    Args:
        head: the model in the pictures.
        params: N heads, without expression.
        cameras: N cameras.
        found: [N, 478, >= 2], pixels.
        size: width and height of the pictures.

    Returns:
        [478, 3]: places as `next3d.head.dense` stores them.
    """
    vertices, reference = head(params).vertices, reference_vertices(head)
    shift = (reference - head(head.neutral(1)).vertices[0]).norm(dim=1)
    points = torch.from_numpy(found[..., :2]).float()
    scale = torch.tensor([eye_distance(face) for face in found]).float()
    places = torch.zeros(DENSE_COUNT, 3)
    skin, iris = outer_faces(head)
    skin = skin[_faces_viewer(reference, skin)]
    moving = shift[skin].mean(dim=1) > 0.5 * float(shift[head.topology.regions["lips"]].max())
    still = shift[skin].mean(dim=1) < 0.1 * float(shift[head.topology.regions["lips"]].max())
    lips = set(UPPER_LIP) | set(LOWER_LIP)
    rest = [k for k in range(IRIS_START) if k not in lips]
    for numbers, faces in (
        (rest, skin), (list(UPPER_LIP), skin[still]), (list(LOWER_LIP), skin[moving]), (list(range(IRIS_START, DENSE_COUNT)), iris),
    ):  # fmt: skip
        weights = _SAMPLES / _SAMPLES.sum(dim=1, keepdim=True)
        candidates = torch.einsum("sk,nfkc->nfsc", weights, vertices[:, faces]).flatten(1, 2)  # [N, C, 3]
        shown = (project(candidates, cameras)[..., :2] + 1) * (size / 2)
        stored = torch.einsum("sk,fkc->fsc", weights, reference[faces]).flatten(0, 1)
        for number in numbers:
            distance = (shown - points[:, number, None]).norm(dim=2) / scale[:, None]
            places[number] = stored[distance.clamp_max(0.3).mean(dim=0).argmin()]
    return places.double().numpy()


def _faces_viewer(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Triangles [F] bool that look forwards or sideways."""
    a, b, c = vertices[faces].unbind(dim=1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    return (normal[:, 2] > -0.1) & (vertices[faces].mean(dim=1)[:, 2] > vertices[:, 2].quantile(0.4))


def save_places(places: Array, head: HeadModel, path: Path, conditions: Mapping[str, object]) -> None:
    """Write the table that `next3d.head.dense` reads."""
    content = {"head": head.identifier, **conditions, "places": [[round(float(value), 5) for value in place] for place in places]}
    text = json.dumps(content).replace('"places": [', '"places": [\n').replace("], [", "],\n[")
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n")
