"""From films to rows, numbers and pictures, in steps that several workers share: look at frames, find shots, fit each shot, cut frames.

Fits have steps, too (clip.py): what a shot's frames share, each frame by itself, windows, and the whole shot again. Pixels of a few frames
are in memory at a time, points of a whole shot only where its key frames are chosen.
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
from next3d.tracking.clip import (
    Firsts,
    Ground,
    Stretch,
    Window,
    common_ground,
    first_fits,
    fit_alone,
    fit_window,
    on_all_frames,
    windows,
)
from next3d.tracking.cuts import SIGNATURE_SIZE, find_shots, frame_signature
from next3d.tracking.films import Film, open_film
from next3d.tracking.foreign import MISSING, imported_shot
from next3d.tracking.pipeline import PortionMaker, Tools, standard_camera
from next3d.tracking.quality import judge
from next3d.tracking.results import Portion, Row
from next3d.tracking.settings import TrackingSettings
from next3d.tracking.smooth import frame_times, smooth_frames
from next3d.tracking.sources import Item, local_file
from next3d.tracking.types import CropFrame, Face, HeadFit
from next3d.types import Camera

Arrays = Mapping[str, npt.NDArray[np.generic]]
_POINTS = 478
_FIELDS = ("shape", "expression", "pose", "translation", "scale")


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


def start_shot(points: npt.NDArray[np.float32], plan: FilmPlan, tools: Tools) -> Arrays:
    """What all frames of a shot share.

    Args:
        points: [T, 478, 3], as `look_at_frames` returned them.
        plan: the film.
        tools: head model and settings.

    Returns:
        `frames` [T, 3] (left, top, side of the crops), `seen` [T] and, unless there are imported heads, or a face in one frame only,
        `shape`, `reference` and `precision` as `Ground` has them.
    """
    found = [crop_frame(face.astype(np.float64)) if np.isfinite(face).all() else None for face in points]
    smooth = smooth_frames(found, plan.fps)
    frames = np.array([(frame.left, frame.top, frame.side) for frame in smooth])
    start: dict[str, npt.NDArray[np.generic]] = {"frames": frames, "seen": np.array([frame is not None for frame in found])}
    if tools.imported is None and start["seen"].sum() > 1:
        ground = common_ground(_stretch(points, start, range(len(points)), plan, tools))
        start |= {"shape": ground.shape.numpy(), "reference": ground.reference.numpy(), "precision": ground.precision}
    return start


def first_heads(points: npt.NDArray[np.float32], start: Arrays, rows: range, plan: FilmPlan, tools: Tools) -> Arrays:
    """Some frames of a shot, each by itself: `track` and `bias` as `Firsts` has them; none where the shot has one face only.

    Args:
        points: of these frames.
        start: what `start_shot` returned.
        rows: where they are in the shot.
        plan: the film.
        tools: head model and settings.
    """
    if "shape" not in start:
        return {}
    firsts = first_fits(_stretch(points, start, rows, plan, tools), _ground(start))
    return {"track": firsts.track, "bias": firsts.bias.numpy()}


def shot_windows(start: Arrays, plan: FilmPlan) -> list[Window]:
    """The windows in which a shot is solved; frames count from its first one."""
    seen = np.asarray(start["seen"], dtype=np.bool_)
    return windows(seen, frame_times(len(seen), plan.fps))


def window_heads(points: npt.NDArray[np.float32], firsts: Arrays, start: Arrays, window: Window, plan: FilmPlan, tools: Tools) -> Arrays:
    """One person's head in the core of a window, in the canonical frame: `label`, `error` and the fields of head parameters.

    Args:
        points: of all frames of the window.
        firsts: what `first_heads` says of them.
        start: what `start_shot` returned.
        window: of the shot.
        plan: the film.
        tools: head model and settings.
    """
    stretch = _stretch(points, start, window.frames, plan, tools)
    if "shape" not in start:
        fit = fit_alone(stretch)
    else:
        known = Firsts(np.asarray(firsts["track"], dtype=np.float64), torch.from_numpy(np.asarray(firsts["bias"])))
        fit = fit_window(stretch, _ground(start), known, window.kept)
    with torch.no_grad():
        return _saved(concatenate([canonical(tools.head, fit[part]) for part in chunks(len(fit.error))]))


def whole_shot(parts: Sequence[Arrays], start: Arrays, plan: FilmPlan) -> Arrays:
    """A head for every frame of a shot from those of its windows: `frames`, `there` [T] (a head was fitted or imported), `label`
    [T, 25], `error` [T] and the fields of head parameters."""
    seen = np.asarray(start["seen"], dtype=np.bool_)
    fit = on_all_frames(concatenate([_fit_of(part) for part in parts]), seen, frame_times(len(seen), plan.fps))
    return {"frames": start["frames"], "there": np.ones(len(seen), np.bool_), **_saved(fit)}


def imported_heads(points: npt.NDArray[np.float32], start: Arrays, first: int, plan: FilmPlan, tools: Tools) -> Arrays:
    """The same with another tracker's heads.

    Args:
        points: of all frames of the shot.
        start: what `start_shot` returned.
        first: number of the shot's first frame in the film.
        plan: the film.
        tools: head model, settings and the other tracker's files.
    """
    if tools.imported is None:
        raise ValueError("imported heads: the settings name none")
    frames = [CropFrame(*map(float, row)) for row in start["frames"]]
    fit, there = imported_shot(tools.head, tools.imported, plan.item.name, first, frames, points.astype(np.float64))
    return {"frames": start["frames"], "there": np.array(there), **_saved(fit)}


def _stretch(points: npt.NDArray[np.float32], start: Arrays, rows: range, plan: FilmPlan, tools: Tools) -> Stretch:
    """Frames of a shot in their crops."""
    frames = np.asarray(start["frames"], dtype=np.float64)[rows.start : rows.stop]
    units = torch.empty(points.shape, dtype=torch.float32)
    for index, (row, face) in enumerate(zip(frames, points, strict=True)):
        units[index] = torch.from_numpy(CropFrame(*map(float, row)).to_unit(face.astype(np.float64)))
    seen = torch.from_numpy(np.asarray(start["seen"])[rows.start : rows.stop])
    times = frame_times(len(start["seen"]), plan.fps)[rows.start : rows.stop]
    return Stretch.of(tools.head, units, seen, standard_camera(len(units)), times)


def _ground(start: Arrays) -> Ground:
    shape, reference = (torch.from_numpy(np.asarray(start[name])) for name in ("shape", "reference"))
    return Ground(shape, reference, np.asarray(start["precision"], dtype=np.float64))


def _saved(fit: HeadFit) -> dict[str, npt.NDArray[np.generic]]:
    """A fit as arrays; `_fit_of` is the way back."""
    fields = {name: getattr(fit.params, name).numpy() for name in _FIELDS}
    return {"label": fit.camera.to_label().numpy(), "error": fit.error.numpy(), **fields}


def _fit_of(arrays: Arrays) -> HeadFit:
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
    return HeadFit(HeadParams(**{name: tensors[name] for name in _FIELDS}), Camera.from_label(tensors["label"]), tensors["error"])


def cut_frames(plan: FilmPlan, start: int, shot: Arrays, tools: Tools) -> Portion:
    """Crops of a stretch of frames and what belongs to them.

    Args:
        plan: the film.
        start: number of the first frame in the film.
        shot: of these frames, `points`, `spread` and `score` as `look_at_frames` returned them, and what `whole_shot` returned.
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
