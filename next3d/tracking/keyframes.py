"""Which frames of a film tell the shape of the head: it holds still in them, and looks elsewhere in each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from next3d.tracking.points import OUTER_EYE_CORNERS

Array = npt.NDArray[np.float64]

_LIPS = (13, 14)
"""Of the detector's points: inner edges of the upper and the lower lip."""
_FAR = 0.75
"""Sine of the angle to the camera beyond which a head shows half its points only."""


def key_frames(points: npt.NDArray[np.floating], ahead: Array, count: int) -> npt.NDArray[np.intp]:
    """Numbers of up to `count` frames, increasing.

    The slower half of the frames are candidates, as fast ones are blurred. The first choice is the most usual pose; each further one is as
    unlike the others as can be (farthest points, Gonzalez 1985).

    Args:
        points: [T, 478, 3], unit coordinates; finite.
        ahead: [T, 2]: how far the head looks to the side and down, sines.
        count: of frames.
    """
    if len(points) <= count:
        return np.arange(len(points))
    size = np.linalg.norm(points[:, OUTER_EYE_CORNERS[0], :2] - points[:, OUTER_EYE_CORNERS[1], :2], axis=1)
    way = np.sqrt((np.diff(points[..., :2], axis=0) ** 2).sum(axis=2).mean(axis=1)) / np.minimum(size[1:], size[:-1])
    speed = np.maximum(np.append(way, 0), np.insert(way, 0, 0))
    speed = speed + (np.linalg.norm(ahead, axis=1) > _FAR) * 10
    candidates = np.sort(np.argsort(speed, kind="stable")[: max(count, len(points) // 2)])
    mouth = np.linalg.norm(points[:, _LIPS[0]] - points[:, _LIPS[1]], axis=1) / size
    features = np.concatenate([ahead, mouth[:, None]], axis=1)[candidates]
    chosen = [int(np.linalg.norm(features - np.median(features, axis=0), axis=1).argmin())]
    distance = np.full(len(features), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.unique(candidates[chosen])
