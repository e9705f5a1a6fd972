"""Films on which tracking is judged: people who talk, blink and look around, with what is true of every frame and what a detector finds.

Clips are those of `next3d data synthetic-video --seed SEED`. The set "fit" is for choosing constants and is never judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.tracking_data import RESOLUTION, the_head
from dnnlib.files import atomic_write
from next3d.head.model import HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.synthetic.motion import clip_params
from next3d.synthetic.render import render_sample
from next3d.tracking.eyeballs import posed_joints
from next3d.tracking.face_mesh import open_detector
from next3d.types import Camera

FPS = 25.0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClipSet:
    """Which clips a set has."""

    seed: int
    count: int
    frames: int = 100


CLIP_SETS = {"test": ClipSet(6100, 4), "fit": ClipSet(6200, 2)}


@dataclass(frozen=True)
class Clip:
    """One film of T frames of 256 x 256 pixels, 25 per second."""

    images: npt.NDArray[np.uint8]
    """[T, 256, 256, 3]."""
    params: HeadParams
    camera: Camera
    followed: Array
    """[T, 478, 3], pixels, of the detector that follows the face; NaN where it lost it."""
    still: Array
    """The same of the detector that looks at every frame as at a photo."""


@torch.no_grad()
def _frame(which: ClipSet, number: int) -> dict[str, npt.NDArray[Any]]:
    """One frame with its truth; runs in worker processes."""
    torch.set_num_threads(1)
    clip, moment = divmod(number, which.frames)
    head = the_head()
    params = clip_params(head, which.seed, clip, which.frames, FPS)[moment : moment + 1]
    portrait = render_sample(head, which.seed, clip, RESOLUTION, params=params, moment=number)
    return {
        **{field.name: getattr(params, field.name)[0].numpy() for field in fields(HeadParams)},
        "images": portrait.image,
        "label": portrait.label,
    }


def load_clips(name: str, pool: Executor, *, count: int | None = None, cache: Path | None = None) -> list[Clip]:
    """The clips of a set, rendered and looked at, or read from the cache's `clips/NAME.npz`.

    Args:
        name: of CLIP_SETS.
        pool: processes that render.
        count: only the first so many.
        cache: folder; None renders and keeps nothing.
    """
    which = CLIP_SETS[name]
    number = which.count if count is None else min(count, which.count)
    path = None if cache is None else cache / "clips" / f"{name}.npz"
    if path is not None and path.is_file():
        with np.load(path) as stored:
            table = {key: stored[key] for key in stored.files}
    else:
        rows = list(pool.map(partial(_frame, which), range(number * which.frames), chunksize=4))
        table = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        table |= detect_clips(table["images"].reshape(number, which.frames, *table["images"].shape[1:]))
        if path is not None and number == which.count:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **table)
    cuts = [slice(clip * which.frames, (clip + 1) * which.frames) for clip in range(number)]
    return [_clip({key: value[cut] for key, value in table.items()}) for cut in cuts]


def detect_clips(films: Sequence[npt.NDArray[np.uint8]]) -> dict[str, Array]:
    """What the detector finds in films [T, H, W, 3], one after the other: `followed` and `still`, both [all T, 478, 3]."""
    found: dict[str, list[Array]] = {"followed": [], "still": []}
    nothing = np.full((478, 3), np.nan)
    with open_detector() as detector:
        for film in films:
            detector.restart()
            followed = [detector.follow(image) for image in film]
            still = [next(iter(detector.detect(image)), None) for image in film]
            for name, faces in (("followed", followed), ("still", still)):
                found[name] += [nothing if face is None else face.points for face in faces]
    return {name: np.stack(points) for name, points in found.items()}


def _clip(table: dict[str, npt.NDArray[Any]]) -> Clip:
    params = HeadParams(**{field.name: torch.from_numpy(table[field.name]) for field in fields(HeadParams)})
    return Clip(table["images"], params, Camera.from_label(torch.from_numpy(table["label"])), table["followed"], table["still"])


@torch.no_grad()
def without_neck(head: LinearHeadModel, params: HeadParams) -> HeadParams:
    """The same faces with the neck's turn given to the head as a whole, so that heads posed in either way can be compared."""
    turn = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL]) @ axis_angle_to_matrix(params.pose[:, Joint.NECK])
    pose = params.pose.clone()
    pose[:, Joint.GLOBAL], pose[:, Joint.NECK] = matrix_to_axis_angle(turn), 0
    moved = replace(params, pose=pose)
    return replace(moved, translation=params.translation + between_eyes(head, params) - between_eyes(head, moved))


def between_eyes(head: LinearHeadModel, params: HeadParams) -> Tensor:
    """The middle of the eyeballs' centres, [N, 3], world units."""
    return posed_joints(head, params)[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE]].mean(dim=1)
