"""How heads move in a video. Everything is a pure function of the time t in [0, 1): videos are reproducible, and loop.

A motion may turn the camera, pose the head, or walk from face to face; what it leaves alone is computed once for the whole video.
`next3d/media/performance.py` applies motions to heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dnnlib.errors import ConfigError, UserError
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.synthetic.motion import Curve
from next3d.synthetic.sampling import with_gaze

GAZE_YAW, GAZE_PITCH = 0.4, 0.25
"""How far the eyes turn, radians: the range that the synthetic portraits cover."""
JAW_OPEN = 0.35
"""Jaw angle of a mouth that is wide open, radians."""
ORBIT_YAW, ORBIT_PITCH = 0.5, 0.15
"""How far the camera swings from the front, radians."""
TURN_YAW = math.radians(30)
"""The same where it only goes from side to side."""

Mover = Callable[[HeadModel, HeadParams, float], HeadParams]

_FACES: tuple[Mapping[str, float], ...] = (
    {"mouthSmile": 1.0, "cheekSquint": 0.6},
    {"browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.7},
    {"mouthPucker": 0.8, "mouthFunnel": 0.3},
    {"browDown": 0.8, "noseSneer": 0.5, "mouthFrown": 0.6},
)
_TALK: Mapping[str, tuple[tuple[float, float], ...]] = {
    # What moves: (time, part of its range), ...; a blink goes with every large turn of the eyes, as in people.
    "jaw": ((0.00, 0), (0.05, 0.6), (0.10, 0.1), (0.15, 0.8), (0.20, 0.2), (0.25, 0.5), (0.31, 0), (0.68, 0), (0.75, 1), (0.84, 0)),
    "pucker": ((0.16, 0), (0.20, 0.8), (0.24, 0), (0.82, 0), (0.87, 0.8), (0.95, 0)),
    "smile": ((0.28, 0), (0.38, 1), (0.58, 1), (0.68, 0)),
    "brows": ((0.66, 0), (0.74, 1), (0.80, 1), (0.88, 0)),
    "blink": ((0.25, 0), (0.305, 1), (0.32, 1), (0.38, 0), (0.88, 0), (0.935, 1), (0.945, 1), (1.00, 0)),
    "yaw": ((0.36, 0), (0.42, 1), (0.49, 1), (0.57, -1), (0.64, -1), (0.70, 0)),
    "pitch": ((0.70, 0), (0.75, -0.7), (0.80, -0.7), (0.88, 0)),
}


@dataclass(frozen=True)
class Motion:
    """One kind of video."""

    summary: str
    """What it shows, for the help text."""
    pose: Mover | None = None
    """Rest parameters of N heads and t to the parameters at t; None keeps the heads still."""
    angles: Callable[[float], tuple[float, float]] | None = None
    """t to the camera's yaw and pitch in radians; None keeps the frontal portrait camera."""
    walks: bool = False
    """Faces turn into each other."""


