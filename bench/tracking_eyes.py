"""How well tracking reads eyes: where they look and how far they are shut. Rows of `bench.tracking`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.report import Report
from bench.tracking_data import Stills
from next3d.head.model import HeadModel, HeadParams, Joint, axis_angle_to_matrix
from next3d.tracking.types import HeadFit

GAZE_BAR, BLINK_BAR = 5.0, 0.8
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
