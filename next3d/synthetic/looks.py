"""How the people in synthetic portraits look: everything that is neither head parameters nor camera.

Colours are linear RGB albedos in [0, 1]; lengths are world units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from next3d.synthetic.draws import numpy_stream

Color = npt.NDArray[np.float32]
HairStyle = Literal["bald", "buzz", "short", "crop", "quiff", "curly", "afro", "bob", "fringe", "long", "swept", "knot"]
Collar = Literal["crew", "vee", "shirt", "turtle", "boat"]

Name = TypeVar("Name", bound=str)

_SKIN = np.array([[0.74, 0.53, 0.43], [0.62, 0.40, 0.30], [0.44, 0.25, 0.165], [0.25, 0.125, 0.075], [0.105, 0.052, 0.034]])
"""From light to dark, measured off nobody: points of a smooth curve."""
_HAIR = {
    # name: (colour, share among light skin, share among dark skin)
    "black": ([0.022, 0.018, 0.017], 0.20, 0.72),
    "dark brown": ([0.050, 0.028, 0.017], 0.28, 0.20),
    "brown": ([0.110, 0.058, 0.030], 0.20, 0.04),
    "auburn": ([0.190, 0.060, 0.022], 0.07, 0.01),
    "blond": ([0.480, 0.310, 0.130], 0.15, 0.01),
    "grey": ([0.330, 0.320, 0.310], 0.10, 0.02),
}
_IRIS = {
    "brown": ([0.085, 0.036, 0.014], 0.45),
    "hazel": ([0.17, 0.095, 0.030], 0.2),
    "blue": ([0.10, 0.22, 0.40], 0.2),
    "green": ([0.12, 0.20, 0.10], 0.08),
    "grey": ([0.22, 0.26, 0.28], 0.07),
}
_STYLES: dict[HairStyle, float] = {
    "bald": 0.05, "buzz": 0.08, "short": 0.12, "crop": 0.11, "quiff": 0.09, "curly": 0.08,
    "afro": 0.06, "bob": 0.11, "fringe": 0.09, "long": 0.11, "swept": 0.05, "knot": 0.05,
}  # fmt: skip
_COLLARS: dict[Collar, float] = {"crew": 0.34, "vee": 0.2, "shirt": 0.2, "turtle": 0.12, "boat": 0.14}
_BEARDED: tuple[HairStyle, ...] = ("bald", "buzz", "short", "crop", "quiff", "curly", "afro")


@dataclass(frozen=True)
class Skin:
    """Albedo of skin and of what is painted on it."""

    tone: Color
    lips: Color
    redness: float
    """Of cheeks, nose and chin, 0 to 1."""
    mottle: float
    """Strength of the uneven tone, 0 to 1."""
    freckles: float
    """Density, 0 (mostly) to 1."""
    stubble: float
    """0 none, 0.5 shadow, 1 short beard."""
    shine: float
    """Strength of the highlight, 0 to 1."""
    eyeshadow: float
    eyeliner: float
    noise_offset: tuple[float, float]


@dataclass(frozen=True)
class Brows:
    """Eyebrows."""

    color: Color
    density: float
    width: float
    """Half width, world units."""
    lift: float
    """Added to their height, world units."""


@dataclass(frozen=True)
class Eyes:
    """Iris and sclera."""

    iris: Color
    pupil: float
    """Pupil radius as a part of the iris radius."""
    sclera: Color


@dataclass(frozen=True)
class Hair:
    """Style and colour; the shape's details follow from `shape_seed`."""

    style: HairStyle
    color: Color
    streaks: float
    """Contrast between strands, 0 to 1."""
    volume: float
    """Multiplies the style's thickness."""
    length: float
    """Multiplies the style's length."""
    part: float
    """Side of the parting, -1 to 1."""
    recede: float
    """How much higher than usual the hairline is, radians."""
    shape_seed: int


@dataclass(frozen=True)
class Clothes:
    """A garment over the shoulders."""

    color: Color
    second: Color
    """Of stripes, collar or undershirt."""
    collar: Collar
    stripes: float
    """Stripes per world unit; 0 for plain."""
    width: float
    """Half width of the shoulders, world units."""


@dataclass(frozen=True)
class Glasses:
    """A frame; lengths as parts of half the distance between the eyes."""

    color: Color
    width: float
    """Half width of a rim."""
    height: float
    """Half height of a rim."""
    squareness: float
    """2 for ellipses, more for rounded rectangles."""
    wire: float
    """Radius of the rims' cross-section."""
    gloss: float


@dataclass(frozen=True)
class Hat:
    """A knitted hat or a cap."""

    color: Color
    edge: float
    """Elevation of the edge in front, degrees."""
    visor: bool
    slack: float
    """How much of a knitted hat stands off above, 0 to 1."""


@dataclass(frozen=True)
class Earrings:
    """A pair of them."""

    color: Color
    size: float
    """Radius, world units."""
    hoop: bool


@dataclass(frozen=True)
class Extras:
    """What not everybody has; None and 0 for nothing."""

    glasses: Glasses | None = None
    hat: Hat | None = None
    earrings: Earrings | None = None
    beard: float = 0.0
    """Thickness of a full beard, world units."""


