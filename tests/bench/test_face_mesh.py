"""What is read off a detector's points, without a detector."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bench.face_mesh import (
    EYES,
    INNER_LIPS,
    LOWER_LIP,
    OUTER_EYE_CORNERS,
    UPPER_LIP,
    FaceReader,
    eye_distance,
    read_blink,
    read_gaze,
    read_jaw,
)
from next3d.tracking.face_mesh import FaceMesh


@pytest.fixture
def face() -> np.ndarray:
    """Points of a face 100 pixels between the outer corners of its eyes, lids 10 and lips 2 pixels apart, looking ahead."""
    points = np.zeros((478, 3))
    for side, sign in (("right", -1), ("left", 1)):
        (outer, inner), lids, iris = EYES[side]
        points[outer, 0], points[inner, 0], points[iris, 0] = sign * 50, sign * 20, sign * 35
        for upper, lower in lids:
            points[upper, :2], points[lower, :2] = (sign * 35, -5), (sign * 35, 5)
    for upper, lower in INNER_LIPS:
        points[upper, 1], points[lower, 1] = 40, 42
    return points


def test_distances_are_between_outer_corners(face: np.ndarray) -> None:
    assert eye_distance(face) == 100
    assert (EYES["right"][0][0], EYES["left"][0][0]) == OUTER_EYE_CORNERS


def test_an_opening_mouth_reads_higher_whatever_the_size(face: np.ndarray) -> None:
    opened = face.copy()
    opened[[lower for _, lower in INNER_LIPS], 1] += 20
    assert read_jaw(opened) > read_jaw(face) + 0.1
    assert read_jaw(2 * opened) == pytest.approx(read_jaw(opened))


def test_a_closing_eye_reads_higher(face: np.ndarray) -> None:
    shut = face.copy()
    for _, lids, _ in EYES.values():
        for upper, lower in lids:
            shut[upper] = shut[lower]
    assert read_blink(face) < read_blink(shut) == 0


def test_gaze_to_the_right_of_the_picture_reads_higher(face: np.ndarray) -> None:
    aside = face.copy()
    aside[[iris for *_, iris in EYES.values()], 0] += 4
    assert read_gaze(face) == pytest.approx(0)
    assert read_gaze(aside) == pytest.approx(4 / 30)


def test_no_point_is_on_both_lips() -> None:
    assert not set(UPPER_LIP) & set(LOWER_LIP)


class _Painted:
    """A detector that takes the brightest column of a picture for where both irises look, and counts its looks."""

    def __init__(self, face: np.ndarray) -> None:
        self._face = face
        self.looks: list[int] = []

    def reset(self) -> None:
        self.looks.append(0)

    def process(self, image: np.ndarray) -> SimpleNamespace:
        self.looks[-1] += 1
        if not image.any():
            return SimpleNamespace(multi_face_landmarks=None)
        points = self._face.copy()
        points[[iris for *_, iris in EYES.values()], 0] += float(image.sum(axis=(0, 2)).argmax()) - (image.shape[1] - 1) / 2
        scaled = points / image.shape[1]
        return SimpleNamespace(multi_face_landmarks=[SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, z=z) for x, y, z in scaled])])


def test_a_picture_and_its_mirror_image_are_read_alike(face: np.ndarray) -> None:
    follower = _Painted(face)
    reader = FaceReader(FaceMesh(follower), follower)
    image = np.zeros((9, 9, 3), np.uint8)
    image[:, 6] = 255
    gaze = reader.read(image, "gaze")
    assert gaze == pytest.approx(2 / 30)
    assert reader.read(np.ascontiguousarray(image[:, ::-1]), "gaze") == pytest.approx(-gaze)
    assert len(follower.looks) == 4
    assert set(follower.looks) == {4}  # every picture is followed anew


def test_a_picture_without_a_face_says_nothing(face: np.ndarray) -> None:
    follower = _Painted(face)
    assert FaceReader(FaceMesh(follower), follower).read(np.zeros((9, 9, 3), np.uint8), "jaw") is None
