"""Films: do heads keep still, and keep up?

    python -m bench.tracking_clips [--quick] [--cache FOLDER] [--json FILE]

Every frame of synthetic films is fitted by itself (with its own shape) and as a part of its film. Jitter of a parameter is what its second
differences have beyond those of the truth: sqrt(max(0, rms(d2 fitted)^2 - rms(d2 true)^2)). Lags are where a curve correlates best with the
truth, and with the single fits, in frames, between frames by a parabola. A blink's height is how far eyeBlink rises above its median
within three frames of the true peak.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.report import Report
from bench.tracking_clip_data import FPS, Clip, between_eyes, load_clips, without_neck
from bench.tracking_data import RESOLUTION, the_head
from dnnlib.machine import physical_cores
from next3d.head.model import HeadParams, Joint, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.tracking.clip import fit_clip
from next3d.tracking.eyes import fit_eyes
from next3d.tracking.fit import fit_heads
from next3d.tracking.track import mean_rotation
from next3d.types import Camera

Array = npt.NDArray[np.float64]

_LEAST_JITTER = 1e-3
"""What keeps this still by itself (radians, world units, strengths) is not judged."""
_PEAK_WINDOW = 3
"""Frames around a true blink in which its height is looked for."""
_CHUNK = 16


@dataclass(frozen=True)
class Curves:
    """What is judged of a film of T frames: [T, K] each."""

    turn: Array
    """Of the head, in the camera's axes, about the film's mean true rotation: axis-angle, radians."""
    place: Array
    """Between the eyes, in camera coordinates, world units: two aside, and depth."""
    jaw: Array
    """Radians."""
    gaze: Array
    """Pitch and yaw of the left and the right eye, radians."""
    expression: Array
    """Strengths."""

    @property
    def blink(self) -> Array:
        """[T, 1]: mean strength of both eyes."""
        names = the_head().expression_names
        return self.expression[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].mean(axis=1, keepdims=True)


def read_curves(params: HeadParams, camera: Camera, reference: Tensor) -> Curves:
    """A film's heads as curves; `reference` [3, 3] is the rotation that is no turn."""
    straight = without_neck(the_head(), params)
    world2cam = camera.cam2world[:, :3, :3].transpose(1, 2)
    turn = world2cam @ axis_angle_to_matrix(straight.pose[:, Joint.GLOBAL])
    place = (world2cam @ (between_eyes(the_head(), straight) - camera.cam2world[:, :3, 3])[..., None])[..., 0]
    tables = {
        "turn": matrix_to_axis_angle(turn.double() @ reference.T),
        "place": place,
        "jaw": params.pose[:, Joint.JAW, :1],
        "gaze": params.pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2].flatten(1),
        "expression": params.expression,
    }
    return Curves(**{name: table.double().numpy() for name, table in tables.items()})


def fit_alone(points: Tensor, camera: Camera) -> HeadParams:
    """Every frame as if it were a photo."""
    parts = []
    for first in range(0, len(points), _CHUNK):
        rows = slice(first, first + _CHUNK)
        parts.append(fit_eyes(the_head(), fit_heads(the_head(), points[rows], camera[rows]), points[rows]).params)
    return HeadParams(**{one.name: torch.cat([getattr(part, one.name) for part in parts]) for one in fields(HeadParams)})


@dataclass(frozen=True)
class Judged:
    """One film's curves."""

    true: Curves
    film: Curves
    alone: Curves
    """Fits of single frames to the same points."""
    photos: Curves
    """The same to the points of the detector that does not know that it is a film."""
    milliseconds: float
    """Of processor time per frame for `film`."""


@torch.no_grad()
def judge(clip: Clip) -> Judged:
    """Fit a film in three ways."""
    followed, still = (torch.from_numpy(points / RESOLUTION).float() for points in (clip.followed, clip.still))
    seen = followed.isfinite().all(dim=2).all(dim=1)
    found = seen & still.isfinite().all(dim=2).all(dim=1)
    start = time.process_time()
    film = fit_clip(the_head(), followed, seen, clip.camera, FPS).params
    taken = 1000 * (time.process_time() - start) / len(followed)
    straight = without_neck(the_head(), clip.params)
    reference = mean_rotation(clip.camera.cam2world[:, :3, :3].transpose(1, 2) @ axis_angle_to_matrix(straight.pose[:, Joint.GLOBAL]))
    camera = clip.camera[found]
    params = (clip.params[found], film[found], fit_alone(followed[found], camera), fit_alone(still[found], camera))
    return Judged(*[read_curves(one, camera, reference) for one in params], milliseconds=taken)


def jitter(fitted: Sequence[Array], true: Sequence[Array]) -> Array:
    """[K]: root mean square of the second differences of films [T, K] beyond that of the truth."""

    def square(films: Sequence[Array]) -> Array:
        return np.asarray((np.concatenate([np.diff(film, 2, axis=0) for film in films]) ** 2).mean(axis=0))

    return np.sqrt(np.maximum(square(fitted) - square(true), 0))


def shake(fitted: Sequence[Array], true: Sequence[Array]) -> Array:
    """[K]: root mean square of the differences between frames of the error; what a fit is late or misses counts, too."""
    steps = np.concatenate([np.diff(film - truth, axis=0) for film, truth in zip(fitted, true, strict=True)])
    return np.sqrt((steps**2).mean(axis=0))


def lag(fitted: Sequence[Array], true: Sequence[Array], most: int = 5) -> float:
    """Frames by which films [T, K] come later than others, where they correlate best."""
    lags = list(range(-most, most + 1))
    match = np.array([_correlation(fitted, true, step, most) for step in lags])
    best = int(np.clip(match.argmax(), 1, len(lags) - 2))
    before, here, after = match[best - 1 : best + 2]
    bend = before - 2 * here + after
    return lags[best] + (0.5 * float(before - after) / float(bend) if bend else 0.0)