@dataclass(frozen=True)
class Lighting:
    """Second-order spherical harmonics for the surroundings and one distant lamp that casts shadows; world frame."""

    ambient: npt.NDArray[np.float32]
    """[9, 3] coefficients of 1, y, z, x, xy, yz, 3zz-1, xz, xx-yy; light from the direction (x, y, z)."""
    lamp_direction: npt.NDArray[np.float32]
    """[3], unit, towards the lamp."""
    lamp_color: Color
    exposure: float


@dataclass(frozen=True)
class Look:
    """All of it."""

    skin: Skin
    brows: Brows
    eyes: Eyes
    hair: Hair
    clothes: Clothes
    lighting: Lighting
    extras: Extras = field(default_factory=Extras)


def sample_look(seed: int, index: int, person: int | None = None) -> Look:
    """The look of one sample of a data set; each part has its own stream.

    Args:
        seed: of the data set.
        index: the sample: clothes and light are of this day.
        person: the sample whose skin, eyes and hair are shown; None for `index`.
    """
    person = index if person is None else person
    rng = numpy_stream(seed, person, "person")
    darkness = float(rng.beta(1.1, 1.6))
    hair_color = _draw_hair_color(rng, darkness)
    style = _choose(rng, _STYLES)
    skin = _draw_skin(numpy_stream(seed, person, "skin"), darkness, style)
    return Look(
        skin=skin,
        brows=_draw_brows(numpy_stream(seed, person, "brows"), hair_color),
        eyes=_draw_eyes(numpy_stream(seed, person, "eyes"), darkness),
        hair=_draw_hair(numpy_stream(seed, person, "hair"), style, hair_color),
        clothes=_draw_clothes(numpy_stream(seed, index, "clothes")),
        lighting=sample_lighting(numpy_stream(seed, index, "light")),
        extras=_draw_extras(numpy_stream(seed, person, "extras"), skin),
    )


