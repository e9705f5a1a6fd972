"""Key frames hold still and differ in pose."""

from __future__ import annotations

import numpy as np

from next3d.tracking.keyframes import key_frames


def turning_face(count: int, fast: range) -> tuple[np.ndarray, np.ndarray]:
    """Points [T, 478, 3] and directions [T, 2] of a face that turns slowly from one side to the other and is shaken in some frames."""
    rng = np.random.default_rng(0)
    face = rng.uniform(0.3, 0.7, (478, 3))
    side = np.linspace(-0.5, 0.5, count)
    points = np.tile(face, (count, 1, 1)) + 0.05 * side[:, None, None]
    points[list(fast)] += 0.05 * rng.standard_normal((len(fast), 1, 3))
    return points, np.stack([side, np.zeros(count)], axis=1)


def test_poses_from_all_over_and_no_fast_frames() -> None:
    fast = range(40, 60)
    points, ahead = turning_face(100, fast)
    chosen = key_frames(points, ahead, 6)
    assert len(chosen) == 6
    assert (np.diff(chosen) > 0).all()
    assert not set(chosen) & set(fast)
    assert ahead[chosen, 0].min() < -0.4
    assert ahead[chosen, 0].max() > 0.4


def test_profiles_are_left_to_those_who_have_nothing_else() -> None:
    points, ahead = turning_face(60, range(0))
    ahead[:, 0] *= 1.9
    assert np.abs(ahead[key_frames(points, ahead, 5), 0]).max() < 0.75


def test_short_clips_are_all_key_frames() -> None:
    points, ahead = turning_face(4, range(0))
    assert key_frames(points, ahead, 8).tolist() == [0, 1, 2, 3]


def test_equal_frames() -> None:
    """A film that stands still has as few key frames as it has poses, and no error."""
    points, ahead = turning_face(30, range(0))
    points[:], ahead[:] = points[0], ahead[0]
    assert 1 <= len(key_frames(points, ahead, 8)) <= 8