def _correlation(fitted: Sequence[Array], true: Sequence[Array], step: int, most: int) -> float:
    """Of films that are `step` frames later with others; curves are counted from their means."""
    pairs = [
        (film[most + step : len(film) - most + step], truth[most : len(truth) - most]) for film, truth in zip(fitted, true, strict=True)
    ]
    late, real = (np.concatenate([one - one.mean(axis=0) for one in group]) for group in zip(*pairs, strict=True))
    return float((late * real).sum() / np.sqrt((late**2).sum() * (real**2).sum()))


def blink_heights(fitted: Sequence[Array], true: Sequence[Array]) -> Array:
    """How high each true blink (a peak above 0.8) stands out of the median of its film."""
    heights = []
    for film, truth in zip(fitted, true, strict=True):
        shut = np.flatnonzero(truth[:, 0] > 0.8)
        for run in np.split(shut, np.flatnonzero(np.diff(shut) > 1) + 1) if len(shut) else []:
            near = slice(max(0, run[0] - _PEAK_WINDOW), run[-1] + _PEAK_WINDOW + 1)
            heights.append(film[near].max() - np.median(film))
    return np.array(heights)


def add_jitter(report: Report, judged: Sequence[Judged]) -> None:
    """Per group and over all parameters: how much of the independent fits' jitter a film's fit has."""
    ratios: list[float] = []
    for name in [one.name for one in fields(Curves)]:
        true, film, alone, photos = ([getattr(getattr(one, kind), name) for one in judged] for kind in ("true", "film", "alone", "photos"))
        ours, base, still = jitter(film, true), jitter(alone, true), jitter(photos, true)
        judgeable = base > _LEAST_JITTER
        ratios += list(ours[judgeable] / base[judgeable])
        note = f"{judgeable.sum()} parameters; alone {_rms(base):.3g}, of photos {_rms(still):.3g}, in the film {_rms(ours):.3g}"
        report.add(f"jitter_{name}_ratio", _rms(ours) / max(_rms(base), 1e-12), bar="<= 0.5", note=note)
        error = _rms(shake(film, true)) / _rms(shake(alone, true))
        report.add(f"shake_{name}_ratio", error, note="steps of the error between frames; single fits to the same points are 1")
    report.add("jitter_worst_ratio", max(ratios), bar="<= 0.5", note=f"of {len(ratios)} parameters, one by one")
    report.add("jitter_median_ratio", float(np.median(ratios)))


def _rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


_TIMED: dict[str, Callable[[Curves], Array]] = {
    "turn": lambda curves: curves.turn,
    "jaw": lambda curves: curves.jaw,
    "gaze": lambda curves: curves.gaze,
    "blink": lambda curves: curves.blink,
}


def add_timing(report: Report, judged: Sequence[Judged]) -> None:
    """Lags, and what is left of blinks and of the jaw's way."""
    for name, curve in _TIMED.items():
        truth, film, alone = ([curve(getattr(one, kind)) for one in judged] for kind in ("true", "film", "alone"))
        report.add(f"lag_{name}_frames", lag(film, truth), bar="within 0.5", note=f"behind the truth; alone {lag(alone, truth):.2f}")
        report.add(f"lag_{name}_behind_alone_frames", lag(film, alone), bar="within 0.5")
    truth, film, alone = ([getattr(one, kind).blink for one in judged] for kind in ("true", "film", "alone"))
    real, ours, single = (blink_heights(group, truth) for group in (truth, film, alone))
    note = f"median of {len(real)} blinks; alone {np.median(single / real):.2f}"
    report.add("blink_height_of_truth", float(np.median(ours / real)), bar=">= 0.8", note=note)
    report.add("blink_height_least_of_truth", float((ours / real).min()), note=f"the lowest blink; alone {(single / real).min():.2f}")
    report.add("blink_height_of_alone", float(np.median(ours / single)), bar=">= 0.8")
    spans = {kind: np.array([np.ptp(getattr(one, kind).jaw) for one in judged]) for kind in ("true", "film", "alone")}
    note = f"widest minus least, median of films; alone {np.median(spans['alone'] / spans['true']):.2f}"
    report.add("jaw_span_of_truth", float(np.median(spans["film"] / spans["true"])), note=note)


def run(report: Report, cache: Path | None, *, count: int | None = None, name: str = "test") -> None:
    """Add all rows."""
    with ProcessPoolExecutor(physical_cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
        clips = load_clips(name, pool, count=count, cache=cache)
    torch.set_num_threads(1)
    judged = [judge(clip) for clip in clips]
    add_jitter(report, judged)
    add_timing(report, judged)
    note = f"{len(clips[0].images)} frames, processor time, without the detector"
    report.add("film_fit_ms_per_frame", float(np.median([one.milliseconds for one in judged])), bar="<= 15", note=note)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="One film.")
    parser.add_argument("--set", choices=("test", "fit"), default="test", help="Films to judge on; constants are chosen on those of 'fit'.")
    parser.add_argument("--cache", type=Path, default=None, help="Folder that keeps renderings and detections.")
    parser.add_argument("--json", type=Path, default=None, help="Also write the figures to this file.")
    arguments = parser.parse_args()
    report = Report("tracking_clips")
    run(report, arguments.cache, count=1 if arguments.quick else None, name=arguments.set)
    report.finish(arguments.json)


if __name__ == "__main__":
    main()
