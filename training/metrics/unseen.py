"""Does the head do what it is told where the data hardly shows how? Jaw and gaze at their extremes, at the same time.

A network that learned expressions as whole pictures does well where controls are moved one at a time and fails here; what it is asked is
known as compositional generalisation. Data sets that draw jaw and gaze independently show such heads now and then; the figures' note says
how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.head.model import HeadParams
from training.metrics.context import Context
from training.metrics.controls import Control
from training.metrics.face_state import pose_distance
from training.metrics.figures import Figure
from training.metrics.intervals import bootstrap
from training.metrics.obedience import median, median_figure
from training.metrics.readings import Faces, held_out_rows, known_controls, meshes_refused, natural_scenes, read_poses
from training.metrics.regressor import spearman
from training.metrics.truth import TruthSampler
from training.metrics.views import SYNTHETIC_HEAD
from training.randomness import Draws

EDGE = 0.05
"""Part of a control's range, at its end, that is its extreme; gaze has two ends."""
TRUE_PEOPLE = 64
"""People that are rendered for the floor at most."""


@dataclass(frozen=True)
class Sweep:
    """N heads with some controls drawn evenly over their range, and jaw or gaze or both at their extremes."""

    heads: HeadParams
    commands: Mapping[str, Tensor]
    """The even ones, by name: [N] each."""
    where: str
    """In words, what the extremes are."""


def sweeps(known: Mapping[str, Control], params: HeadParams, seed: int = 0) -> list[Sweep]:
    """What is commanded of N heads; what is not named here stays as it was.

    The jaw evenly while the eyes are at either end of their range; the eyes evenly while the mouth is wide open; lids and smile, where the
    head has them, evenly and independently while both are at their ends.
    """
    index = torch.arange(len(params.scale))

    def uniform(purpose: str) -> Tensor:
        return Draws(seed).uniform(f"metrics: unseen {purpose}", index)

    even = {name: control.at(uniform(name)) for name, control in known.items()}
    wide, aside = {"jaw": known["jaw"].at(1 - EDGE * uniform("wide"))}, {"gaze": known["gaze"].at(ends(uniform("aside")))}
    others = {name: even[name] for name in known if name not in ("jaw", "gaze")}
    plans = [
        ({"jaw": even["jaw"]}, aside, "eyes at either end"),
        ({"gaze": even["gaze"]}, wide, "mouth wide open"),
        (others, wide | aside, "mouth wide open, eyes at either end"),
    ]
    return [Sweep(_with(known, params, swept | fixed), swept, where) for swept, fixed, where in plans if swept]


def ends(fractions: Tensor) -> Tensor:
    """Even fractions [N] in [0, 1) to the two ends of a range: below EDGE, or above 1 - EDGE."""
    return torch.where(fractions < 0.5, 2 * EDGE * fractions, 1 - 2 * EDGE * (fractions - 0.5))


def _with(known: Mapping[str, Control], params: HeadParams, values: Mapping[str, Tensor]) -> HeadParams:
    for name, value in values.items():
        params = known[name].set(params, value.to(params.pose))
    return params


def shown_together(known: Mapping[str, Control], params: HeadParams) -> int:
    """How many of N heads have jaw and gaze at their extremes (or beyond) at the same time."""
    jaw, gaze = ((control.read(params) - control.low) / (control.high - control.low) for control in (known["jaw"], known["gaze"]))
    return int(((jaw >= 1 - EDGE) & ((gaze - 0.5).abs() >= 0.5 - EDGE)).sum())


def measure(context: Context) -> list[Figure]:
    """Rank correlation of readings and commands in rare combinations, and the head's pose there."""
    scenes, known = natural_scenes(context), known_controls(context)
    plans = sweeps(known, scenes.moving, context.settings.seed)
    found = read_poses(context, scenes, [plan.heads for plan in plans])
    best = context.once("avatar: unseen truth", lambda: _true_faces(context, plans))
    rarity = context.once("avatar: unseen count", lambda: _rarity(context))
    note = f"{rarity}; floor: true renderings"
    figures, columns = [], list(known)
    for number, (plan, faces) in enumerate(zip(plans, found, strict=True)):
        for name, commands in plan.commands.items():
            column = columns.index(name)
            floor = None if best is None else spearman(commands[:TRUE_PEOPLE], best[number].reading.controls[:, column])
            about = f"{name}: commands and readings, {plan.where}; {note}"
            figures.append(_correlation(context, f"unseen_{name}_spearman", commands, faces.reading.controls[:, column], floor, about))
    about = f"median angle between commanded and read rotation of the head in all of these; {note}"
    floor = None if best is None else median(_pose_errors(best))
    return [*figures, median_figure(context, "unseen_apd_median", _pose_errors(found), "degrees", about, floor)]


def _correlation(context: Context, name: str, commands: Tensor, readings: Tensor, floor: float | None, note: str) -> Figure:
    """A rank correlation with its interval."""
    seed = context.settings.seed
    interval: tuple[float | None, float | None] = (None, None)
    if context.settings.intervals:
        interval = bootstrap(lambda rows: spearman(commands[rows], readings[rows]), len(commands), seed)
    return Figure(name, spearman(commands, readings), len(commands), seed, *interval, floor, "", note)


def _pose_errors(faces: list[Faces]) -> Tensor:
    """Degrees [N, K] of K sets of the same N people."""
    return torch.stack([pose_distance(part.truth, part.reading) for part in faces], dim=1)


def _true_faces(context: Context, plans: list[Sweep]) -> list[Faces] | None:
    """True renderings of the same commands, read: the best that can be asked for. None where there are none, or they take too long."""
    if context.dataset.head_name != SYNTHETIC_HEAD or not context.settings.intervals:
        return None
    scenes = natural_scenes(context)[:TRUE_PEOPLE]
    truth = TruthSampler(context.head, context.dataset.resolution)
    return read_poses(context, scenes, [plan.heads[:TRUE_PEOPLE] for plan in plans], truth)


def _rarity(context: Context) -> str:
    """How many of the images that a network may have seen have jaw and gaze at their extremes at once, in words."""
    count = held_out_rows(context).start
    _, params = context.dataset.conditions(range(count))
    if not isinstance(params, HeadParams):
        raise meshes_refused(context)
    shown = shown_together(known_controls(context), params)
    ratio = f" (1 in {count / shown:.0f})" if shown else ""
    return f"of {count} images that are not held out, {shown}{ratio} have jaw and gaze at such extremes at once"
