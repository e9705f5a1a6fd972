"""Looks at one face: MediaPipe's landmark model on a chosen square of a picture, turned and mirrored as one likes, with its own certainty.

The landmark model sees 192 x 192 pixels of a square that the caller gives, so a face can be looked at in several ways and the mean taken:
a mirrored, slightly turned, shifted or larger square has other errors. `MIRRORED` exchanges left and right among the 478 points.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from next3d.head.dense import DENSE_COUNT, IRIS_START, POINTS_FILE
from next3d.tracking.types import Face, Pixels, Points

OUTER_CORNERS = (33, 263)
"""Outer corners of the person's right and left eye."""
MARGIN = 1.5
"""Side of the square that the landmark model looks at, as a part of the longer side of the box around the points."""
_PLACES_ERROR = 0.07
"""World units: at this distance a mirrored place argues as much against a pair as neighbours that do not match at all."""
_PATCH = 256
"""Pixels across the square in the patch that is looked at; the landmark model sees 192."""
_TRIES = 4
_NOTHING = 0.05
"""Presence below which a first look sees no face at all."""
_SCALES = (1.08, 0.85)
"""Sizes of the squares of several looks: eyes are seen best from close by, lips and outline with something around them."""
_TOGETHER, _APART = 0.015, 0.12
"""Median spread of the looks, in parts of the eyes' distance, up to which they agree and from which they do not at all. On 100 synthetic
portraits it was 0.01 in the median and 0.067 at most, on faces that stand on their heads and were seen upright 0.03 to 0.06, on walls 0.1
and more."""
_PRESENCE = "facelandmarkcpu__face_presence_score"
"""MediaPipe's name, inside its graph, for how sure the landmark model is that it sees a face."""


@dataclass(frozen=True)
class Square:
    """A turned square of a picture."""

    x: float
    """Centre, pixels."""
    y: float
    side: float
    turn: float = 0.0
    """Radians; positive turns the square's right side down, as a head that leans to the picture's right."""

    def moved(self, right: float, down: float, scale: float, turn: float) -> Square:
        """Shifted along its own sides (in parts of its side), scaled and turned about its centre."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        x = self.x + self.side * (c * right - s * down)
        return Square(x, self.y + self.side * (s * right + c * down), self.side * scale, self.turn + turn)

    def mirrored(self, width: float) -> Square:
        """The same square of the mirrored picture."""
        return Square(width - self.x, self.y, self.side, -self.turn)


@dataclass(frozen=True)
class Look:
    """What one look saw."""

    points: Points
    """[478, 3], pixels of the picture, depth on the same scale."""
    presence: float
    """How sure the landmark model is that this is a face, in [0, 1]."""


class AnyLooker(Protocol):
    """What looks at faces: the model in MediaPipe's package, or one of its task API."""

    def look(self, image: Pixels, square: Square) -> Look:
        """The 478 points as seen in a square of a picture [H, W, 3]."""

    def close(self) -> None:
        """Free the model."""


class Looker:
    """Runs the landmark model. Close it when done."""

    def __init__(self) -> None:
        self._graph = _open_graph()

    def look(self, image: Pixels, square: Square) -> Look:
        """The 478 points as seen in a square of a picture [H, W, 3]; on anything that is no face they mean nothing, and presence is low."""
        rect: Any = importlib.import_module("mediapipe.framework.formats.rect_pb2")
        height, width = image.shape[:2]
        where = rect.NormalizedRect(
            x_center=square.x / width,
            y_center=square.y / height,
            width=square.side / width,
            height=square.side / height,
            rotation=square.turn,
        )
        seen = self._graph.process({"image": image, "roi": where})
        points = np.array([[point.x, point.y, point.z] for point in seen.landmarks.landmark], dtype=np.float64)
        return Look(points * np.array([width, height, width], dtype=np.float64), float(getattr(seen, _PRESENCE)))

    def close(self) -> None:
        """Free the model."""
        self._graph.close()


def _open_graph() -> Any:
    """MediaPipe's landmark model alone, without the detector and the tracker that its face mesh puts around it."""
    base: Any = importlib.import_module("mediapipe.python.solution_base")
    config: Any = importlib.import_module("mediapipe.framework.calculator_pb2").CalculatorGraphConfig()
    streams = ["IMAGE:image", "ROI:roi"]
    config.input_stream.extend(streams)
    config.output_stream.extend(["LANDMARKS:landmarks", _PRESENCE])
    config.input_side_packet.append("WITH_ATTENTION:with_attention")
    node = config.node.add()
    node.calculator = "FaceLandmarkCpu"
    node.input_stream.extend(streams)
    node.output_stream.append("LANDMARKS:landmarks")
    node.input_side_packet.append("WITH_ATTENTION:with_attention")
    kinds = base.PacketDataType
    return base.SolutionBase(
        graph_config=config,
        calculator_params={"facelandmarkcpu__ThresholdingCalculator.threshold": 0.0},  # the score decides, not the graph
        side_inputs={"with_attention": True},
        outputs=["landmarks", _PRESENCE],
        stream_type_hints={"image": kinds.IMAGE_FRAME, "roi": kinds.PROTO, "landmarks": kinds.PROTO, _PRESENCE: kinds.FLOAT},
    )


