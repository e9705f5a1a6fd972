"""Where a film changes to another shot, told from a face's points and from a few numbers per picture.

A cut makes both jump once: the points further than heads move in a frame, and the picture everywhere. A fast turn of the head moves points
over several frames in front of the same background; a flash changes the picture and leaves the points alone. Dissolves are not found.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from next3d.tracking.types import Pixels

Array = npt.NDArray[np.float64]

_GRID = 8
"""Blocks per side whose mean colours are compared."""
_SAMPLES = 8
"""Pixels per side that are looked at in each block."""
_LEVELS = 4
"""Steps per channel of the colour histogram."""
SIGNATURE_SIZE = _GRID * _GRID * 3 + _LEVELS**3


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """When a change is a cut. Distances of points are parts of the face's size (the root of the area of its bounding box)."""

    points_jump: float = 0.025
    """Least root mean square way of the points for a cut, where the picture jumps, too."""
    leap: float = 0.6
    """A way that no head moves in a frame, however quiet the picture: another face was taken for this one."""
    picture_jump: float = 0.08
    """Least change of the picture: mean change of block colours plus the moved part of the histogram, both in [0, 1]."""
    contrast: float = 3.0
    """A jump is so many times larger than the changes in its neighbourhood."""
    neighbourhood: int = 4
    """Frames on each side that a jump is compared with."""
    longest_gap: float = 0.6
    """Seconds without the face after which a new shot begins; shorter gaps are bridged."""


def frame_signature(image: Pixels) -> npt.NDArray[np.float32]:
    """What cuts are told from, [256] float32 in [0, 1]: mean colours of 8 x 8 blocks, then a histogram of 64 colours.

    Looks at 64 x 64 pixels of the image [H, W, 3], however large it is.
    """
    side = _GRID * _SAMPLES
    rows = (np.arange(side) + 0.5) * (image.shape[0] / side)
    columns = (np.arange(side) + 0.5) * (image.shape[1] / side)
    picked = image[rows.astype(np.intp)[:, None], columns.astype(np.intp)[None]]  # [64, 64, 3]
    blocks = picked.reshape(_GRID, _SAMPLES, _GRID, _SAMPLES, 3).mean(axis=(1, 3)) / 255
    levels = picked.astype(np.intp) * _LEVELS // 256
    numbers = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]
    histogram = np.bincount(numbers.ravel(), minlength=_LEVELS**3) / numbers.size
    return np.concatenate([blocks.ravel(), histogram]).astype(np.float32)


def find_cuts(
    points: npt.ArrayLike,
    seen: npt.ArrayLike,
    signatures: npt.ArrayLike,
    *,
    fps: float = 25.0,
    settings: CutSettings | None = None,
) -> list[int]:
    """First frames of shots, beginning with 0.

    Args:
        points: [T, P, 2 or more], photo coordinates of the face that is followed; rows that are not seen may be NaN.
        seen: [T], where the face was found.
        signatures: [T, K], of `frame_signature`.
        fps: frames per second, for the length of gaps.
    """
    settings = settings or CutSettings()
    found, places = np.asarray(seen, bool), np.asarray(points, np.float64)[..., :2]
    if len(found) == 0:
        return []
    changed = _picture_changes(np.asarray(signatures, np.float64))
    visible = np.flatnonzero(found)
    ways = _ways(places, visible)
    cuts = [0]
    for number, (before, frame) in enumerate(itertools.pairwise(visible)):
        gap = int(frame - before)
        jumped = ways[number] >= settings.points_jump * np.sqrt(gap) and _stands_out(ways, number, settings)
        shown = [t for t in range(before + 1, frame + 1) if changed[t] >= settings.picture_jump and _stands_out(changed, t, settings)]
        if shown and jumped:
            cuts.append(shown[0])
        elif gap > max(1.0, settings.longest_gap * fps) or (ways[number] >= settings.leap and _stands_out(ways, number, settings)):
            cuts.append(int(frame))
    return sorted(set(cuts))


def find_shots(
    points: npt.ArrayLike, seen: npt.ArrayLike, signatures: npt.ArrayLike, *, fps: float = 25.0, settings: CutSettings | None = None
) -> list[range]:
    """The frames of each shot from the first to the last on which the face is seen; shots without a face are left out."""
    found = np.asarray(seen, bool)
    starts = find_cuts(points, seen, signatures, fps=fps, settings=settings)
    shots = []
    for first, end in zip(starts, [*starts[1:], len(found)], strict=True):
        visible = first + np.flatnonzero(found[first:end])
        if len(visible):
            shots.append(range(int(visible[0]), int(visible[-1]) + 1))
    return shots


def _picture_changes(signatures: Array) -> Array:
    """[T] in [0, 2]: how much each picture differs from the one before; 0 for the first."""
    colours = _GRID * _GRID * 3
    steps = np.abs(np.diff(signatures, axis=0))
    change = steps[:, :colours].mean(axis=1) + steps[:, colours:].sum(axis=1) / 2
    return np.concatenate([[0.0], change])


def _ways(places: Array, visible: npt.NDArray[np.intp]) -> Array:
    """Root mean square way of the points between frames in which they are seen, [len(visible) - 1], as a part of the face's size."""
    if len(visible) < 2:
        return np.zeros(0)
    there = places[visible]
    extent = there.max(axis=1) - there.min(axis=1)
    size = np.sqrt(np.maximum(extent.prod(axis=1), 1e-12))
    way = np.sqrt(((there[1:] - there[:-1]) ** 2).sum(axis=2).mean(axis=1))
    return np.asarray(way / np.minimum(size[1:], size[:-1]))


def _stands_out(changes: Array, place: int, settings: CutSettings) -> bool:
    """Whether a change is `contrast` times larger than all others around it but one, which may be a cut itself."""
    low, high = max(0, place - settings.neighbourhood), place + settings.neighbourhood + 1
    around = np.sort(np.concatenate([changes[low:place], changes[place + 1 : high]]))[:-1]
    return len(around) == 0 or bool(changes[place] >= settings.contrast * around[-1])
