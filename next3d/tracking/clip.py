"""Heads in films: one shape per clip, and in every frame the head that fits what was detected there and moves as heads do.

The shape comes from key frames that show the head in various poses. Frames are then fitted one by one with that shape, and after that all
together: each frame's quadratic model (solver.py) with a price on the acceleration of every unknown (temporal.py, pace.py). Frames without
a face are bridged. Long clips are solved in windows that overlap by more than what frames know of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from next3d.head.model import HeadModel, LinearHeadModel
from next3d.tracking.batches import chunks, concatenate
from next3d.tracking.eyes import fit_eyes
from next3d.tracking.fit import FitSettings, first_guess, fit_heads, params_of, reprojection_error
from next3d.tracking.keyframes import key_frames
from next3d.tracking.noise import DetectorNoise, detector_noise
from next3d.tracking.pace import PaceSettings, motion_of, smooth_eyes
from next3d.tracking.points import PointModel, point_model, shaped
from next3d.tracking.priors import Prior, head_prior
from next3d.tracking.residuals import HeadState
from next3d.tracking.smooth import frame_times
from next3d.tracking.solver import Problem, linearise, minimise, within_limits
from next3d.tracking.temporal import Motion, solve_over_time
from next3d.tracking.track import Habits, along_track, from_track, mean_rotation, to_track, without_habits
from next3d.tracking.types import HeadFit
from next3d.types import Camera

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How films are fitted."""

    fit: FitSettings = field(default_factory=FitSettings)
    """Of the key frames, and of clips of one frame."""
    pace: PaceSettings = field(default_factory=PaceSettings)
    key_frames: int = 8
    """Frames that tell the shape."""
    steps: int = 4
    """Of Levenberg and Marquardt for each frame alone."""
    rounds: int = 2
    """Linearisations of all frames together."""
    looks: int = 2
    """How often limits and jumps are looked at anew in each of them, after a first look."""
    window: int = 150
    """Frames that are solved together, without the overlap."""
    overlap: float = 1.5
    """Seconds that a window looks to both sides."""
    longest_gap: float = 1.0
    """Seconds without a face that are bridged; in longer gaps the head keeps the nearest pose that was seen."""

    def __post_init__(self) -> None:
        counts = (self.key_frames, self.steps, self.rounds, self.looks, self.window)
        if min(counts) < 1 or self.overlap < 0 or self.longest_gap < 0:
            raise ValueError(f"clips: {self} has counts below 1 or lengths below 0.")


DEFAULT_CLIP_SETTINGS = ClipSettings()