def _choose(rng: np.random.Generator, shares: Mapping[Name, float]) -> Name:
    names = list(shares)
    weights = np.array([shares[name] for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _color(values: npt.ArrayLike) -> Color:
    return np.asarray(values, dtype=np.float32).clip(0, 1)


def _varied(rng: np.random.Generator, color: npt.ArrayLike, brightness: float, hue: float) -> Color:
    """A colour that is up to `brightness` brighter or darker and up to `hue` shifted per channel (as parts of it)."""
    factor = np.exp(rng.uniform(-brightness, brightness)) * (1 + rng.uniform(-hue, hue, 3))
    return _color(np.asarray(color) * factor)


def skin_tone(darkness: float) -> Color:
    """A tone between the lightest (0) and the darkest (1) skin."""
    place = darkness * (len(_SKIN) - 1)
    tones = [np.interp(place, np.arange(len(_SKIN)), np.log(_SKIN[:, channel])) for channel in range(3)]
    return _color(np.exp(tones))


def _draw_skin(rng: np.random.Generator, darkness: float, style: HairStyle) -> Skin:
    tone = _varied(rng, skin_tone(darkness), 0.08, 0.04)
    lips = _color(tone * np.array([0.82, 0.50, 0.52]) * rng.uniform(0.8, 1.1))
    if rng.uniform() < 0.25:  # lipstick
        paint = _color([rng.uniform(0.25, 0.55), rng.uniform(0.02, 0.12), rng.uniform(0.03, 0.16)])
        lips = _color(lips * 0.4 + paint * (0.6 - 0.3 * darkness))
    bearded = style in _BEARDED and rng.uniform() < 0.45
    made_up = not bearded and rng.uniform() < 0.45
    return Skin(
        tone=tone,
        lips=lips,
        redness=float(rng.uniform(0.1, 0.9) * (1 - 0.6 * darkness)),
        mottle=float(rng.uniform(0.2, 1.0)),
        freckles=float(rng.uniform(0.3, 1.0)) if rng.uniform() < 0.15 * (1 - darkness) else 0.0,
        stubble=float(rng.uniform(0.15, 1.0)) if bearded else 0.0,
        shine=float(rng.uniform(0.2, 1.0)),
        eyeshadow=float(rng.uniform(0.2, 0.8)) if made_up else 0.0,
        eyeliner=float(rng.uniform(0.6, 1.0)) if made_up else float(rng.uniform(0.25, 0.6)),
        noise_offset=(float(rng.uniform()), float(rng.uniform())),
    )


def _draw_hair_color(rng: np.random.Generator, darkness: float) -> Color:
    shares = {name: light * (1 - darkness) ** 2 + dark * darkness + 0.01 for name, (_, light, dark) in _HAIR.items()}
    return _varied(rng, _HAIR[_choose(rng, shares)][0], 0.3, 0.08)


def _draw_brows(rng: np.random.Generator, hair: Color) -> Brows:
    color = _varied(rng, hair, 0.2, 0.05) * rng.uniform(0.5, 0.9)
    color = _color(color * min(1.0, 0.13 / float(color.max())))  # fair people have darker brows than hair
    return Brows(color, float(rng.uniform(0.55, 1.0)), float(rng.uniform(0.009, 0.017)), float(rng.uniform(-0.003, 0.004)))


def _draw_eyes(rng: np.random.Generator, darkness: float) -> Eyes:
    shares = {name: share * (1 if name == "brown" else max(0.02, 1 - 1.5 * darkness)) for name, (_, share) in _IRIS.items()}
    sclera = _varied(rng, [0.56, 0.53, 0.51], 0.1, 0.02)
    return Eyes(_varied(rng, _IRIS[_choose(rng, shares)][0], 0.25, 0.1), float(rng.uniform(0.3, 0.5)), sclera)


def _draw_hair(rng: np.random.Generator, style: HairStyle, color: Color) -> Hair:
    return Hair(
        style=style,
        color=color,
        streaks=float(rng.uniform(0.3, 1.0)),
        volume=float(rng.uniform(0.8, 1.25)),
        length=float(rng.uniform(0.75, 1.25)),
        part=float(rng.uniform(-1, 1)),
        recede=float(rng.normal() * 0.07),
        shape_seed=int(rng.integers(2**31)),
    )


def _draw_clothes(rng: np.random.Generator) -> Clothes:
    return Clothes(
        color=_garment_color(rng),
        second=_garment_color(rng),
        collar=_choose(rng, _COLLARS),
        stripes=float(rng.uniform(10, 30)) if rng.uniform() < 0.12 else 0.0,
        width=float(rng.uniform(0.40, 0.52)),
    )


def _draw_extras(rng: np.random.Generator, skin: Skin) -> Extras:
    """Glasses, hats, jewellery, full beards; all draws are made whether they are used or not."""
    wears = rng.uniform(size=4) < (0.16, 0.09, 0.22, 0.10)
    metal = _color([[0.75, 0.52, 0.20], [0.62, 0.62, 0.64]][int(rng.integers(2))])
    frame = (
        metal * 0.6 if rng.uniform() < 0.35 else _varied(rng, [0.03, 0.022, 0.02] if rng.uniform() < 0.6 else [0.20, 0.08, 0.03], 0.4, 0.2)
    )
    wire = float(rng.uniform(0.022, 0.032) if frame.max() > 0.25 else rng.uniform(0.035, 0.065))
    glasses = Glasses(
        _color(frame),
        float(rng.uniform(0.72, 0.84)),
        float(rng.uniform(0.52, 0.72)),
        float(rng.uniform(2.0, 4.0)),
        wire,
        float(rng.uniform(0.3, 1)),
    )
    hat = Hat(_garment_color(rng), float(rng.uniform(30, 40)), bool(rng.uniform() < 0.4), float(rng.uniform(0, 1)))
    earrings = Earrings(metal, float(rng.uniform(0.008, 0.026)), bool(rng.uniform() < 0.6))
    beard = float(rng.uniform(0.008, 0.018))
    return Extras(
        glasses=glasses if wears[0] else None,
        hat=hat if wears[1] else None,
        earrings=earrings if wears[2] and not skin.stubble else None,
        beard=beard if wears[3] and skin.stubble > 0.4 else 0.0,
    )


def _garment_color(rng: np.random.Generator) -> Color:
    """Mostly black, white, grey and navy, sometimes a colour."""
    if rng.uniform() < 0.5:
        return _varied(rng, np.full(3, rng.choice([0.02, 0.08, 0.25, 0.6, 0.75])), 0.2, 0.06)
    value, saturation, hue = rng.uniform(0.08, 0.6), rng.uniform(0.3, 0.85), rng.uniform(0, 1)
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (hue + np.array([0.0, 1 / 3, 2 / 3])))
    return _color(value * (1 - saturation + saturation * wave))


def sample_lighting(rng: np.random.Generator) -> Lighting:
    """Soft light from above and one side, a lamp in front, a tint between candle and sky."""
    warmth = rng.uniform(-1, 1)
    tint = np.array([1 + 0.10 * warmth, 1.0, 1 - 0.12 * warmth])
    ambient = np.zeros((9, 3))
    ambient[0] = rng.uniform(0.42, 0.68)
    ambient[1] = ambient[0] * rng.uniform(0.05, 0.40)
    ambient[2] = ambient[0] * rng.uniform(0.0, 0.30)
    ambient[3] = ambient[0] * rng.uniform(-0.35, 0.35)
    ambient[4:] = ambient[0] * rng.uniform(-0.06, 0.06, (5, 1))
    fill_tint = 1 + rng.uniform(-0.06, 0.06, 3)
    yaw, pitch = rng.uniform(-1.0, 1.0), rng.uniform(0.1, 0.95)
    direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    return Lighting(
        ambient=(ambient * fill_tint * tint[::-1] ** 0.5).astype(np.float32),
        lamp_direction=direction.astype(np.float32),
        lamp_color=np.asarray(rng.uniform(0.3, 0.95) * tint, dtype=np.float32),
        exposure=float(rng.uniform(0.85, 1.15)),
    )
