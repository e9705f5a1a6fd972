"""The 478 points: they lie on the skin where their names say, and go along with it."""

from __future__ import annotations

import json

import pytest
import torch

from next3d.head import load_head
from next3d.head.dense import DENSE_COUNT, IRIS_START, POINTS_FILE, _nearest_weights, dense_embedding, reference_vertices
from next3d.head.model import HeadModel, LinearHeadModel
from tests.next3d.synthetic.conftest import posed

UPPER_INNER_LIP, LOWER_INNER_LIP, NOSE_TIP, CHIN = 13, 14, 1, 152
RIGHT_IRIS, LEFT_IRIS = 468, 473
UPPER_LID, LOWER_LID = 386, 374


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def points(head: HeadModel, **controls: float) -> torch.Tensor:
    return dense_embedding(head).place(head(posed(head, **controls)).vertices)[0]


def test_places_are_on_the_head(head: HeadModel) -> None:
    embedding = dense_embedding(head)
    assert embedding.corners.shape == embedding.weights.shape == (DENSE_COUNT, 3)
    torch.testing.assert_close(embedding.weights.sum(dim=1), torch.ones(DENSE_COUNT))
    assert embedding.weights.min() >= 0
    stored = torch.tensor(json.loads(POINTS_FILE.read_text())["places"])
    assert (embedding.place(reference_vertices(head)) - stored).norm(dim=1).median() < 0.004, "the table was measured on this head"


def test_irises_are_on_irises_and_nothing_else_is(head: HeadModel) -> None:
    corners = dense_embedding(head).corners
    regions = head.topology.regions
    assert (regions["left_iris"] | regions["right_iris"])[corners[IRIS_START:]].all()
    assert not (regions["teeth"] | regions["tongue"])[corners].any()


def test_points_are_where_a_face_has_them(head: HeadModel) -> None:
    at_rest = points(head)
    assert at_rest[NOSE_TIP, 2] > at_rest[:, 2].max() - 0.02
    assert at_rest[CHIN, 1] < at_rest[LOWER_INNER_LIP, 1] < at_rest[NOSE_TIP, 1]
    assert at_rest[RIGHT_IRIS, 0] < -0.03
    assert at_rest[LEFT_IRIS, 0] > 0.03


def test_points_follow_jaw_gaze_and_lids(head: LinearHeadModel) -> None:
    at_rest, opened = points(head), points(head, jaw=0.3)
    gap = (opened - at_rest)[UPPER_INNER_LIP] - (opened - at_rest)[LOWER_INNER_LIP]
    assert gap[1] > 0.05, "only the lower lip moves with the jaw"
    aside = points(head, gaze=(0.0, 0.3)) - at_rest
    assert min(aside[LEFT_IRIS, 0], aside[RIGHT_IRIS, 0]) > 0.005
    shut = points(head, expression={"eyeBlinkLeft": 1.0})
    assert (shut[UPPER_LID] - shut[LOWER_LID]).norm() < 0.5 * (at_rest[UPPER_LID] - at_rest[LOWER_LID]).norm()


def test_the_nearest_place_of_a_triangle_is_nearest(rng: torch.Generator) -> None:
    corners, targets = torch.randn(50, 3, 3, generator=rng), torch.randn(50, 3, generator=rng)
    weights = _nearest_weights(targets, corners)
    assert weights.min() > -1e-5
    tried = torch.rand(500, 50, 3, generator=rng)
    tried = tried / tried.sum(dim=2, keepdim=True)
    best = ((tried[..., None] * corners).sum(dim=2) - targets).norm(dim=2).amin(dim=0)
    assert ((weights[..., None] * corners).sum(dim=1) - targets).norm(dim=1).le(best + 1e-4).all()