@torch.no_grad()
def fit_clip(
    head: HeadModel,
    points: Tensor,
    seen: Tensor,
    camera: Camera,
    fps: float,
    settings: ClipSettings = DEFAULT_CLIP_SETTINGS,
    *,
    times: Array | None = None,
    shape: Tensor | None = None,
) -> HeadFit:
    """Fit one person's head to every frame of a clip without cuts.

    Args:
        head: the model.
        points: [T, 478, 3], unit coordinates of the crops; may be NaN where nothing was seen.
        seen: [T] bool, where a face was found.
        camera: T cameras of the crops, or one for all.
        fps: frames per second.
        settings: of the fit.
        times: [T], seconds, where frames are not evenly spaced.
        shape: [S] of a person who is known, instead of finding it.

    Returns:
        T heads with one shape, and their cameras. `error` is NaN where no face was seen: there the head was bridged between its
        neighbours, or stands still before the first and after the last frame with a face.

    Raises:
        ValueError: no frame shows a face, or shapes that disagree.
    """
    if not isinstance(head, LinearHeadModel):
        raise TypeError(f"fitting: the head is a {type(head).__name__}, expected a linear model such as the default head or FLAME")
    clip = Stretch.of(head, points, seen, camera, frame_times(len(points), fps, times), settings)
    if not clip.seen.any():
        raise ValueError("fitting a clip: no frame shows a face")
    if clip.seen.sum() == 1:
        return fit_alone(clip, shape)
    ground = common_ground(clip, shape)
    firsts = first_fits(clip, ground)
    parts = [
        fit_window(clip[window.frames], ground, firsts[window.frames], window.kept) for window in windows(clip.seen, clip.times, settings)
    ]
    return replace(on_all_frames(concatenate(parts), clip.seen, clip.times, settings), camera=clip.camera)


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of a clip. Those without a face have the points of the nearest one, which count for nothing."""

    head: LinearHeadModel
    points: Tensor
    seen: Mask
    camera: Camera
    times: Array
    settings: ClipSettings = DEFAULT_CLIP_SETTINGS

    @classmethod
    def of(
        cls,
        head: LinearHeadModel,
        points: Tensor,
        seen: Tensor,
        camera: Camera,
        times: Array,
        settings: ClipSettings = DEFAULT_CLIP_SETTINGS,
    ) -> Stretch:
        """As `fit_clip` takes them; a stretch may be without any face."""
        points = points.to(head.template)
        camera = camera.map(lambda tensor: tensor.to(head.template).expand(len(points), *tensor.shape[1:]))
        found = (seen.to(points.device) & points.isfinite().all(dim=2).all(dim=1)).cpu().numpy()
        if found.any():
            points = points[torch.from_numpy(_nearest_of(np.flatnonzero(found), len(found))).to(points.device)]
        return cls(head, points, found, camera, times, settings)

    def __getitem__(self, frames: range) -> Stretch:
        """Some of them."""
        rows = slice(frames.start, frames.stop)
        return replace(self, points=self.points[rows], seen=self.seen[rows], camera=self.camera[rows], times=self.times[rows])


@dataclass(frozen=True)
class Ground:
    """What the frames of a clip share."""

    shape: Tensor
    """[S], of the person."""
    reference: Tensor
    """[3, 3]: the usual rotation."""
    precision: Array
    """[U]: inverse variance of each unknown in a key frame by itself, as a rule."""


@dataclass(frozen=True)
class Firsts:
    """Frames by themselves, with the shape of their clip."""

    track: Array
    """[n, U], rows as in track.py; NaN where no face was seen."""
    bias: Tensor
    """[n, B], the detector's habits; 0 where no face was seen."""

    def __getitem__(self, frames: range) -> Firsts:
        rows = slice(frames.start, frames.stop)
        return Firsts(self.track[rows], self.bias[rows])


@dataclass(frozen=True)
class Window:
    """Frames that are solved together."""

    core: range
    """Those that keep the result."""
    frames: range
    """These and their surroundings."""

    @property
    def kept(self) -> slice:
        """Where the core is among the frames."""
        return slice(self.core.start - self.frames.start, self.core.stop - self.frames.start)


def fit_alone(clip: Stretch, shape: Tensor | None = None) -> HeadFit:
    """A clip of which one frame shows a face: a photo."""
    frame = int(clip.seen.argmax())
    one = slice(frame, frame + 1)
    known = None if shape is None else shape[None]
    fit = fit_heads(clip.head, clip.points[one], clip.camera[one], clip.settings.fit, shape=known)
    fit = fit_eyes(clip.head, fit, clip.points[one])
    rows = torch.zeros(len(clip.points), dtype=torch.int64, device=clip.points.device)
    return HeadFit(fit.params[rows], clip.camera, _where_seen(fit.error[rows], clip.seen))


@torch.no_grad()
def common_ground(clip: Stretch, shape: Tensor | None = None) -> Ground:
    """What the key frames of a whole clip tell; two frames of it or more show a face.

    Args:
        clip: all of its frames.
        shape: [S] of a person who is known.
    """
    keys = _key_frames(clip)
    if shape is None:
        nobody_else = torch.zeros(len(keys), dtype=torch.int64)
        shape = fit_heads(clip.head, clip.points[keys], clip.camera[keys], clip.settings.fit, people=nobody_else).params.shape[0]
    person = _Person.of(clip.head, shape)
    state = minimise(*_problem(clip, person, keys), clip.settings.steps)
    reference = mean_rotation(state.rotation)
    hessian, _, _ = _equations(clip, person, to_track(state, reference), state.bias, reference, keys)
    variance = np.linalg.inv(hessian).diagonal(axis1=1, axis2=2)
    return Ground(person.shape, reference, 1 / np.median(variance, axis=0))


