"""How one person moves while being filmed: talks in phrases, blinks, looks around, changes mood, holds the head not quite still.

Events are drawn one after the other, each kind from a stream of its own, and become curves that are sampled at any time: a clip that is
longer, or has more frames per second, shows the same events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.sampling import GAZE_RANGE, JAW_RANGE, keyed_params, with_gaze

Array = npt.NDArray[np.float64]

_SOUNDS: tuple[tuple[float, tuple[float, float], dict[str, float]], ...] = (
    # share, jaw angle as a part of its range (from, to), lips
    (0.24, (0.35, 0.80), {"mouthLowerDown": 0.3, "mouthUpperUp": 0.15}),  # as in "far"
    (0.18, (0.20, 0.40), {"mouthStretch": 0.35, "mouthSmile": 0.15}),  # "see"
    (0.16, (0.22, 0.45), {"mouthFunnel": 0.6, "mouthPucker": 0.2}),  # "show"
    (0.12, (0.10, 0.22), {"mouthPucker": 0.7}),  # "who"
    (0.16, (0.00, 0.02), {"mouthPress": 0.35, "mouthRollLower": 0.15}),  # "me", "be"
    (0.14, (0.06, 0.18), {"mouthLowerDown": 0.25, "mouthUpperUp": 0.2}),  # "sit"
)
_SYLLABLE = (0.12, 0.26)
_BLINK = (0.07, 0.04, 0.15)
"""Seconds in which lids fall, rest and rise."""
_SACCADE = (0.021, 0.0022 * 180 / np.pi)
"""Duration of a saccade: seconds, and seconds per radian."""
_PURSUIT_SHARE = 0.25


@dataclass(frozen=True)
class Curve:
    """Values at increasing times; between them it eases from one to the next and never overshoots."""

    times: Array
    """[K], seconds."""
    values: Array
    """[K, D]."""

    def __call__(self, time: Array) -> Array:
        """Values [T, D] at times [T]; constant before the first and after the last."""
        later = np.searchsorted(self.times, time, side="right").clip(1, len(self.times) - 1)
        before, after = self.times[later - 1], self.times[later]
        share = ((time - before) / np.maximum(after - before, 1e-9)).clip(0, 1)
        eased = (share * share * (3 - 2 * share))[:, None]
        return np.asarray(self.values[later - 1] * (1 - eased) + self.values[later] * eased)


def clip_params(head: HeadModel, seed: int, clip: int, frames: int, fps: float) -> HeadParams:
    """The head in every frame of a clip.

    Args:
        head: whose directions to fill; expressions are found by their ARKit names.
        seed: of the data set.
        clip: its number; the person is that of sample `clip` of a data set with this seed.
        frames: T of them.
        fps: frames per second.

    Returns:
        [T, ...] on the CPU: jaw in [0, 0.35] rad, gaze within ±0.4 (yaw) and ±0.25 (pitch) rad; one shape for all.
    """
    time = np.arange(frames) / fps
    end = float(time[-1]) + 1.0
    person = keyed_params(head, seed, clip)
    names = head.expression_names
    mood = _moods(head, seed, clip, end)(time)  # [T, E]
    jaw, lips = _speech(seed, clip, end)
    shown = dict(zip(_lip_names(), lips(time).T, strict=True))
    blink = _blinks(seed, clip, end)(time)[:, 0]
    expression = mood.copy()
    for column, name in enumerate(names):
        short = name.removesuffix("Left").removesuffix("Right")
        if short == "eyeBlink":
            expression[:, column] = np.maximum(0.5 * mood[:, column], blink)
        elif short in shown:
            expression[:, column] = np.maximum(0.6 * mood[:, column], shown[short]).clip(0, 1)
        elif short == "eyeWide":
            expression[:, column] *= 1 - blink
    pose = person.pose.expand(frames, -1, -1).clone()
    pose[:, Joint.JAW, 0] = torch.from_numpy(JAW_RANGE * jaw(time)[:, 0]).float()
    sway = torch.from_numpy(_sway(seed, clip, time)).float()
    pose[:, Joint.GLOBAL] += sway[:, :3]
    pose[:, Joint.NECK] += sway[:, 3:]
    still = HeadParams(
        shape=person.shape.expand(frames, -1),
        expression=torch.from_numpy(expression).float(),
        pose=pose,
        translation=person.translation.expand(frames, -1),
        scale=person.scale.expand(frames),
    )
    return with_gaze(head, still, torch.from_numpy(_gaze(seed, clip, end)(time)).float())


def _lip_names() -> list[str]:
    return sorted({name for _, _, lips in _SOUNDS for name in lips})


def _speech(seed: int, clip: int, end: float) -> tuple[Curve, Curve]:
    """Jaw (a part of its range) and lips [.., K] of phrases of a few syllables, with pauses in between."""
    rng = numpy_stream(seed, clip, "video/speech")
    names, shares = _lip_names(), np.array([share for share, _, _ in _SOUNDS])
    rest: list[float] = [0.02, *[0.0] * len(names)]
    now, loud = float(rng.uniform(0.0, 0.4)), float(rng.uniform(0.7, 1.0))
    times, values = [0.0, now], [rest, rest]
    while now < end:
        for _ in range(int(rng.integers(3, 13))):
            _, (low, high), lips = _SOUNDS[int(rng.choice(len(_SOUNDS), p=shares / shares.sum()))]
            now += float(rng.uniform(*_SYLLABLE))
            times.append(now)
            values.append([loud * float(rng.uniform(low, high)), *[loud * lips.get(name, 0.0) for name in names]])
        now += 0.2
        times.append(now)
        values.append(rest)
        now += float(rng.uniform(0.1, 1.2))
        times.append(now)
        values.append(rest)
    table = np.array(values)
    return Curve(np.array(times), table[:, :1]), Curve(np.array(times), table[:, 1:])


def _blinks(seed: int, clip: int, end: float) -> Curve:
    """How far the lids are shut, [.., 1]: every few seconds, quickly down and less quickly up."""
    rng = numpy_stream(seed, clip, "video/blinks")
    fall, hold, rise = _BLINK
    now = float(rng.uniform(0.3, 2.5))
    times, values = [0.0], [0.0]
    while now < end:
        times += [now, now + fall, now + fall + hold, now + fall + hold + rise]
        values += [0.0, 1.0, 1.0, 0.0]
        now += fall + hold + rise + float(rng.uniform(0.8, 4.5))
    return Curve(np.array([*times, now + 1]), np.array([*values, 0.0])[:, None])


def _gaze(seed: int, clip: int, end: float) -> Curve:
    """Pitch and yaw of the eyes, radians [.., 2]: they rest, jump, or follow something that moves past."""
    rng = numpy_stream(seed, clip, "video/gaze")
    limit = np.array(GAZE_RANGE)
    place, now = (0.3 * rng.standard_normal(2) * limit).clip(-limit, limit), 0.0
    times, values = [now], [place]
    while now < end:
        now += float(rng.uniform(0.3, 1.6))
        times.append(now)
        values.append(place)
        ahead = rng.uniform() < 0.4
        target = 0.15 * rng.standard_normal(2) * limit if ahead else rng.uniform(-0.9, 0.9, 2) * limit
        way = float(np.linalg.norm(target - place))
        if rng.uniform() < _PURSUIT_SHARE:
            now += max(0.3, way / float(rng.uniform(0.15, 0.4)))
        else:
            now += _SACCADE[0] + _SACCADE[1] * way
        place = target.clip(-limit, limit)
        times.append(now)
        values.append(place)
    return Curve(np.array(times), np.array(values))


def _moods(head: HeadModel, seed: int, clip: int, end: float) -> Curve:
    """Expressions [.., E] as still portraits have them, weaker, one after the other."""
    rng = numpy_stream(seed, clip, "video/moods")
    times, values = [0.0], [0.6 * _mood(head, seed, clip, 0)]
    while times[-1] < end:
        held = times[-1] + float(rng.uniform(0.6, 2.0))
        times += [held, held + float(rng.uniform(0.5, 1.2))]
        values += [values[-1], float(rng.uniform(0.1, 0.7)) * _mood(head, seed, clip, len(times))]
    return Curve(np.array(times), np.array(values))


def _mood(head: HeadModel, seed: int, clip: int, number: int) -> Array:
    """One portrait's expression [E]; of a blink only the ease of the lids is left."""
    drawn = keyed_params(head, seed, 1_000_003 * (clip + 1) + number).expression[0].double().numpy().copy()
    for column, name in enumerate(head.expression_names):
        if name.startswith("eyeBlink"):
            drawn[column] = min(drawn[column], 0.15)
    return np.asarray(drawn)


def _sway(seed: int, clip: int, time: Array) -> Array:
    """Small slow rotations [T, 6] of the whole and of the neck, radians: nods, turns and tilts."""
    rng = numpy_stream(seed, clip, "video/sway")
    strength = np.array([0.025, 0.045, 0.02, 0.025, 0.045, 0.02]) * rng.uniform(0.5, 1.3)
    total = np.zeros((len(time), 6))
    for low, high, share in ((0.08, 0.2, 1.0), (0.25, 0.5, 0.5), (0.6, 1.1, 0.15)):
        frequency, phase = rng.uniform(low, high, 6), rng.uniform(0, 2 * np.pi, 6)
        total += share * np.sin(2 * np.pi * frequency * time[:, None] + phase)
    return np.asarray(strength * total)
