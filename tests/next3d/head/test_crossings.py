"""Lids, lips, teeth and tongue do not go through each other, up to a tenth of a millimetre, within the documented limits."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from next3d.head.half import Piece, build_half
from next3d.head.limits import JOINT_LIMITS, limit_expression
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel
from next3d.head.procedural import CM_TO_WORLD, procedural_head
from next3d.synthetic.sampling import sample_params
from tests.next3d.head.intersections import Indices, crossing_pairs

TOLERANCE = 0.01
"""cm."""
PAIRS = (
    ("lips", "lips"), ("lips", "upper_teeth"), ("lips", "lower_teeth"), ("lips", "tongue"), ("upper_teeth", "lower_teeth"),
    ("tongue", "upper_teeth"), ("tongue", "lower_teeth"), ("lids", "lids"), ("lid_skin", "eyeballs"),
    ("around_mouth", "cavity"),
)  # fmt: skip


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    return procedural_head()


@pytest.fixture(scope="module")
def groups(head: LinearHeadModel) -> dict[str, Indices]:
    """Triangles by part. A lid's margin ends a little inside the eyeball, so that no light gets in: lid_skin leaves margins out."""
    regions = {name: mask.numpy() for name, mask in head.topology.regions.items()}
    faces, jaw = head.topology.faces.numpy(), head.weights[:, Joint.JAW].numpy() > 0.5
    assert head.topology.mirror_vertices is not None
    half = build_half()
    pieces = np.zeros(len(jaw), dtype=np.int64)
    pieces[head.topology.mirror_vertices[: len(half.piece)].numpy()] = half.piece
    pieces[: len(half.piece)] = half.piece
    skin = np.isin(pieces, [int(Piece.SKIN), int(Piece.LID_MARGIN)])[faces].all(1)
    lids = skin & (regions["left_lids"] | regions["right_lids"])[faces].any(1)
    rest = head.template.numpy() * (OBJECT_TO_WORLD / CM_TO_WORLD)  # cm; the mouth is around (0, -4.7, 8.6)
    around_mouth = (np.abs(rest - [0.0, -4.7, 8.6]) < [5, 5, 3]).all(1) & (pieces == Piece.SKIN)
    all_of = lambda mask: faces[mask[faces].all(1)]  # noqa: E731
    return {
        "lips": faces[skin & regions["lips"][faces].any(1)],
        "upper_teeth": all_of(pieces == Piece.UPPER_TEETH),
        "lower_teeth": all_of(pieces == Piece.LOWER_TEETH),
        "tongue": all_of(pieces == Piece.TONGUE),
        "lids": faces[lids],
        "lid_skin": faces[lids & (pieces[faces] == Piece.SKIN).all(1)],
        "eyeballs": all_of(pieces == Piece.EYEBALL),
        "cavity": all_of(pieces == Piece.CAVITY),
        "around_mouth": all_of(around_mouth),
    }


def make(head: LinearHeadModel, jaw: float = 0.0, gaze: tuple[float, float] = (0.0, 0.0), **expression: float) -> HeadParams:
    """One head; a name without its side means both sides."""
    params = head.neutral(1)
    params.pose[0, Joint.JAW, 0] = jaw
    params.pose[0, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2] = torch.tensor(gaze)
    for name, value in expression.items():
        for column, known in enumerate(head.expression_names):
            if known in (name, f"{name}Left", f"{name}Right"):
                params.expression[0, column] = value
    return params


def crossings(head: LinearHeadModel, groups: dict[str, Indices], params: HeadParams, tolerance: float = TOLERANCE) -> dict[str, int]:
    """How many pairs of triangles cross, where there are any, summed over N heads."""
    found: dict[str, int] = {}
    for vertices in head(params).vertices.double().numpy() / CM_TO_WORLD:
        for first, second in PAIRS:
            pairs = crossing_pairs(vertices, groups[first], None if first == second else groups[second], tolerance=tolerance)
            if len(pairs):
                found[f"{first} {second}"] = found.get(f"{first} {second}", 0) + len(pairs)
    return found


def test_the_counter_sees_what_is_there() -> None:
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    through = np.array([[0.2, 0.2, -1], [0.2, 0.2, 1], [2, 2, 0.5]])
    far, touching = through + np.array([2, 0, 0]), np.array([[0.2, 0.2, 0], [0.2, 0.2, 1], [1, 1, 1]])
    vertices = np.concatenate([flat, through, far, touching])
    triangles = np.arange(12).reshape(4, 3)
    assert crossing_pairs(vertices, triangles[:1], triangles[1:]).tolist() == [[0, 0]]
    assert crossing_pairs(vertices, triangles[1:2], triangles[:1]).tolist() == [[0, 0]]
    assert [0, 1] in crossing_pairs(vertices, triangles).tolist()
    assert not len(crossing_pairs(vertices, triangles[:1], triangles[1:2], tolerance=1.1))
    assert not len(crossing_pairs(vertices, triangles[:1], triangles[:1] + np.array([3, 0, 0]))), "triangles that share a vertex"


def test_the_counter_agrees_with_looking_at_all_pairs_one_by_one(rng: torch.Generator) -> None:
    vertices = torch.rand(60, 3, generator=rng).double().numpy()
    triangles = np.arange(60).reshape(20, 3)
    found = set(map(tuple, crossing_pairs(vertices, triangles).tolist()))
    for i, j in itertools.combinations(range(20), 2):
        assert ((i, j) in found) == cross(vertices[triangles[i]], vertices[triangles[j]])


