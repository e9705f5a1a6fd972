"""How fast the parts of a face move: which changes between frames are movements, and which a detector's noise.

Everything has a cutoff frequency: slower changes pass, faster ones are noise. Lids are faster than all else when they blink, and gazes
jump: accelerations that are far beyond noise pass, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from next3d.head.limits import limit_expression
from next3d.head.model import LinearHeadModel
from next3d.tracking.batches import chunks, concatenate
from next3d.tracking.eyeballs import EYES, eye_pair
from next3d.tracking.gaze import GazeSettings, eye_weights, fit_gaze
from next3d.tracking.lids import fit_lids
from next3d.tracking.points import ANGLES
from next3d.tracking.priors import Prior
from next3d.tracking.smooth import smooth_signals
from next3d.tracking.temporal import Motion
from next3d.tracking.types import HeadFit

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LIDS = ("eyeBlink", "eyeWide", "eyeLook")
_SPEECH = tuple(f"mouth{name}" for name in ("Funnel", "Pucker", "Stretch", "Press", "RollLower", "LowerDown", "UpperUp"))
_RARE = ("cheekPuff", "noseSneer", "jaw", "mouthShrug", "mouthClose", "mouthRollUpper", "mouthLeft", "mouthRight")
_READ_LIDS = {"eyeBlink": "lids", "eyeWide": "mood"}
"""Expressions that `fit_lids` reads, and whose cutoff they have."""
_LEAST_TRUST = 1e-3
"""Of a gaze that is not seen at all: something has to say where shut eyes look."""


@dataclass(frozen=True, kw_only=True)
class PaceSettings:
    """Cutoff frequencies, Hz: changes of that pace keep half their height. Accelerations are per second squared."""

    turn: float = 3.0
    """Of the head's rotation."""
    turn_edge: float = 15.0
    """Accelerations of the head that are movements, radians: fast turns have some 20, a detector's noise 1."""
    aside: float = 4.0
    """Of its place in the picture."""
    aside_edge: float = 0.4
    """The same for the place, in parts of the distance: a camera that shakes by a hundredth of the crop from frame to frame has 5."""
    depth: float = 1.2
    """Of its distance."""
    depth_edge: float = 4.0
    """In parts of the distance."""
    jaw: float = 5.0
    lips: float = 3.5
    """Of what lips do in speech, and of all expressions of heads that do not name theirs."""
    lids: float = 5.0
    mood: float = 2.0
    """Of smiles, frowns, brows and cheeks."""
    rare: float = 0.8
    """Of what people seldom do, and fits do in place of something else: puffed cheeks, jaws aside, sneers and shrugs."""
    lid_edge: float = 200.0
    """Accelerations of lids that are movements, in strengths: a blink has some 1000."""
    gaze: float = 4.0
    gaze_edge: float = 80.0
    """The same of the gaze, radians: a jump of 0.2 within a frame, at 25 per second, has 125."""

    def __post_init__(self) -> None:
        if not min(vars(self).values()) > 0:
            raise ValueError(f"pace: {self} has values that are not above 0.")


def motion_of(head: LinearHeadModel, prior: Prior, precision: Array, pace: PaceSettings) -> Motion:
    """Prices of accelerations.

    Args:
        head: names the expressions.
        prior: has the limits.
        precision: [6 + M]: inverse variance of each unknown in one frame by itself, as a rule.
        pace: the cutoffs.
    """
    names = head.expression_names
    named = "mouthFunnel" in names
    expressions = [_cutoff(name, named, pace) for name in names]
    cutoffs = np.array([*[pace.turn] * 3, *[pace.aside] * 2, pace.depth, *expressions, *[pace.jaw] * 2, *[pace.gaze] * 4])
    edges = np.full(len(precision), np.inf)
    edges[:6] = [*[pace.turn_edge] * 3, *[pace.aside_edge] * 2, pace.depth_edge]
    lids = [6 + column for column, name in enumerate(names) if name.startswith(_LIDS)]
    edges[lids] = pace.lid_edge
    edges[6 + len(names) + 2 : 6 + len(names) + ANGLES] = pace.gaze_edge
    low, high = np.full(len(precision), -np.inf), np.full(len(precision), np.inf)
    motions = slice(6, 6 + len(names) + ANGLES)
    low[motions], high[motions] = prior.low.double().cpu().numpy(), prior.high.double().cpu().numpy()
    return Motion(precision / (2 * np.pi * cutoffs) ** 4, edges, low, high)


def _cutoff(name: str, named: bool, pace: PaceSettings) -> float:
    if name.startswith(_LIDS):
        return pace.lids
    if not named or name.startswith(_SPEECH):
        return pace.lips
    return pace.rare if name.startswith(_RARE) else pace.mood


def smooth_eyes(head: LinearHeadModel, fit: HeadFit, points: Tensor, seen: Mask, times: Array, pace: PaceSettings) -> HeadFit:
    """Gaze and lids of heads in consecutive frames.

    Gazes count as far as the irises are seen, so that they are bridged while the eyes blink. Lids follow the smooth gaze.

    Args:
        head: the model.
        fit: T heads.
        points: [T, 478, 3], unit coordinates; finite.
        seen: [T], where a face was found; the first and the last frame are.
        times: [T], seconds.
        pace: the cutoffs.
    """
    eyes = list(EYES)
    trusts, fits = [], []
    for rows in chunks(len(points)):
        fits.append(fit_gaze(head, fit[rows], points[rows]))
        trusts.append(eye_weights(eye_pair(head, fits[-1]), fits[-1].camera, points[rows], GazeSettings()).mean(dim=1))
    fit = concatenate(fits)
    weights = seen * (torch.cat(trusts).double().cpu().numpy() + _LEAST_TRUST)
    pose = fit.params.pose.clone()
    gaze = pose[:, eyes, :2].flatten(1).double().cpu().numpy()
    pose[:, eyes, :2] = torch.from_numpy(smooth_signals(gaze, weights, times, pace.gaze, edge=pace.gaze_edge)).to(pose).unflatten(1, (2, 2))
    fit = replace(fit, params=replace(fit.params, pose=pose))
    fit = concatenate([fit_lids(head, fit[rows], points[rows]) for rows in chunks(len(points))])
    expression = fit.params.expression.clone()
    for start, cutoff in _READ_LIDS.items():
        columns = [column for column, name in enumerate(head.expression_names) if name.startswith(start)]
        if not columns:
            return fit
        lids = expression[:, columns].double().cpu().numpy()
        lids = smooth_signals(lids, seen.astype(np.float64), times, getattr(pace, cutoff), edge=pace.lid_edge)
        expression[:, columns] = torch.from_numpy(lids).to(expression).clamp(0, 1)
    return replace(fit, params=limit_expression(head, replace(fit.params, expression=expression)))
