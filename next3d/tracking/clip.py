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
    points = points.to(head.template)
    camera = camera.map(lambda tensor: tensor.to(head.template).expand(len(points), *tensor.shape[1:]))
    found = (seen.to(points.device) & points.isfinite().all(dim=2).all(dim=1)).cpu().numpy()
    if not found.any():
        raise ValueError("fitting a clip: no frame shows a face")
    stand_in = torch.from_numpy(_nearest_of(np.flatnonzero(found), len(found))).to(points.device)
    clip = _Clip(head, points[stand_in], found, camera, frame_times(len(points), fps, times), settings)
    if found.sum() == 1:
        fit = clip.alone(int(found.argmax()), shape)
    else:
        fit = clip.together(shape)
    return replace(fit, error=torch.where(torch.from_numpy(found).to(fit.error.device), fit.error, torch.nan))


@dataclass(frozen=True)
class _Clip:
    """What `fit_clip` was asked to do. Frames without a face have the points of the nearest one, which count for nothing."""

    head: LinearHeadModel
    points: Tensor
    seen: Mask
    camera: Camera
    times: Array
    settings: ClipSettings

    def alone(self, frame: int, shape: Tensor | None) -> HeadFit:
        """A clip of which one frame shows a face: a photo."""
        one = slice(frame, frame + 1)
        known = None if shape is None else shape[None]
        fit = fit_heads(self.head, self.points[one], self.camera[one], self.settings.fit, shape=known)
        fit = fit_eyes(self.head, fit, self.points[one])
        rows = torch.zeros(len(self.points), dtype=torch.int64, device=self.points.device)
        return HeadFit(fit.params[rows], self.camera, fit.error[rows])

    def together(self, shape: Tensor | None) -> HeadFit:
        """Every frame of a clip with two faces or more."""
        visible = np.flatnonzero(self.seen)
        keys = self._key_frames(visible)
        if shape is None:
            nobody_else = torch.zeros(len(keys), dtype=torch.int64)
            key_fit = fit_heads(self.head, self.points[keys], self.camera[keys], self.settings.fit, people=nobody_else)
            shape = key_fit.params.shape[0]
        person = _Person.of(self.head, shape)
        state = self._one_by_one(person, visible)
        reference = mean_rotation(state.rotation)
        track = _filled(to_track(state, reference), visible, len(self.points))
        bias = state.bias.new_zeros(len(self.points), state.bias.shape[1])
        bias[visible] = state.bias
        motion = self._motion(person, track, bias, reference, keys)
        for run in _runs(self.seen, self.times, self.settings.longest_gap):
            track[run.start : run.stop] = self._over_time(person, track, bias, reference, motion, run)
        fit = self._fit(person, track, reference)
        for run in _runs(self.seen, self.times, self.settings.longest_gap):
            fit = self._with_eyes(fit, run)
        nearest = torch.from_numpy(_nearest(self.seen, self.times, self.settings.longest_gap))
        return HeadFit(fit.params[nearest], self.camera, fit.error)

    def _key_frames(self, visible: npt.NDArray[np.intp]) -> Tensor:
        """Numbers of the key frames."""
        model, ahead = point_model(self.head), []
        for rows in _chunks(visible):
            trust = self.points.new_ones(len(rows), self.points.shape[1])
            guess, _ = first_guess(model, self.points[rows], self.camera[rows], trust, 1)
            ahead.append(guess.rotation[:, :2, 2])
        chosen = key_frames(self.points[visible].double().cpu().numpy(), torch.cat(ahead).double().cpu().numpy(), self.settings.key_frames)
        return torch.from_numpy(visible[chosen])

    def _problem(self, person: _Person, rows: Tensor) -> tuple[Problem, HeadState]:
        """Frames without coupling, and a first guess; frames without a face are left to themselves."""
        points, trust = self.points[rows], self.points.new_ones(len(rows), self.points.shape[1])
        guess, view = first_guess(person.points, points, self.camera[rows], trust, person.noise.factors.shape[2])
        numbers = torch.arange(len(rows), device=points.device)
        problem = Problem(person.points, view, person.noise, person.prior, numbers, len(rows), True, self.settings.fit.cut)
        return problem, guess

    def _one_by_one(self, person: _Person, visible: npt.NDArray[np.intp]) -> HeadState:
        """Each visible frame by itself."""
        return concatenate([minimise(*self._problem(person, rows), self.settings.steps) for rows in _chunks(visible)])

    def _motion(self, person: _Person, track: Array, bias: Tensor, reference: Tensor, keys: Tensor) -> Motion:
        """Prices for this clip, from how well single key frames know their unknowns."""
        hessian, _, _ = self._equations(person, track[keys.numpy()], bias[keys], reference, keys)
        variance = np.linalg.inv(hessian).diagonal(axis1=1, axis2=2)
        return motion_of(self.head, person.prior, 1 / np.median(variance, axis=0), self.settings.pace)

    def _over_time(self, person: _Person, track: Array, bias: Tensor, reference: Tensor, motion: Motion, run: range) -> Array:
        """New rows for a run of frames, window by window; every window begins with the old rows."""
        parts, size = [], self.settings.window
        for first in range(run.start, run.stop, size):
            core = range(first, min(first + size, run.stop))
            near = (self.times >= self.times[core[0]] - self.settings.overlap) & (
                self.times <= self.times[core[-1]] + self.settings.overlap
            )
            near[: run.start], near[run.stop :] = False, False
            frames = np.flatnonzero(near)
            solved = self._window(person, track[frames], bias[frames], reference, motion, frames)
            parts.append(solved[core.start - frames[0] : core.stop - frames[0]])
        return np.concatenate(parts)

    def _window(self, person: _Person, rows: Array, bias: Tensor, reference: Tensor, motion: Motion, frames: npt.NDArray[np.intp]) -> Array:
        """Some rounds of linearising each frame and solving all of them."""
        unseen = ~self.seen[frames]
        for _ in range(self.settings.rounds):
            parts = [
                self._equations(person, rows[part], bias[part], reference, torch.from_numpy(frames[part])) for part in chunks(len(frames))
            ]
            hessian, gradient = (np.concatenate([part[which] for part in parts]) for which in range(2))
            hessian[unseen], gradient[unseen] = 0, 0
            before, rows = rows, solve_over_time(hessian, gradient, rows, self.times[frames], motion, self.settings.looks)
            change = rows - before
            bias = torch.cat([part[2].after(bias[at], change[at]) for part, at in zip(parts, chunks(len(frames)), strict=True)])
        return rows

    def _equations(self, person: _Person, rows: Array, bias: Tensor, reference: Tensor, frames: Tensor) -> tuple[Array, Array, Habits]:
        """What some frames ask for by themselves, without the detector's habits."""
        problem, like = self._problem(person, frames)
        state = within_limits(problem, from_track(rows, reference, replace(like, bias=bias)))
        normal = linearise(problem, state)
        square, pull, habits = without_habits(normal.hessian, normal.gradient, bias.shape[1])
        return (*along_track(square, pull, rows), habits)

    def _fit(self, person: _Person, track: Array, reference: Tensor) -> HeadFit:
        """Rows as heads."""
        fits = []
        for rows in _chunks(np.arange(len(track))):
            problem, guess = self._problem(person, rows)
            state = from_track(track[rows.numpy()], reference, guess)
            trust = self.points.new_ones(len(rows), self.points.shape[1])
            error = reprojection_error(person.points, state, problem.view, self.points[rows], trust)
            whole = replace(state, shape=person.shape.expand(len(rows), -1))
            fits.append(HeadFit(params_of(point_model(self.head), whole, self.camera[rows]), self.camera[rows], error))
        return concatenate(fits)

    def _with_eyes(self, fit: HeadFit, run: range) -> HeadFit:
        """Gaze and lids of a run of frames."""
        rows = slice(run.start, run.stop)
        part = smooth_eyes(self.head, fit[rows], self.points[rows], self.seen[rows], self.times[rows], self.settings.pace)
        return concatenate([fit[: run.start], part, fit[run.stop :]])


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


