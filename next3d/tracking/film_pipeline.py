"""From films to rows, numbers and pictures, in steps that several workers share: look at frames, find shots, fit each shot, cut frames.

Looking and cutting work on short stretches of frames, fitting on whole shots; pixels of a few frames are in memory at a time, points of a
whole film.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from next3d.head.model import HeadParams
from next3d.tracking.align import crop_frame
from next3d.tracking.batches import chunks, concatenate
from next3d.tracking.canonical import canonical
from next3d.tracking.clip import fit_clip
from next3d.tracking.cuts import SIGNATURE_SIZE, find_shots, frame_signature
from next3d.tracking.films import Film, open_film
from next3d.tracking.foreign import MISSING, imported_shot
from next3d.tracking.pipeline import PortionMaker, Tools, standard_camera
from next3d.tracking.quality import judge
from next3d.tracking.results import Portion, Row
from next3d.tracking.settings import TrackingSettings
from next3d.tracking.smooth import smooth_frames
from next3d.tracking.sources import Item, local_file
from next3d.tracking.types import CropFrame, Face, HeadFit
from next3d.types import Camera

Arrays = Mapping[str, npt.NDArray[np.generic]]
_POINTS = 478


@dataclass(frozen=True)
class FilmPlan:
    """A film as it is going to be read."""

    item: Item
    fps: float
    """Frames per second after resampling."""
    count: int
    """Frames; a damaged film may give fewer."""
    size: tuple[int, int]
    """Width and height."""
    notes: tuple[str, ...] = ()


def plan_film(item: Item, settings: TrackingSettings) -> FilmPlan:
    """Look into a film; raises UserError where it cannot be read."""
    with local_file(item) as path:
        film = _opened(path, settings.fps, settings.every)
    return FilmPlan(item, film.fps, film.count, (film.width, film.height), film.notes)


def _opened(path: object, fps: float | None, every: int) -> Film:
    film = open_film(str(path), fps=fps)
    return replace(film, fps=film.fps / every, count=math.ceil(film.count / every))


def look_at_frames(plan: FilmPlan, first: int, last: int, tools: Tools) -> dict[str, npt.NDArray[np.generic]]:
    """What a detector that knows nothing of earlier frames sees in frames first ... last - 1.

    Returns:
        `points` [n, 478, 3] float32, photo coordinates, NaN where no face is seen; `spread` [n, 478], NaN where
        there is none; `score` [n]; `signatures` [n, 256]; n is smaller
        than last - first where the film ends early.
    """
    points, spreads, scores, signatures = [], [], [], []
    nothing = np.full((_POINTS, 3), np.nan, dtype=np.float32)
    tools.detector.restart()
    with local_file(plan.item) as path:
        film = _opened(path, tools.settings.fps, tools.settings.every)
        for pixels in film.frames(first, last):
            face = tools.detector.follow(pixels)
            points.append(nothing if face is None else face.points.astype(np.float32))
            spreads.append(nothing[:, 0] if face is None or face.spread is None else face.spread.astype(np.float32))
            scores.append(0.0 if face is None else face.score)
            signatures.append(frame_signature(pixels))
    return {
        "points": np.stack(points) if points else np.zeros((0, _POINTS, 3), np.float32),
        "spread": np.stack(spreads) if points else np.zeros((0, _POINTS), np.float32),
        "score": np.array(scores, dtype=np.float32),
        "signatures": np.stack(signatures) if points else np.zeros((0, SIGNATURE_SIZE), np.float32),
    }


def joined(parts: Sequence[Arrays]) -> dict[str, npt.NDArray[np.generic]]:
    """Stretches of a film that follow each other, as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def shots_of(looks: Arrays, fps: float) -> list[range]:
    """Frames of each shot that shows a face."""
    points = looks["points"]
    return find_shots(points, np.isfinite(points[:, 0, 0].astype(np.float64)), looks["signatures"], fps=fps)


def fit_shot(looks: Arrays, first: int, plan: FilmPlan, tools: Tools) -> dict[str, npt.NDArray[np.generic]]:
    """One person's head in every frame of a shot.

    Args:
        looks: T rows of what `look_at_frames` returned.
        first: number of the shot's first frame in the film.
        plan: the film.
        tools: head model and settings.

    Returns:
        `frames` [T, 3] (left, top, side of the crops), `points`, `spread`, `score`, `there` [T] (a head was fitted or imported),
        `label` [T, 25], `error` [T] and the fields of head parameters.
    """
    points = looks["points"].astype(np.float64)
    found = [crop_frame(face) if np.isfinite(face).all() else None for face in points]
    frames = smooth_frames(found, plan.fps)
    there: Sequence[bool] = [True] * len(points)
    if tools.imported is not None:
        fit, there = imported_shot(tools.head, tools.imported, plan.item.name, first, frames, points)
    else:
        seen = torch.tensor([frame is not None for frame in found])
        units = torch.from_numpy(np.stack([frame.to_unit(face) for frame, face in zip(frames, points, strict=True)])).float()
        with torch.no_grad():
            fit = fit_clip(tools.head, units, seen, standard_camera(len(units)), plan.fps)
            fit = concatenate([canonical(tools.head, fit[part]) for part in chunks(len(units))])
    return {
        "frames": np.array([(frame.left, frame.top, frame.side) for frame in frames]),
        **{name: looks[name] for name in ("points", "spread", "score")},
        "there": np.array(there),
        "label": fit.camera.to_label().numpy(),
        "error": fit.error.numpy(),
        **{name: getattr(fit.params, name).numpy() for name in ("shape", "expression", "pose", "translation", "scale")},
    }


def cut_frames(plan: FilmPlan, start: int, shot: Arrays, tools: Tools) -> Portion:
    """Crops of a stretch of frames and what belongs to them.

    Args:
        plan: the film.
        start: number of the first frame in the film.
        shot: rows of what `fit_shot` returned, one per frame.
        tools: head model and settings.
    """
    portion, fit = PortionMaker(tools), _fit_of(shot)
    settings = tools.settings
    with local_file(plan.item) as path:
        film = _opened(path, settings.fps, settings.every)
        for index, pixels in enumerate(film.frames(start, start + len(fit.error))):
            frame = CropFrame(*(float(value) for value in shot["frames"][index]))
            points = shot["points"][index].astype(np.float64)
            bridged = not np.isfinite(points).all()
            alone = fit[index : index + 1]
            row = Row(
                source=plan.item.name,
                frame=start + index,
                seconds=(start + index) / plan.fps,
                photo=plan.size,
                bridged=bridged,
            )
            if not shot["there"][index]:
                portion.rows.append(replace(row, crop=frame, problem=f"{plan.item.name} frame {start + index}: {MISSING}."))
                continue
            spread = shot["spread"][index].astype(np.float64)
            face = Face(points, float(shot["score"][index]), spread if np.isfinite(spread).all() else None)
            quality = None if bridged else judge(pixels, face, frame, alone, resolution=settings.resolution, limits=settings.limits)
            portion.keep(row, pixels, frame, alone, frame.to_unit(points), quality)
    return portion.done()


def _fit_of(shot: Arrays) -> HeadFit:
    """What `fit_shot` saved, back."""
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in shot.items()}
    fields = ("shape", "expression", "pose", "translation", "scale")
    return HeadFit(HeadParams(**{name: tensors[name] for name in fields}), Camera.from_label(tensors["label"]), tensors["error"])
