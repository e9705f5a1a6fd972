"""How well tracking reads eyes: where they look and how far they are shut. Rows of `bench.tracking`.

    python -m bench.tracking_eyes

measures anew how the detector reads irises and lids, on portraits that are never judged, and prints the constants of
`next3d.tracking.gaze.FACE_MESH_READING` and `next3d.tracking.lids.FACE_MESH_LIDS`.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.portraits import open_pool
from bench.report import Report
from bench.tracking_data import RESOLUTION, SETS, Array, Stills, load_stills, the_head
from dnnlib.machine import physical_cores
from next3d.head.model import HeadModel, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix
from next3d.tracking.eyeballs import EYES, eye_pair, in_picture, picture_scale
from next3d.tracking.face_mesh import open_detector
from next3d.tracking.gaze import IRIS_POINTS, IrisReading, eye_axes
from next3d.tracking.lids import LidReading, lid_gaps, true_gaps
from next3d.tracking.types import HeadFit, Pixels

GAZE_BAR, BLINK_BAR = 5.0, 0.8
_FIT_SETS = ("fit", "fit_gaze", "fit_blink")
_OPEN = 0.3
"""Strength of eyeBlink below which an eye counts as open."""
_DOWN = 0.15
"""Radians from which an eye counts as looking down."""


def gaze_directions(params: HeadParams, *, in_head: bool) -> Tensor:
    """Unit vectors [N, 2, 3] along which left and right eyes look, in the head's axes or the world's."""
    turns = axis_angle_to_matrix(params.pose)
    eyes = turns[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :, 2]  # each eye's z axis
    if in_head:
        return eyes
    return eyes @ (turns[:, Joint.GLOBAL] @ turns[:, Joint.NECK]).transpose(1, 2)


def degrees_between(first: Tensor, second: Tensor) -> Tensor:
    """Angles [...] between unit vectors [..., 3]."""
    across = torch.linalg.cross(first, second).norm(dim=-1)
    return torch.atan2(across, (first * second).sum(dim=-1)) * (180 / math.pi)


def blink_strengths(head: HeadModel, params: HeadParams) -> Tensor:
    """eyeBlink of left and right eyes, [N, 2]."""
    columns = [head.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    return params.expression[:, columns]


def add_gaze(report: Report, head: HeadModel, stills: Stills, fit: HeadFit, *, name: str = "gaze") -> None:
    """Angles between true and found directions of both eyes, of the stills in which a face was seen.

    Args:
        report: gets the figures.
        head: of both.
        stills: N portraits; `fit` has those of them that were seen.
        fit: in the world of the true cameras.
        name: begins the figures' names.
    """
    truth = stills.params[torch.from_numpy(stills.seen)]
    opened = blink_strengths(head, truth) < _OPEN
    for where, in_head in (("head", True), ("camera", False)):
        true = gaze_directions(truth, in_head=in_head)
        error = degrees_between(gaze_directions(fit.params, in_head=in_head), true)
        usual = torch.nn.functional.normalize(true.mean(dim=(0, 1)), dim=0)
        constant = degrees_between(usual.expand_as(true), true).median()
        note = f"median of {error.numel()} eyes, in the {where}'s frame; always the mean direction: {constant:.1f}"
        report.add(f"{name}_{where}_deg", float(error.median()), bar=f"<= {GAZE_BAR:g}", note=note)
        note = f"eyes that are shut by less than {_OPEN:g}; 90th percentile {float(error[opened].quantile(0.9)):.1f}"
        report.add(f"{name}_{where}_open_deg", float(error[opened].median()), note=note)


def add_blinks(report: Report, head: HeadModel, stills: Stills, fit: HeadFit) -> None:
    """Rank correlation of closures on portraits whose blinks are drawn evenly; as `add_gaze`."""
    from scipy.stats import spearmanr

    true, found = blink_strengths(head, stills.params[torch.from_numpy(stills.seen)]), blink_strengths(head, fit.params)
    ranks = float(spearmanr(true.mean(dim=1), found.mean(dim=1)).statistic)
    report.add("blink_spearman", ranks, bar=f">= {BLINK_BAR}", note=f"{len(true)} portraits, mean of both eyes; a constant has 0")
    note = f"mean error of each eye's strength; always the mean: {float((true - true.mean()).abs().mean()):.2f}"
    report.add("blink_error", float((true - found).abs().mean()), note=note)


def add_looking_down(report: Report, head: HeadModel, stills: Stills, fit: HeadFit) -> None:
    """How much of a blink is found in open eyes that look down, beside those that do not; as `add_gaze`."""
    truth = stills.params[torch.from_numpy(stills.seen)]
    opened = blink_strengths(head, truth) < _OPEN
    pitch = truth.pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], 0]
    found = blink_strengths(head, fit.params)
    down, other = found[opened & (pitch > _DOWN)], found[opened & (pitch <= _DOWN)]
    note = f"mean strength found in {len(down)} open eyes that look down by over {_DOWN:g} rad; in others {float(other.mean()):.2f}"
    report.add("blink_of_lowered_eyes", float(down.mean()), note=note)


@torch.no_grad()
def measure_irises(head: LinearHeadModel, truth: HeadFit, points: Tensor) -> tuple[IrisReading, Array]:
    """How a detector reads the irises of N heads whose truth is known: least squares over the eyes that are open.

    Args:
        head: of the portraits.
        truth: its true parameters and cameras.
        points: [N, 478, 3], detected, unit coordinates.

    Returns:
        The reading, and what it leaves along and across the eye's line [2]: standard deviations in radii of the eyeball.
    """
    eyes = eye_pair(head, truth)
    corners = in_picture(eyes.corners, truth.camera)
    axes = eye_axes(corners)
    middle, width = corners.mean(dim=2), (corners[:, :, 0] - corners[:, :, 1]).norm(dim=-1)
    gaze = truth.params.pose[:, list(EYES), :2]
    shown = in_picture(eyes.look(gaze), truth.camera)[:, :, 0]
    found = points[:, [numbers[0] for numbers in IRIS_POINTS], :2]
    opened = (blink_strengths(head, truth.params) < _OPEN) & points.isfinite().all(dim=(1, 2))[:, None]
    true, read = (((axes @ (place - middle)[..., None])[..., 0] / width[..., None])[opened].double().numpy() for place in (shown, found))
    radius = (eyes.radius * picture_scale(eyes.centre, truth.camera) / width)[opened].double().numpy()
    lines = [np.polyfit(true[:, axis], read[:, axis], 1) for axis in (0, 1)]
    left = [((read[:, axis] - np.polyval(lines[axis], true[:, axis])) / radius).std() for axis in (0, 1)]
    (along, outwards), (across, down) = lines
    return IrisReading(gain_along=along, gain_across=across, shift_outwards=outwards, shift_down=down), np.array(left)


@torch.no_grad()
def measure_lids(head: LinearHeadModel, truth: HeadFit, points: Tensor) -> tuple[LidReading, float]:
    """How a detector reads the gaps between the lids of heads whose truth is known, and what that leaves (standard deviation)."""
    from scipy.optimize import curve_fit

    seen = points.isfinite().all(dim=(1, 2))
    true = true_gaps(head, truth.params, truth.camera)[seen].flatten().double().numpy()
    read = lid_gaps(points)[seen].flatten().double().numpy()

    def curve(gap: Array, rest: float, jump: float, reach: float, slope: float) -> Array:
        return LidReading(rest=rest, jump=jump, reach=reach, slope=slope).read(torch.from_numpy(gap)).numpy()

    found, _ = curve_fit(curve, true, read, p0=(0.1, 0.1, 0.05, 0.4), bounds=([0, 0, 0.02, 0], [0.3, 0.5, 0.3, 1.5]))
    rest, jump, reach, slope = (float(value) for value in found)
    return LidReading(rest=rest, jump=jump, reach=reach, slope=slope), float((read - curve(true, *found)).std())


def main() -> None:
    """Render, detect, measure, print."""
    head = the_head()
    assert isinstance(head, LinearHeadModel)
    with open_pool(physical_cores()) as pool, open_detector() as detector:

        def detect(image: Pixels) -> Array | None:
            faces = detector.detect(image)
            return faces[0].points if faces else None

        sets = [load_stills(name, detect, pool) for name in _FIT_SETS]
    points = torch.cat([torch.from_numpy(stills.detected / RESOLUTION).float() for stills in sets])
    params, cameras = ([getattr(stills, name) for stills in sets] for name in ("params", "camera"))
    truth = HeadFit(_joined(params), _joined(cameras), torch.zeros(len(points)))
    irises, lids = measure_irises(head, truth, points), measure_lids(head, truth, points)
    print(f"{len(points)} portraits of the seeds {[SETS[name].seed for name in _FIT_SETS]}")
    print(f"irises: {irises[0]}, leaves {np.round(irises[1], 3).tolist()} radii")
    print(f"lids: {lids[0]}, leaves {lids[1]:.3f} widths")


def _joined(bundles: list[Any]) -> Any:
    """Bundles of one kind as one batch."""
    return type(bundles[0])(**{field.name: torch.cat([getattr(one, field.name) for one in bundles]) for field in fields(bundles[0])})


if __name__ == "__main__":
    main()
