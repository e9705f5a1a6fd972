"""What the people in synthetic portraits do: head shape, speech-like mouths, smiles, blinks, gaze, small poses, cameras.

Mouths and gazes are drawn more widely than a photo album has them: a generator learns an opening only if it sees it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dnnlib.errors import UserError
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.render.cameras import orbit_camera
from next3d.synthetic.draws import torch_stream
from next3d.types import Camera

JAW_RANGE = 0.35
"""Widest jaw angle, radians."""
CLOSED_SHARE = 0.4
"""Share of mouths that are (nearly) closed."""
GAZE_RANGE = (0.25, 0.4)
"""Largest pitch and yaw of the eyes in the head, radians."""
BLINK_SHARE = 0.12
SHAPE_LIMIT = 2.2
"""Shape coefficients are normal, cut off here (standard deviations)."""

_FEELINGS = {
    # name: (share of samples in which it is active, largest strength)
    "mouthFunnel": (0.15, 0.7),
    "mouthPucker": (0.14, 0.8),
    "mouthFrown": (0.10, 0.6),
    "mouthStretch": (0.12, 0.6),
    "mouthDimple": (0.10, 0.5),
    "mouthPress": (0.08, 0.5),
    "mouthRollLower": (0.05, 0.4),
    "mouthRollUpper": (0.05, 0.4),
    "mouthShrugLower": (0.08, 0.5),
    "mouthShrugUpper": (0.06, 0.4),
    "mouthLowerDown": (0.18, 0.6),
    "mouthUpperUp": (0.16, 0.6),
    "mouthLeft": (0.05, 0.5),
    "mouthRight": (0.05, 0.5),
    "jawLeft": (0.04, 0.4),
    "jawRight": (0.04, 0.4),
    "jawForward": (0.04, 0.4),
    "cheekPuff": (0.04, 0.6),
    "noseSneer": (0.08, 0.5),
    "browDown": (0.16, 0.8),
    "browInnerUp": (0.16, 0.8),
    "browOuterUp": (0.18, 0.9),
    "eyeSquint": (0.15, 0.6),
    "eyeWide": (0.12, 0.8),
    "mouthSmile": (0.34, 1.0),
}


def _uniform(generator: torch.Generator, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def sample_params(head: HeadModel, generator: torch.Generator, count: int) -> HeadParams:
    """Head parameters of `count` random people in random moments.

    Args:
        head: whose directions to fill; expression directions are found by their ARKit names, others stay at 0.
        generator: CPU stream; consecutive calls give new people.
        count: how many.

    Returns:
        Parameters on the CPU: jaw angle in [0, 0.35] rad (about 40 % nearly closed, the rest spread over the range),
        gaze within ±0.4 (yaw) and ±0.25 (pitch) rad, global and neck rotations of a few hundredths of a radian.
    """
    rest = head.neutral(count).to("cpu")
    shape = torch.randn(rest.shape.shape, generator=generator).clamp(-SHAPE_LIMIT, SHAPE_LIMIT)
    gaze = sample_gaze(generator, count)
    pose = rest.pose.clone()
    pose[:, Joint.GLOBAL] += 0.02 * torch.randn(count, 3, generator=generator).clamp(-2, 2)
    pose[:, Joint.NECK] += 0.03 * torch.randn(count, 3, generator=generator).clamp(-2, 2)
    pose[:, Joint.JAW, 0] = sample_jaw(generator, count)
    pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2] = gaze[:, None].expand(-1, 2, -1)
    expression = sample_expression(head.expression_names, generator, gaze)
    return replace(rest, shape=shape, expression=expression, pose=pose)


def sample_jaw(generator: torch.Generator, count: int) -> Tensor:
    """Jaw angles [count] in [0, 0.35] rad."""
    closed = _uniform(generator, count) < CLOSED_SHARE
    return torch.where(closed, _uniform(generator, count, 0.0, 0.03), _uniform(generator, count, 0.03, JAW_RANGE))


def sample_gaze(generator: torch.Generator, count: int) -> Tensor:
    """Rotations of both eyes [count, 2] (pitch, yaw), radians: two thirds over the whole range, one third nearly ahead."""
    limit = torch.tensor(GAZE_RANGE)
    wide = (2 * torch.rand(count, 2, generator=generator) - 1) * limit
    ahead = (0.06 * torch.randn(count, 2, generator=generator)).clamp(-limit, limit)
    return torch.where(_uniform(generator, count)[:, None] < 0.67, wide, ahead)


def sample_expression(names: tuple[str, ...], generator: torch.Generator, gaze: Tensor) -> Tensor:
    """Expression coefficients [N, E]: speech and feeling, sides slightly unequal, blinks, lids that follow the gaze [N, 2]."""
    count = len(gaze)
    draws = torch.rand(count, len(_FEELINGS), 5, generator=generator)
    share, top = torch.tensor(list(_FEELINGS.values())).T
    value = (draws[..., 0] < share) * (0.1 + (top - 0.1) * draws[..., 1])  # [N, K]
    # Up to 20 % less on one side, rarely 50 to 100 %.
    lopsided = draws[..., 2] < 0.08
    loss = torch.where(lopsided, 0.5 + 0.5 * draws[..., 3], 0.2 * draws[..., 3])
    weaker = value * (1 - loss)
    left_weaker = draws[..., 4] < 0.5
    left, right = torch.where(left_weaker, weaker, value), torch.where(left_weaker, value, weaker)
    strengths: dict[str, Tensor] = {}
    for column, name in enumerate(_FEELINGS):
        strengths[name] = value[:, column]
        strengths[f"{name}Left"], strengths[f"{name}Right"] = left[:, column], right[:, column]
    for side in ("Left", "Right"):
        strengths[f"cheekSquint{side}"] = 0.6 * strengths[f"mouthSmile{side}"]
    _add_blinks(strengths, generator, count)
    _add_lid_following(strengths, gaze)
    return _by_name(names, strengths, count)


def _add_blinks(strengths: dict[str, Tensor], generator: torch.Generator, count: int) -> None:
    """Some eyes shut, some half shut, the rest at slightly different ease; now and then only one eye takes part."""
    draws = torch.rand(count, 3, generator=generator)
    kind, amount, wink = draws.unbind(dim=1)
    ease = 0.15 * amount
    blink = torch.where(kind < 0.6 * BLINK_SHARE, 0.9 + 0.1 * amount, torch.where(kind < BLINK_SHARE, 0.15 + 0.7 * amount, ease))
    strengths["eyeBlinkLeft"] = torch.where(wink < 0.02, ease, blink)
    strengths["eyeBlinkRight"] = torch.where(wink > 0.98, ease, blink)
    for side in ("Left", "Right"):
        for name in ("eyeWide", "eyeSquint"):  # lids that shut are neither wide nor squinting: they would go through each other
            strengths[f"{name}{side}"] = strengths[f"{name}{side}"] * (1 - strengths[f"eyeBlink{side}"])


def _add_lid_following(strengths: dict[str, Tensor], gaze: Tensor) -> None:
    """Lids move with the eyeball: eyeLook* directions carry the lids, the joints turn the eyes."""
    pitch, yaw = gaze[:, 0] / 0.5, gaze[:, 1] / 0.6
    for side, outwards in (("Left", yaw), ("Right", -yaw)):
        strengths[f"eyeLookDown{side}"] = pitch.clamp_min(0)
        strengths[f"eyeLookUp{side}"] = (-pitch).clamp_min(0)
        strengths[f"eyeLookOut{side}"] = outwards.clamp_min(0)
        strengths[f"eyeLookIn{side}"] = (-outwards).clamp_min(0)


def with_gaze(head: HeadModel, params: HeadParams, gaze: Tensor) -> HeadParams:
    """The same people looking elsewhere: eyes turned by `gaze` [N, 2] (pitch, yaw; radians), and lids that go along."""
    pose = params.pose.clone()
    pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2] = gaze[:, None].expand(-1, 2, -1)
    strengths: dict[str, Tensor] = {}
    _add_lid_following(strengths, gaze)
    expression = params.expression.clone()
    for column, name in enumerate(head.expression_names):
        if name in strengths:
            expression[:, column] = strengths[name]
    return replace(params, pose=pose, expression=expression)


def _by_name(names: tuple[str, ...], strengths: Mapping[str, Tensor], count: int) -> Tensor:
    nothing = torch.zeros(count)
    return torch.stack([strengths.get(name, nothing) for name in names], dim=1) if names else torch.zeros(count, 0)


@dataclass(frozen=True, kw_only=True)
class CameraRange:
    """Where cameras stand, all looking at the world's origin; angles in radians. The defaults are the spread of EG3D's FFHQ labels."""

    yaw_std: float = 0.3
    """Standard deviation."""
    pitch_std: float = 0.15
    yaw_limit: float = 0.75
    """Larger angles are cut off."""
    pitch_limit: float = 0.4
    even: bool = False
    """Spread yaw and pitch evenly between their limits instead."""
    roll: float = 0.0
    """Largest turn about the line of sight; evenly spread."""
    distance: float = 0.0
    """How much nearer or further than 2.7 at most, as a part of it; evenly spread."""
    focal: float = 0.0
    """The same for the focal length."""

    def __post_init__(self) -> None:
        turn, part = (0.0, math.pi), (0.0, 0.5)
        ranges = {"yaw_std": turn, "pitch_std": turn, "yaw_limit": turn, "pitch_limit": (0.0, 1.4), "roll": turn, "distance": part}
        for name, (low, high) in (ranges | {"focal": part}).items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"cameras: {name} is {getattr(self, name):g}, expected {low:g} to {high:g} (radians, or parts).")


PORTRAIT_CAMERAS = CameraRange()
WIDE_CAMERAS = CameraRange(yaw_limit=math.pi / 2, pitch_limit=math.radians(30), even=True, roll=math.radians(15), distance=0.15, focal=0.15)
"""From profile to profile, for trackers and for views that photos lack."""


def sample_camera(generator: torch.Generator, count: int, cameras: CameraRange = PORTRAIT_CAMERAS) -> Camera:
    """Cameras that look at the world's origin; another range draws the same numbers and uses them differently."""
    draws = torch.randn(count, 2, generator=generator)
    limit = torch.tensor([cameras.yaw_limit, cameras.pitch_limit])
    if cameras.even:
        yaw, pitch = (limit * torch.erf(draws / math.sqrt(2))).unbind(dim=1)
    else:
        yaw, pitch = (draws * torch.tensor([cameras.yaw_std, cameras.pitch_std])).clamp(-limit, limit).unbind(dim=1)
    camera = orbit_camera(yaw, pitch)
    roll, distance, focal = (2 * torch.rand(count, 3, generator=generator) - 1).unbind(dim=1)
    cam2world, intrinsics = camera.cam2world.clone(), camera.intrinsics.clone()
    if cameras.roll:
        cosine, sine = torch.cos(cameras.roll * roll)[:, None], torch.sin(cameras.roll * roll)[:, None]
        right, down = camera.cam2world[:, :3, 0], camera.cam2world[:, :3, 1]
        cam2world[:, :3, 0], cam2world[:, :3, 1] = cosine * right + sine * down, cosine * down - sine * right
    cam2world[:, :3, 3] *= (1 + cameras.distance * distance)[:, None]
    intrinsics[:, [0, 1], [0, 1]] *= (1 + cameras.focal * focal)[:, None]
    return Camera(cam2world, intrinsics)


def keyed_params(head: HeadModel, seed: int, index: int, person: int | None = None) -> HeadParams:
    """The head parameters of one sample of a data set, [1, ...]: who sample `person` (None: `index`) is, in the moment of `index`."""
    params = sample_params(head, torch_stream(seed, index, "head"), 1)
    if person is None or person == index:
        return params
    return replace(params, shape=sample_params(head, torch_stream(seed, person, "head"), 1).shape)


def keyed_camera(seed: int, index: int, cameras: CameraRange = PORTRAIT_CAMERAS) -> Camera:
    """The camera of one sample of a data set, [1, ...]."""
    return sample_camera(torch_stream(seed, index, "camera"), 1, cameras)