def _filled(rows: Array, visible: npt.NDArray[np.intp], count: int) -> Array:
    """Rows [T, U] of all frames from those that were seen; straight lines between these."""
    every = np.arange(count)
    return np.stack([np.interp(every, visible, column) for column in rows.T], axis=1)


def _runs(seen: Mask, times: Array, longest_gap: float) -> list[range]:
    """Frames from a seen one to a seen one, with no longer gaps between."""
    visible = np.flatnonzero(seen)
    breaks = np.flatnonzero((np.diff(times[visible]) > longest_gap) & (np.diff(visible) > 1)) + 1
    return [range(int(part[0]), int(part[-1]) + 1) for part in np.split(visible, breaks)]


def _nearest(seen: Mask, times: Array, longest_gap: float) -> npt.NDArray[np.intp]:
    """For each frame itself where it belongs to a run, else the nearest frame that does."""
    return _nearest_of(np.concatenate([np.asarray(run) for run in _runs(seen, times, longest_gap)]), len(seen))


def _nearest_of(some: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """For each of 0 ... count - 1 the nearest of some increasing numbers."""
    every = np.arange(count)
    place = np.searchsorted(some, every)
    before, after = some[np.maximum(place - 1, 0)], some[np.minimum(place, len(some) - 1)]
    return np.where(np.abs(every - before) < np.abs(after - every), before, after)
