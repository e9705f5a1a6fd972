"""Cuts are found where face and picture jump; movements, flashes and short gaps are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from next3d.tracking.cuts import SIGNATURE_SIZE, CutSettings, find_cuts, find_shots, frame_signature

Array = npt.NDArray[np.float64]
COUNT = 40


@pytest.fixture
def numbers() -> np.random.Generator:
    """A fresh stream for every test."""
    return np.random.default_rng(0)


@pytest.fixture
def scenes(numbers: np.random.Generator) -> list[Array]:
    """Signatures of five pictures, each of large patches of its own colours."""
    patches = numbers.integers(0, 255, (5, 6, 8, 3), dtype=np.uint8)
    return [frame_signature(np.kron(patch, np.ones((20, 20, 1), np.uint8))).astype(np.float64) for patch in patches]


def film(shots: list[tuple[int, Array, tuple[float, float]]], numbers: np.random.Generator) -> tuple[Array, npt.NDArray[np.bool_], Array]:
    """Points, seen and signatures of shots (frames, signature, place of the face) with a little noise everywhere."""
    face = numbers.uniform(-50, 50, (60, 2))
    points = np.concatenate([np.tile(face + place, (count, 1, 1)) for count, _, place in shots])
    signatures = np.concatenate([np.tile(signature, (count, 1)) for count, signature, _ in shots])
    noise = numbers.standard_normal
    return points + 0.5 * noise(points.shape), np.ones(len(points), bool), signatures + 0.002 * noise(signatures.shape)


def test_cuts_are_found_where_they_are(scenes: list[Array], numbers: np.random.Generator) -> None:
    """Also two that are three frames apart, and one after which the face is nearly in the same place."""
    points, seen, signatures = film(
        [(30, scenes[0], (100, 100)), (3, scenes[1], (160, 90)), (20, scenes[2], (100, 100)), (20, scenes[3], (104, 103))], numbers
    )
    assert find_cuts(points, seen, signatures) == [0, 30, 33, 53]


def test_a_cut_with_the_face_lost_around_it(scenes: list[Array], numbers: np.random.Generator) -> None:
    """The new shot begins where the picture changed, and its first frame with a face is the first that is used."""
    points, seen, signatures = film([(20, scenes[0], (100, 100)), (20, scenes[1], (150, 100))], numbers)
    seen[19:22] = False
    points[19:22] = np.nan
    assert find_cuts(points, seen, signatures) == [0, 20]
    assert find_shots(points, seen, signatures) == [range(19), range(22, 40)]


def test_a_fast_turn_is_no_cut(scenes: list[Array], numbers: np.random.Generator) -> None:
    """Half a face's size in five frames, with a picture that changes as the camera follows."""
    points, seen, signatures = film([(COUNT, scenes[0], (100, 100))], numbers)
    way = np.clip(np.arange(COUNT) - 15, 0, 5)[:, None] / 5
    points += 60 * way[:, None]
    signatures += (scenes[1] - scenes[0]) * way
    assert find_cuts(points, seen, signatures) == [0]


def test_a_flash_is_no_cut(scenes: list[Array], numbers: np.random.Generator) -> None:
    points, seen, signatures = film([(COUNT, scenes[0], (100, 100))], numbers)
    signatures[20] += 0.4
    assert find_cuts(points, seen, signatures) == [0]


def test_another_face_in_the_same_picture_is_a_cut(scenes: list[Array], numbers: np.random.Generator) -> None:
    points, seen, signatures = film([(15, scenes[0], (100, 100)), (15, scenes[0], (260, 100))], numbers)
    assert find_cuts(points, seen, signatures) == [0, 15]


def test_short_gaps_are_bridged_and_long_ones_divide(scenes: list[Array], numbers: np.random.Generator) -> None:
    points, seen, signatures = film([(80, scenes[0], (100, 100))], numbers)
    seen[10:16] = False
    assert find_cuts(points, seen, signatures, fps=25) == [0]
    seen[40:70] = False
    assert find_cuts(points, seen, signatures, fps=25) == [0, 70]
    assert find_shots(points, seen, signatures, fps=25) == [range(40), range(70, 80)]
    assert find_cuts(points, seen, signatures, fps=25, settings=CutSettings(longest_gap=2)) == [0]


def test_signatures_are_small_and_alike_at_any_size(numbers: np.random.Generator) -> None:
    patch = numbers.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    small, large = (frame_signature(np.kron(patch, np.ones((n, n, 1), np.uint8))) for n in (16, 90))
    assert small.shape == (SIGNATURE_SIZE,)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, large, atol=0.02)
    assert frame_signature(np.zeros((3, 5, 3), np.uint8)).sum() == pytest.approx(1)  # a histogram of one colour


def test_nothing_and_one_frame(scenes: list[Array]) -> None:
    assert find_cuts(np.zeros((0, 478, 3)), np.zeros(0, bool), np.zeros((0, SIGNATURE_SIZE))) == []
    assert find_cuts(np.zeros((1, 478, 3)), np.ones(1, bool), scenes[0][None]) == [0]
    assert find_shots(np.zeros((2, 478, 3)), np.zeros(2, bool), np.stack(scenes[:2])) == []
