"""Does the head do what it is told? Distances between what was commanded and what the pictures show.

AED, APD and AKD are the average expression, pose and keypoint distances of face reenactment (AKD and the term: Siarohin et al. 2019,
"First order motion model", Sec. 4; AED and APD with regressors of a 3D face model: Ren et al. 2021, "PIRenderer", Sec. 4, and Next3D,
Sec. 4.1). There, a published regressor reads the driving picture and the generated one. Here the commands are known, so readings of
generated pictures are compared with them, and the reader is fitted to the data set's own labels: `training.metrics.face_reader`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from training.metrics.context import Context
from training.metrics.controls import Control
from training.metrics.face_state import (
    SHUT,
    expression_distance,
    eye_distance,
    gaze_distance,
    landmark_distance,
    pose_distance,
)
from training.metrics.figures import Figure
from training.metrics.intervals import bootstrap, mean_interval
from training.metrics.readings import Faces, generated_faces, held_out_faces, known_controls, natural_scenes, read_poses
from training.metrics.regressor import evenly_spread, spearman
from training.randomness import Draws

FLOOR = "floor: held-out real images"


def measure_expression(context: Context) -> list[Figure]:
    """AED."""
    note = f"mean distance of the landmarks that expression and jaw move, in the head's frame; {FLOOR}"
    return [_distance(context, "aed", "% of eye distance", note, lambda faces: expression_distance(faces.truth, faces.reading))]


def measure_pose(context: Context) -> list[Figure]:
    """APD, and the median."""
    note = f"angle between commanded and read rotation of the head relative to the camera; {FLOOR}"
    values, real = (pose_distance(faces.truth, faces.reading) for faces in (generated_faces(context), held_out_faces(context)))
    return [
        _distance(context, "apd", "degrees", note, lambda faces: pose_distance(faces.truth, faces.reading)),
        median_figure(context, "apd_median", values[:, None], "degrees", f"median of that; {FLOOR}", floor=median(real)),
    ]


def measure_landmarks(context: Context) -> list[Figure]:
    """AKD, in pixels and relative to the face."""
    size = context.dataset.resolution

    def relative(faces: Faces) -> Tensor:
        return 100 * landmark_distance(faces.truth, faces.reading, size) / eye_distance(context.head, faces.params, faces.camera, size)

    note = f"mean distance of the 68 landmarks; {FLOOR}"
    return [
        _distance(context, "akd_px", f"pixels of {size}", note, lambda faces: landmark_distance(faces.truth, faces.reading, size)),
        _distance(context, "akd", "% of eye distance", note, relative),
    ]


def measure_gaze(context: Context) -> list[Figure]:
    """Gaze error."""
    note = f"angle between commanded and read gaze in the head; shut eyes left out; {FLOOR}"
    names = list(known_controls(context))

    def open_eyes(faces: Faces) -> Tensor:
        angle = gaze_distance(faces.truth, faces.reading)
        return angle[faces.truth.controls[:, names.index("blink")] < SHUT] if "blink" in names else angle

    return [_distance(context, "gaze_error", "degrees", note, open_eyes)]


def _distance(context: Context, name: str, unit: str, note: str, distances: Callable[[Faces], Tensor]) -> Figure:
    """A mean over the generated pictures, with the same mean over held-out real ones."""
    values, real = distances(generated_faces(context)), distances(held_out_faces(context))
    low, high = mean_interval(values) if context.settings.intervals else (None, None)
    return Figure(name, float(values.mean()), len(values), context.settings.seed, low, high, float(real.mean()), unit, note)


def median_figure(context: Context, name: str, values: Tensor, unit: str, note: str, floor: float | None) -> Figure:
    """The median of values [N, K] of N people, several of each; its interval resamples people."""
    interval: tuple[float | None, float | None] = (None, None)
    if context.settings.intervals:
        interval = bootstrap(lambda rows: median(values[rows]), len(values), context.settings.seed)
    return Figure(name, median(values), values.numel(), context.settings.seed, *interval, floor, unit, note)


def median(values: Tensor) -> float:
    """The median of all values; between the two in the middle if their number is even."""
    return float(values.double().flatten().quantile(0.5))


def measure_response(context: Context) -> list[Figure]:
    """Response curves: every control is commanded evenly over its range, everything else as data sets have it."""
    figures, scenes, real = [], natural_scenes(context), held_out_faces(context)
    known = list(known_controls(context).values())
    commands = [
        control.at(Draws(context.settings.seed).uniform(f"metrics: {control.name}", torch.arange(len(scenes)))) for control in known
    ]
    heads = [scenes.commanded(control, values).moving for control, values in zip(known, commands, strict=True)]
    for column, faces in enumerate(read_poses(context, scenes, heads)):
        control = known[column]
        truth, read = real.truth.controls[:, column], real.reading.controls[:, column]
        even = evenly_spread(truth, control)
        figures += response_figures(context, control, (commands[column], faces.reading.controls[:, column]), (truth[even], read[even]))
    return figures


Pairs = tuple[Tensor, Tensor]
"""Commands [N] and readings [N]."""


def response_figures(context: Context, control: Control, generated: Pairs, real: Pairs) -> list[Figure]:
    """Slope, R² and rank correlation of readings over commands; the "floor" is what held-out real images reach."""
    commands, readings = generated
    seed = context.settings.seed
    note = f"readings over commands {control.low:.2f} to {control.high:.2f}; floor: {len(real[0])} held-out real images, spread evenly"
    figures = []
    for name, statistic in (("slope", slope), ("r2", r_squared), ("spearman", spearman)):
        interval: tuple[float | None, float | None] = (None, None)
        if context.settings.intervals:
            interval = bootstrap(partial(_of_rows, statistic, generated), len(commands), seed)
        floor = statistic(*real) if len(real[0]) > 2 else None
        figures.append(
            Figure(
                f"{control.name}_{name}",
                statistic(commands, readings),
                len(commands),
                seed,
                *interval,
                floor,
                "",
                note if name == "slope" else "",
            )
        )
    return figures


def _of_rows(statistic: Callable[[Tensor, Tensor], float], pairs: Pairs, rows: Tensor) -> float:
    return statistic(pairs[0][rows], pairs[1][rows])


def slope(commands: Tensor, readings: Tensor) -> float:
    """Of the line through readings [N] over commands [N] by least squares; 0 where all commands are equal."""
    across = commands.double() - commands.double().mean()
    total = float(across.square().sum())
    return float((across * readings.double()).sum()) / total if total > 0 else 0.0


def r_squared(commands: Tensor, readings: Tensor) -> float:
    """Share of the readings' variance that that line explains; 0 where there is none."""
    across, up = commands.double() - commands.double().mean(), readings.double() - readings.double().mean()
    total = float(across.square().sum() * up.square().sum())
    return float((across * up).sum()) ** 2 / total if total > 0 else 0.0
