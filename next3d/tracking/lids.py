"""Lids: how far each eye is shut, from the gaps that the detector sees between them.

The gap is compared with that of the fitted head, whose shape and gaze say how open the eye would be: lids follow the eyeball (eyeLook…),
so that looking down is no blink. Along one way per eye, from wide open over open to shut, every place gets a probability, from the
gap and from how often people do it; the fit is the mean. For heads with ARKit's names; others keep their lids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.limits import SQUINT_SHARE
from next3d.head.model import HeadParams, LinearHeadModel
from next3d.tracking.eyeballs import EYES, SIDES, in_picture, picture_scale, posed_vertices
from next3d.tracking.types import HeadFit
from next3d.types import Camera

LIDS = (
    ((263, 362), ((387, 373), (386, 374), (385, 380))),
    ((33, 133), ((160, 144), (159, 145), (158, 153))),
)
"""Of the detector's points, left and right eye: outer and inner corner, and pairs on upper and lower lid."""
LID_POINTS = (3, 6, 9)
"""Of the head's points along a lid (`Topology.eye_points`), those that compare with these pairs."""
FULL_PITCH, FULL_YAW = 0.5, 0.6
"""Radians of the eyeball that go with eyeLook… at full strength (docs/head.md)."""


@dataclass(frozen=True, kw_only=True)
class LidReading:
    """The gap that a detector reads, as a function of the true one; both in widths of the eye.

    rest + jump (1 - exp(-gap / reach)) + slope gap: it takes shut eyes for slits, and sees little of how far open ones are open.
    """

    rest: float = 0.0
    jump: float = 0.0
    reach: float = 1.0
    slope: float = 1.0

    def read(self, gap: Tensor) -> Tensor:
        """What the detector says of gaps."""
        return self.rest + self.jump * (1 - torch.exp(-gap / self.reach)) + self.slope * gap


FACE_MESH_LIDS = LidReading(rest=0.08, jump=0.145, reach=0.075, slope=0.36)
"""MediaPipe's face mesh, measured on synthetic portraits (`python -m bench.tracking_eyes`)."""
_STEPS = 61
"""Places tried along the way of the lids."""


@dataclass(frozen=True, kw_only=True)
class LidSettings:
    """How gaps are read. Gaps in widths of the eye."""

    reading: LidReading = FACE_MESH_LIDS
    noise: float = 0.03
    """Of a reading, and of how open this person's eyes are at rest."""
    together: float = 0.05
    """Differences between both eyes that are smaller are taken for noise."""
    open_share: float = 0.7
    """How often eyes are open rather than on the way to being shut."""
    ease: float = 0.08
    """How far open eyes are shut: mean strength of eyeBlink, which falls off exponentially."""
    wide: float = 0.1
    """The same for eyeWide."""


def lid_gaps(points: Tensor) -> Tensor:
    """How far the detector sees each eye open, [N, 2]: mean gap between its lids as a part of the distance of its corners.

    Args:
        points: [N, 478, 3], unit coordinates. Depths make the eye's width independent of turning the head.
    """
    gaps = []
    for corners, pairs in LIDS:
        width = (points[:, corners[0]] - points[:, corners[1]]).norm(dim=-1)
        upper, lower = zip(*pairs, strict=True)
        gap = (points[:, list(upper), :2] - points[:, list(lower), :2]).norm(dim=-1).mean(dim=1)
        gaps.append(gap / width.clamp_min(1e-6))
    return torch.stack(gaps, dim=1)


def follow_gaze(head: LinearHeadModel, params: HeadParams) -> HeadParams:
    """The same heads with lids that go along with their eyeballs: eyeLook… as far as the eyes are turned."""
    expression = params.expression.clone()
    for side, joint, outwards in zip(SIDES, EYES, (1, -1), strict=True):
        pitch, yaw = params.pose[:, joint, 0] / FULL_PITCH, outwards * params.pose[:, joint, 1] / FULL_YAW
        for name, value in (("Down", pitch), ("Up", -pitch), ("Out", yaw), ("In", -yaw)):
            expression[:, head.expression_index(f"eyeLook{name}{side.capitalize()}")] = value.clamp(0, 1)
    return replace(params, expression=expression)


