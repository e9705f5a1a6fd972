"""Which faces are used."""

from __future__ import annotations

import numpy as np

from next3d.tracking.choice import choose_faces, face_size
from next3d.tracking.types import Face


def face(left: float, width: float, height: float, score: float = 1.0) -> Face:
    x, y = np.meshgrid(np.linspace(left, left + width, 2), np.linspace(0, height, 239))
    return Face(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1), score)


def test_the_largest_or_all_from_the_largest_on():
    small, large, sure, unsure = face(0, 10, 10), face(50, 40, 40), face(100, 20, 20, 0.9), face(0, 20, 20, 0.6)
    assert choose_faces([small, large, sure, unsure], "largest") == [large]
    assert [id(one) for one in choose_faces([small, unsure, sure, large], "all")] == [id(one) for one in (large, sure, unsure, small)]
    assert choose_faces([], "largest") == []


def test_a_face_that_is_turned_away_is_not_taken_for_a_small_one():
    assert face_size(face(0, 50, 100)) > face_size(face(0, 65, 65))