def settle(looker: AnyLooker, image: Pixels, square: Square) -> Square | None:
    """The square that fits the face which a look into a rough square sees; None if there is no face."""
    for _ in range(_TRIES):
        patch = cut_patch(image, square)
        look = looker.look(patch.pixels, patch.inwards(square))
        if look.presence < _NOTHING:
            return None
        found = square_around(patch.outwards(look.points))
        settled, square = fits(square, found), found
        if settled:
            break
    return square


def fits(square: Square, found: Square) -> bool:
    """Whether a square was so near to the one around the face that was then found in it that another look would not see more."""
    moved = math.hypot(found.x - square.x, found.y - square.y) / square.side
    turned = abs(math.remainder(found.turn - square.turn, 2 * math.pi))
    return moved < 0.02 and abs(math.log(found.side / square.side)) < 0.04 and turned < 0.04


def look_often(looker: AnyLooker, image: Pixels, square: Square, looks: int) -> Face:
    """The mean of several looks at the face in a square that fits it."""
    patch = cut_patch(image, square)
    mirrored = np.ascontiguousarray(patch.pixels[:, ::-1])
    inner, width = patch.inwards(square), patch.pixels.shape[1]
    seen = []
    ways = _ways(looks)
    for scale, mirror in ways:
        moved = inner.moved(0, 0, scale, 0)
        look = looker.look(mirrored, moved.mirrored(width)) if mirror else looker.look(patch.pixels, moved)
        points = mirror_points(look.points, width) if mirror else look.points
        seen.append(Look(patch.outwards(points), look.presence))
    return _merge(seen, [scale for scale, _ in ways])