@torch.no_grad()
def fit_lids(head: LinearHeadModel, fit: HeadFit, points: Tensor, settings: LidSettings | None = None) -> HeadFit:
    """Shut the eyes of fitted heads as far as the detector sees them shut.

    Args:
        head: the model that was fitted.
        fit: N heads with their gaze (`fit_gaze`).
        points: [N, 478, 3], unit coordinates of the pictures of `fit.camera`; NaN where nothing was seen: eyes stay open there.
        settings: None for the defaults.

    Returns:
        The same fit with other strengths of eyeBlink…, eyeWide… and eyeLook…; eyeSquint… is limited to what a blink leaves. Heads
        without these names, or without points on their lids, come back as they are.
    """
    settings = settings or LidSettings()
    if not _has_lids(head):
        return fit
    params = follow_gaze(head, fit.params)
    way = torch.linspace(-1, 1, _STEPS, dtype=points.dtype, device=points.device)
    expected = settings.reading.read(model_gaps(head, params, fit.camera, way))  # [N, 2, steps]
    seen = _tied(lid_gaps(points), settings.together)
    unlikely = ((seen[..., None] - expected) / settings.noise).square() / 2
    chance = torch.softmax(_log_prior(way, settings) - torch.nan_to_num(unlikely), dim=2)
    blink, wide = (chance * way.clamp_min(0)).sum(dim=2), (chance * (-way).clamp_min(0)).sum(dim=2)
    expression = params.expression.clone()
    for index, side in enumerate(SIDES):
        name = side.capitalize()
        expression[:, head.expression_index(f"eyeBlink{name}")] = blink[:, index]
        expression[:, head.expression_index(f"eyeWide{name}")] = wide[:, index]
        squint = head.expression_index(f"eyeSquint{name}")
        expression[:, squint] = torch.minimum(expression[:, squint], (1 - blink[:, index]) / SQUINT_SHARE)
    return replace(fit, params=replace(params, expression=expression))


def model_gaps(head: LinearHeadModel, params: HeadParams, camera: Camera, way: Tensor) -> Tensor:
    """The gaps [N, 2, K] between the lids of heads that shut (0 to 1) or open wide (0 to -1) their eyes along `way` [K].

    As `lid_gaps` measures them: in the picture, in widths of the eye.
    """
    rest, shut, wide = (_lid_points(head, _with_lids(head, params, name), camera) for name in ("", "eyeBlink", "eyeWide"))
    share = way[:, None, None]
    moved = rest[:, :, None] + share.clamp_min(0) * (shut - rest)[:, :, None] + (-share).clamp_min(0) * (wide - rest)[:, :, None]
    return moved.norm(dim=-1).mean(dim=-1)


def true_gaps(head: LinearHeadModel, params: HeadParams, camera: Camera) -> Tensor:
    """The gaps [N, 2] between the lids of heads as they are, measured as `model_gaps` are."""
    return _lid_points(head, params, camera).norm(dim=-1).mean(dim=-1)


def _with_lids(head: LinearHeadModel, params: HeadParams, strong: str) -> HeadParams:
    """The same heads with one movement of the lids at full strength, or none."""
    expression = params.expression.clone()
    for name in ("eyeBlink", "eyeWide"):
        for side in SIDES:
            expression[:, head.expression_index(f"{name}{side.capitalize()}")] = float(name == strong)
    return replace(params, expression=expression)


def _lid_points(head: LinearHeadModel, params: HeadParams, camera: Camera) -> Tensor:
    """From the lower to the upper lid [N, 2, P, 2] in the picture, in widths of the eye."""
    gaps = []
    for side in SIDES:
        rows = [head.topology.eye_points[f"{side}_{lid}_lid"] for lid in ("upper", "lower")]
        index = torch.cat([rows[0][list(LID_POINTS)], rows[1][list(LID_POINTS)], rows[0][[0, -1]]])
        upper, lower, ends = posed_vertices(head, params, index).split([len(LID_POINTS), len(LID_POINTS), 2], dim=1)
        width = (ends[:, 0] - ends[:, 1]).norm(dim=1) * picture_scale(ends.mean(dim=1, keepdim=True), camera)[:, 0]
        gaps.append((in_picture(upper, camera) - in_picture(lower, camera)) / width[:, None, None])
    return torch.stack(gaps, dim=1)


def _has_lids(head: LinearHeadModel) -> bool:
    named = all(f"{name}{side.capitalize()}" in head.expression_names for name in ("eyeBlink", "eyeWide", "eyeSquint") for side in SIDES)
    return named and "left_upper_lid" in head.topology.eye_points


def _tied(gaps: Tensor, together: float) -> Tensor:
    """Gaps [N, 2] of both eyes, nearer to their mean where they hardly differ: people seldom wink, and detectors err."""
    apart = gaps - gaps.mean(dim=1, keepdim=True)
    return gaps - apart * together**2 / (together**2 + (2 * apart).square())


def _log_prior(way: Tensor, settings: LidSettings) -> Tensor:
    """Logarithm of how often lids are at places `way` [K], up to a constant."""
    step = float(way[1] - way[0])
    blink, wide = way.clamp_min(0), (-way).clamp_min(0)
    ease = torch.exp(-blink / settings.ease - wide / settings.wide) * step / (settings.ease + settings.wide)
    return torch.log(settings.open_share * ease + (1 - settings.open_share) * step * (way >= 0))