def cross(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether an edge of one meets the other: solves for the point on the edge and in the triangle."""
    for edges, triangle in ((a, b), (b, a)):
        for corner in range(3):
            start, end = edges[corner], edges[(corner + 1) % 3]
            share, u, v = np.linalg.solve(
                np.stack([start - end, triangle[1] - triangle[0], triangle[2] - triangle[0]], 1), start - triangle[0]
            )
            if 0 < share < 1 and u > 0 and v > 0 and u + v < 1:
                return True
    return False


@pytest.mark.parametrize("jaw", [0.0, 0.02, 0.1, 0.2, JOINT_LIMITS[Joint.JAW][0][1]])
def test_none_with_the_jaw_in_its_range(head: LinearHeadModel, groups: dict[str, Indices], jaw: float) -> None:
    params = make(head, jaw)
    assert crossings(head, groups, params) == {}
    params.pose[0, Joint.JAW, 1] = JOINT_LIMITS[Joint.JAW][1][1]
    assert crossings(head, groups, params) == {}


def test_none_at_the_limits_of_gaze(head: LinearHeadModel, groups: dict[str, Indices]) -> None:
    pitch, yaw, _ = JOINT_LIMITS[Joint.LEFT_EYE]
    for gaze in itertools.product(pitch, yaw):
        assert crossings(head, groups, make(head, gaze=gaze)) == {}


def test_none_in_any_blend_shape(head: LinearHeadModel, groups: dict[str, Indices]) -> None:
    """Each name at full strength, both sides together; mouthClose and tongueOut need an open jaw and have a test of their own."""
    names = sorted({name.removesuffix("Left").removesuffix("Right") for name in head.expression_names} - {"mouthClose", "tongueOut"})
    for name in names:
        if name not in ("mouth", "jaw"):
            assert crossings(head, groups, make(head, **{name: 1.0})) == {}, name
    for name in ("mouthLeft", "jawLeft"):
        assert crossings(head, groups, make(head, **{name: 1.0})) == {}, name


@pytest.mark.parametrize(
    "expression",
    [
        {"eyeBlink": 0.5}, {"jawOpen": 1.0, "mouthClose": 1.0}, {"jawOpen": 0.3, "mouthClose": 0.3}, {"jawOpen": 0.6, "tongueOut": 1.0},
        {"jawOpen": 1.0, "tongueOut": 1.0}, {"eyeLookDown": 1.0, "eyeBlink": 1.0}, {"eyeLookUp": 1.0, "eyeBlink": 1.0},
        {"mouthSmile": 1.0, "jawOpen": 0.5}, {"mouthPucker": 1.0, "jawOpen": 0.3}, {"eyeBlink": 0.6, "eyeSquint": 0.9},
    ],
)  # fmt: skip
def test_none_where_blend_shapes_work_together(head: LinearHeadModel, groups: dict[str, Indices], expression: dict[str, float]) -> None:
    assert crossings(head, groups, make(head, **expression)) == {}


@pytest.mark.parametrize(
    ("jaw", "expression"),
    [
        (0.0, {"eyeBlink": 1.0, "eyeSquint": 1.0}), (0.0, {"eyeBlink": 0.7, "eyeSquint": 1.0}), (0.0, {"eyeBlink": 0.3, "eyeSquint": 1.0}),
        (0.0, {"mouthClose": 1.0}), (0.0, {"tongueOut": 1.0}), (0.1, {"tongueOut": 1.0}), (0.3, {"tongueOut": 1.0, "mouthClose": 0.0}),
    ],
)  # fmt: skip
def test_none_in_what_the_limits_leave(head: LinearHeadModel, groups: dict[str, Indices], jaw: float, expression: dict[str, float]) -> None:
    params = make(head, jaw, **expression)
    limited = limit_expression(head, params)
    assert crossings(head, groups, limited) == {}
    assert torch.equal(limit_expression(head, limited).expression, limited.expression)


def test_none_for_other_people(head: LinearHeadModel, groups: dict[str, Indices], rng: torch.Generator) -> None:
    """Random identities at rest, and with half of a blink; with a whole one, folds of shut lids may touch by 0.3 mm."""
    params = head.neutral(8)
    shape = torch.randn(params.shape.shape, generator=rng).clamp(-2.2, 2.2)
    for blink, tolerance in ((0.0, TOLERANCE), (0.5, TOLERANCE), (1.0, 0.03)):
        expression = make(head, eyeBlink=blink).expression.expand(8, -1)
        assert crossings(head, groups, replace(params, shape=shape, expression=expression), tolerance) == {}


def test_a_blink_shuts_everybodys_eyes(head: LinearHeadModel, rng: torch.Generator) -> None:
    """Upper and lower margins meet, whatever the size, tilt and height of the eyes."""
    params = head.neutral(8)
    shape = torch.randn(params.shape.shape, generator=rng).clamp(-2.2, 2.2)
    vertices = head(replace(params, shape=shape, expression=make(head, eyeBlink=1.0).expression.expand(8, -1))).vertices
    points = head.topology.eye_points
    for side in ("left", "right"):
        gap = (vertices[:, points[f"{side}_upper_lid"]] - vertices[:, points[f"{side}_lower_lid"]]).norm(dim=2)
        assert gap.max() < 0.002 * CM_TO_WORLD


def test_hardly_any_in_random_moments(head: LinearHeadModel, groups: dict[str, Indices], rng: torch.Generator) -> None:
    """Identities and expressions as portraits draw them: shut lids of unusual eyes may touch."""
    found = [crossings(head, groups, params) for params in (sample_params(head, rng, 1) for _ in range(20))]
    assert sum(bool(one) for one in found) <= 1
    assert all(set(one) <= {"lids lids"} for one in found)