def _ways(looks: int) -> list[tuple[float, bool]]:
    """Scale of the square, and whether the picture is mirrored, for each look."""
    if looks <= 2:
        return [(1.0, False), (1.0, True)][:looks]
    scales = [_SCALES[k % 2] + 0.04 * (k // 2) for k in range((looks + 1) // 2)]
    return [(scale, mirror) for scale in scales for mirror in (False, True)][:looks]


def _merge(seen: list[Look], scales: Sequence[float]) -> Face:
    """The mean of looks; the less they agree, the less sure it is."""
    points = np.stack([look.points for look in seen])  # [L, 478, 3]
    presence = float(np.mean([look.presence for look in seen]))
    if len(seen) == 1:
        return Face(points[0], presence)
    mean, spread = points.mean(axis=0), _deviation(points)
    score = presence * _agreement(float(np.median(spread)) / eye_distance(mean))
    wide = np.array(scales) >= 1
    if not wide.all():
        share = _close_share()[:, None]
        mean = share * points[~wide].mean(axis=0) + (1 - share) * points[wide].mean(axis=0)
    return Face(mean, score, spread)


def _deviation(points: Points) -> Points:
    """[478]: standard deviation of one of L >= 2 looks [L, 478, 3], across the picture."""
    return np.sqrt(np.square(points - points.mean(axis=0))[..., :2].sum(axis=(0, 2)) / (2 * (len(points) - 1)))


@lru_cache(maxsize=1)
def _close_share() -> npt.NDArray[np.float64]:
    """[478]: how much of each point comes from the close looks."""
    named: Any = importlib.import_module("mediapipe.python.solutions.face_mesh_connections")
    share = np.full(DENSE_COUNT, 0.5)
    for edges, value in ((named.FACEMESH_LIPS | named.FACEMESH_FACE_OVAL, 0.0), (named.FACEMESH_LEFT_EYE | named.FACEMESH_RIGHT_EYE, 1.0)):
        share[[point for edge in edges for point in edge]] = value
    share[IRIS_START:] = 1
    return share


def _agreement(spread: float) -> float:
    """1 where looks agree, 0 where they see different things."""
    return float(np.clip((_APART - spread) / (_APART - _TOGETHER), 0, 1))


def eye_distance(points: Points) -> float:
    """Pixels between the outer corners of the eyes, in three dimensions: a head that turns away keeps it."""
    return float(np.linalg.norm(points[OUTER_CORNERS[0]] - points[OUTER_CORNERS[1]]))


@dataclass(frozen=True)
class Patch:
    """The surroundings of a face, reduced to what the landmark model can use."""

    pixels: Pixels
    left: int
    """Photo pixels."""
    top: int
    scale: float
    """Photo pixels per pixel of the patch."""

    def inwards(self, square: Square) -> Square:
        """A square of the photo, as it lies in the patch."""
        return Square((square.x - self.left) / self.scale, (square.y - self.top) / self.scale, square.side / self.scale, square.turn)

    def outwards(self, points: Points) -> Points:
        """Points [478, 3] of the patch in photo coordinates."""
        return points * self.scale + (self.left, self.top, 0)


def cut_patch(image: Pixels, square: Square) -> Patch:
    """What lies around a square of a photo [H, W, 3], the square itself at most `_PATCH` pixels large."""
    height, width = image.shape[:2]
    reach = square.side  # half the width: the square, turned anyhow and moved a little, stays inside
    left, top = (int(np.clip(low, 0, most - 1)) for low, most in ((square.x - reach, width), (square.y - reach, height)))
    right, bottom = (
        int(np.clip(high, low + 1, most)) for high, low, most in ((square.x + reach, left, width), (square.y + reach, top, height))
    )
    part = image[top:bottom, left:right]
    pixels, scale = reduce(part, square.side / _PATCH)
    return Patch(pixels, left, top, scale)


def reduce(image: Pixels, factor: float) -> tuple[Pixels, float]:
    """A picture [H, W, 3] made smaller, and by how much: about `factor`; as it is where that is 1 or less.

    Each pixel is the mean of what it covers, or of nine places in it where it covers many.
    """
    if factor <= 1:
        return np.ascontiguousarray(image), 1.0
    opencv: Any = importlib.import_module("cv2")  # MediaPipe needs it, too; Pillow takes ten times as long for large photos
    step = max(1, int(factor // 3))
    size = max(1, round(image.shape[1] / factor)), max(1, round(image.shape[0] / factor))
    thinned = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])
    return opencv.resize(thinned, size, interpolation=opencv.INTER_AREA), image.shape[1] / size[0]


def square_around(points: Points) -> Square:
    """The square that the landmark model should look at to see points [478, >= 2] again: upright with the eyes, `MARGIN` around them."""
    across = points[OUTER_CORNERS[1], :2] - points[OUTER_CORNERS[0], :2]
    turn = math.atan2(across[1], across[0])
    c, s = math.cos(turn), math.sin(turn)
    upright = points[:, :2] @ np.array([[c, -s], [s, c]])  # coordinates along the square's sides
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = np.array([[c, -s], [s, c]]) @ ((low + high) / 2)
    return Square(float(x), float(y), float((high - low).max()) * MARGIN, turn)


@lru_cache(maxsize=1)
def mirror_numbers() -> npt.NDArray[np.int64]:
    """[478]: for each point the one on the other side of the face, itself on the middle line.

    Found from the geometry of the points: where they lie on the default head, pair them with mirrored points so that the squared distances
    sum to the least. Where points crowd (corners of the mouth, nostrils) their places are not exact enough to tell neighbours apart,
    so a second pairing also asks that the neighbours of a point on the face's triangles go to neighbours of its partner.
    """
    places = np.array(json.loads(POINTS_FILE.read_text())["places"])  # [478, 3]
    distance = np.square(places[:, None] - (places * (-1, 1, 1))[None]).sum(axis=2)
    skin, iris = distance[:IRIS_START, :IRIS_START], distance[IRIS_START:, IRIS_START:]
    edges = np.zeros_like(skin)
    for first, second in importlib.import_module("mediapipe.python.solutions.face_mesh_connections").FACEMESH_TESSELATION:
        edges[first, second] = edges[second, first] = 1
    rough = linear_sum_assignment(skin)[1]
    kept = edges @ np.eye(IRIS_START)[rough] @ edges  # [i, j]: how many neighbours of i have partners beside j
    degree = edges.sum(axis=1)
    lost = 1 - 2 * kept / (degree[:, None] + degree[None])
    skin_pairs = linear_sum_assignment(lost + skin / _PLACES_ERROR**2)[1]
    return np.concatenate([skin_pairs, IRIS_START + linear_sum_assignment(iris)[1]])


def mirror_points(points: Points, width: float) -> Points:
    """Points [478, 3] found in a mirrored picture, as they are in the picture itself."""
    return (points * (-1, 1, 1) + (width, 0, 0))[mirror_numbers()]