@torch.no_grad()
def first_fits(stretch: Stretch, ground: Ground) -> Firsts:
    """Each frame by itself."""
    person, visible = _Person.of(stretch.head, ground.shape), np.flatnonzero(stretch.seen)
    track = np.full((len(stretch.seen), len(ground.precision)), np.nan)
    bias = person.shape.new_zeros(len(stretch.seen), person.noise.factors.shape[2])
    for rows in _chunks(visible):
        state = minimise(*_problem(stretch, person, rows), stretch.settings.steps)
        track[rows.numpy()], bias[rows] = to_track(state, ground.reference), state.bias
    return Firsts(track, bias)


def windows(seen: Mask, times: Array, settings: ClipSettings = DEFAULT_CLIP_SETTINGS) -> list[Window]:
    """How the frames from which heads are known are divided; depends on nothing but where faces are."""
    found = []
    for run in _runs(seen, times, settings.longest_gap):
        for first in range(run.start, run.stop, settings.window):
            core = range(first, min(first + settings.window, run.stop))
            begin = int(np.searchsorted(times, times[core[0]] - settings.overlap, side="left"))
            end = int(np.searchsorted(times, times[core[-1]] + settings.overlap, side="right"))
            found.append(Window(core, range(max(begin, run.start), min(end, run.stop))))
    return found


@torch.no_grad()
def fit_window(stretch: Stretch, ground: Ground, firsts: Firsts, kept: slice) -> HeadFit:
    """The heads of a window's core.

    Args:
        stretch: the window's frames.
        ground: of the whole clip.
        firsts: of these frames.
        kept: where the core is among them.
    """
    person = _Person.of(stretch.head, ground.shape)
    motion = motion_of(stretch.head, person.prior, ground.precision, stretch.settings.pace)
    track = _over_time(stretch, person, firsts, ground.reference, motion)
    fit = _heads(stretch, person, track, ground.reference)
    return smooth_eyes(stretch.head, fit, stretch.points, stretch.seen, stretch.times, stretch.settings.pace)[kept]


def on_all_frames(fit: HeadFit, seen: Mask, times: Array, settings: ClipSettings = DEFAULT_CLIP_SETTINGS) -> HeadFit:
    """What the windows say, one after the other, as the heads of all T frames: far from faces the nearest head."""
    covered = np.concatenate([np.asarray(run) for run in _runs(seen, times, settings.longest_gap)])
    rows = torch.from_numpy(np.searchsorted(covered, _nearest_of(covered, len(seen))))
    fit = fit[rows]
    return replace(fit, error=_where_seen(fit.error, seen))


def _where_seen(error: Tensor, seen: Mask) -> Tensor:
    return torch.where(torch.from_numpy(seen).to(error.device), error, torch.nan)


def _key_frames(clip: Stretch) -> Tensor:
    """Numbers of the key frames."""
    model, visible, ahead = point_model(clip.head), np.flatnonzero(clip.seen), []
    for rows in _chunks(visible):
        trust = clip.points.new_ones(len(rows), clip.points.shape[1])
        guess, _ = first_guess(model, clip.points[rows], clip.camera[rows], trust, 1)
        ahead.append(guess.rotation[:, :2, 2])
    chosen = key_frames(clip.points[visible].cpu().numpy(), torch.cat(ahead).double().cpu().numpy(), clip.settings.key_frames)
    return torch.from_numpy(visible[chosen])


def _problem(stretch: Stretch, person: _Person, rows: Tensor) -> tuple[Problem, HeadState]:
    """Frames without coupling, and a first guess; frames without a face are left to themselves."""
    points, trust = stretch.points[rows], stretch.points.new_ones(len(rows), stretch.points.shape[1])
    guess, view = first_guess(person.points, points, stretch.camera[rows], trust, person.noise.factors.shape[2])
    numbers = torch.arange(len(rows), device=points.device)
    problem = Problem(person.points, view, person.noise, person.prior, numbers, len(rows), True, stretch.settings.fit.cut)
    return problem, guess