def swell(t: float) -> float:
    """Smoothly from 0 to 1 and back while t goes from 0 to 1."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * t)


def gaze_angles(t: float) -> tuple[float, float]:
    """Pitch (positive is down) and yaw (positive is the person's left) of the eyes, radians: a lying figure of eight."""
    return GAZE_PITCH * math.sin(4 * math.pi * t), GAZE_YAW * math.sin(2 * math.pi * t)


def move_gaze(head: HeadModel, rest: HeadParams, t: float) -> HeadParams:
    """Eyes wander; lids follow on heads that leave this to the eyeLook expressions."""
    return turn_eyes(head, rest, *gaze_angles(t))


def turn_eyes(head: HeadModel, rest: HeadParams, pitch: float, yaw: float) -> HeadParams:
    """The same heads looking elsewhere; radians, positive is down and the person's left."""
    return with_gaze(head, rest, rest.pose.new_tensor([[pitch, yaw]]).expand(len(rest.pose), -1))


def move_jaw(head: HeadModel, rest: HeadParams, t: float) -> HeadParams:
    """The mouth opens wide and shuts, twice."""
    return open_jaw(rest, JAW_OPEN * swell(2 * t))


def open_jaw(rest: HeadParams, angle: float) -> HeadParams:
    """The same heads with the jaw turned by `angle`, radians."""
    pose = rest.pose.clone()
    pose[:, Joint.JAW, 0] = angle
    return replace(rest, pose=pose)


def move_lids(head: HeadModel, rest: HeadParams, t: float) -> HeadParams:
    """Both eyes shut and open, twice; slowly enough to be looked at."""
    return replace(rest, expression=_set_known(head, rest.expression, {"eyeBlink": swell(2 * t) ** 2}))


def move_expression(head: HeadModel, rest: HeadParams, t: float) -> HeadParams:
    """A smile, surprise, a pucker and a frown, one after the other."""
    face, part = divmod(t % 1 * len(_FACES), 1)
    strengths = {name: top * swell(part) for name, top in _FACES[int(face)].items()}
    return replace(rest, expression=_set_known(head, rest.expression, strengths))


def move_talk(head: HeadModel, rest: HeadParams, t: float) -> HeadParams:
    """A few words, a smile, a look to both sides, surprise: everything at work. Expressions that the head does not have are left out."""
    part = {name: talk_part(name, t) for name in _TALK}
    turned = turn_eyes(head, open_jaw(rest, JAW_OPEN * part["jaw"]), GAZE_PITCH * part["pitch"], GAZE_YAW * part["yaw"])
    strengths = {"eyeBlink": part["blink"], "mouthSmile": part["smile"], "cheekSquint": 0.6 * part["smile"], "mouthPucker": part["pucker"]}
    strengths |= {"browInnerUp": 0.8 * part["brows"], "browOuterUp": 0.9 * part["brows"]}
    return replace(turned, expression=set_expressions(head, turned.expression, strengths))


def talk_part(name: str, t: float) -> float:
    """How far one of the things that move while talking has gone at time t, as a part of its range."""
    times, values = np.array(_TALK[name], dtype=float).T
    return float(Curve(times, values[:, None])(np.array([t % 1]))[0, 0])


def turn_angles(t: float) -> tuple[float, float]:
    """Yaw and pitch of the camera, radians: from side to side at the height of the face."""
    return TURN_YAW * math.sin(2 * math.pi * t), 0.0


def orbit_angles(t: float) -> tuple[float, float]:
    """Yaw and pitch of the camera, radians: once around an ellipse in front of the face."""
    return ORBIT_YAW * math.sin(2 * math.pi * t), ORBIT_PITCH * math.sin(4 * math.pi * t)


def walk_position(count: int, start: int, t: float) -> tuple[int, int, float]:
    """Where a walk through `count` faces that begins at face `start` is at time t: from this face, to that one, how far in [0, 1].

    The walk visits every face once, eases in and out at each, and ends where it began.
    """
    step, part = divmod(t % 1 * count, 1)
    first = (start + int(step)) % count
    return first, (first + 1) % count, swell(part / 2)


def set_expressions(head: HeadModel, expression: Tensor, strengths: Mapping[str, float]) -> Tensor:
    """Coefficients [N, E] with the named directions set; "mouthSmile" also means "mouthSmileLeft" and "mouthSmileRight".

    Names that the head does not have are left out.
    """
    changed = expression.clone()
    for column, name in enumerate(head.expression_names):
        short = name.removesuffix("Left").removesuffix("Right")
        strength = strengths.get(name, strengths.get(short))
        if strength is not None:
            changed[:, column] = strength
    return changed


def _set_known(head: HeadModel, expression: Tensor, strengths: Mapping[str, float]) -> Tensor:
    """`set_expressions` for motions that consist of nothing else."""
    known = {name.removesuffix("Left").removesuffix("Right") for name in head.expression_names}
    if not known & set(strengths):
        raise UserError(
            f"head model {head.identifier}: has none of the expressions {', '.join(strengths)} that this motion needs; "
            "choose another motion."
        )
    return set_expressions(head, expression, strengths)


MOTIONS: Mapping[str, Motion] = {
    "gaze": Motion("the eyes wander", pose=move_gaze),
    "expression": Motion("smile, surprise, pucker, frown", pose=move_expression),
    "jaw": Motion("the mouth opens and shuts", pose=move_jaw),
    "blink": Motion("both eyes shut and open", pose=move_lids),
    "talk": Motion("words, a smile, a look to both sides, surprise", pose=move_talk),
    "turn": Motion("the camera goes from side to side around a still head", angles=turn_angles),
    "orbit": Motion("the camera swings around a still head", angles=orbit_angles),
    "interpolate": Motion("each face turns into the next", walks=True),
}


def find_motion(name: str) -> Motion:
    """A motion by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in MOTIONS:
        raise ConfigError(f"unknown motion {name!r}; choose one of {', '.join(MOTIONS)}.")
    return MOTIONS[name]