def _over_time(stretch: Stretch, person: _Person, firsts: Firsts, reference: Tensor, motion: Motion) -> Array:
    """Some rounds of linearising each frame and solving all of them."""
    unseen, settings, bias = ~stretch.seen, stretch.settings, firsts.bias
    rows = _filled(firsts.track, np.flatnonzero(stretch.seen))
    frames = torch.arange(len(rows))
    for _ in range(settings.rounds):
        parts = [_equations(stretch, person, rows[part], bias[part], reference, frames[part]) for part in chunks(len(rows))]
        hessian, gradient = (np.concatenate([part[which] for part in parts]) for which in range(2))
        hessian[unseen], gradient[unseen] = 0, 0
        before, rows = rows, solve_over_time(hessian, gradient, rows, stretch.times, motion, settings.looks)
        change = rows - before
        bias = torch.cat([part[2].after(bias[at], change[at]) for part, at in zip(parts, chunks(len(rows)), strict=True)])
    return rows


def _equations(
    stretch: Stretch, person: _Person, rows: Array, bias: Tensor, reference: Tensor, frames: Tensor
) -> tuple[Array, Array, Habits]:
    """What some frames ask for by themselves, without the detector's habits."""
    problem, like = _problem(stretch, person, frames)
    state = within_limits(problem, from_track(rows, reference, replace(like, bias=bias)))
    normal = linearise(problem, state)
    square, pull, habits = without_habits(normal.hessian, normal.gradient, bias.shape[1])
    return (*along_track(square, pull, rows), habits)


def _heads(stretch: Stretch, person: _Person, track: Array, reference: Tensor) -> HeadFit:
    """Rows as heads."""
    fits = []
    for rows in _chunks(np.arange(len(track))):
        problem, guess = _problem(stretch, person, rows)
        state = from_track(track[rows.numpy()], reference, guess)
        trust = stretch.points.new_ones(len(rows), stretch.points.shape[1])
        error = reprojection_error(person.points, state, problem.view, stretch.points[rows], trust)
        whole = replace(state, shape=person.shape.expand(len(rows), -1))
        camera = stretch.camera[rows]
        fits.append(HeadFit(params_of(point_model(stretch.head), whole, camera), camera, error))
    return concatenate(fits)


@dataclass(frozen=True)
class _Person:
    """What is known of a head whose shape is known."""

    points: PointModel
    noise: DetectorNoise
    prior: Prior
    shape: Tensor

    @classmethod
    def of(cls, head: LinearHeadModel, shape: Tensor) -> _Person:
        model, prior = point_model(head), head_prior(head)
        shape = shape.to(model.base)
        return cls(shaped(model, shape), detector_noise(head), replace(prior, shape=prior.shape[:0]), shape)


def _chunks(frames: npt.NDArray[np.intp]) -> Iterator[Tensor]:
    for rows in chunks(len(frames)):
        yield torch.from_numpy(frames[rows])


def _filled(rows: Array, visible: npt.NDArray[np.intp]) -> Array:
    """Rows [n, U] of all frames from those that were seen; straight lines between these."""
    every = np.arange(len(rows))
    return np.stack([np.interp(every, visible, column[visible]) for column in rows.T], axis=1)


def _runs(seen: Mask, times: Array, longest_gap: float) -> list[range]:
    """Frames from a seen one to a seen one, with no longer gaps between."""
    visible = np.flatnonzero(seen)
    breaks = np.flatnonzero((np.diff(times[visible]) > longest_gap) & (np.diff(visible) > 1)) + 1
    return [range(int(part[0]), int(part[-1]) + 1) for part in np.split(visible, breaks)]


def _nearest_of(some: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """For each of 0 ... count - 1 the nearest of some increasing numbers."""
    every = np.arange(count)
    place = np.searchsorted(some, every)
    before, after = some[np.maximum(place - 1, 0)], some[np.minimum(place, len(some) - 1)]
    return np.where(np.abs(every - before) < np.abs(after - every), before, after)
