"""Hair as geometry: a cap grown from the scalp, column by column, that can hang down at the sides and back.

The cap is a grid of AZIMUTHS columns (column 0 in front, then towards the person's left) and ROWS rows from the crown outwards. Each
column first follows the skull down to an end elevation, and may then fall straight down for some length. Where it ends on skin it dips
below the surface, so that no edge floats; where it hangs, its end curls inwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.synthetic.geometry import vertex_normals
from next3d.synthetic.looks import Hair, HairStyle
from next3d.synthetic.skull import AZIMUTHS, ELEVATIONS, LOWEST_ELEVATION, hairline, skull_center

Array = npt.NDArray[np.float64]

ROWS = 40
_DIP = 0.014
"""How far below the skin a cap ends, world units."""
_DEGREES = np.pi / 180
_WISP_LAYERS = 2


@dataclass(frozen=True)
class Strands:
    """Hair of one person."""

    vertices: Tensor
    """[V, 3], world."""
    faces: Tensor
    """[T, 3], counter-clockwise seen from outside."""
    local: Tensor
    """[V, 3]: place across strands (turns around the head), along them (0 root to 1 tip), and which piece."""
    normals: Tensor
    """[V, 3], unit."""
    direction: Tensor
    """[V, 3], unit: where strands run, world."""
    covers_ears: bool


@dataclass(frozen=True)
class Cut:
    """A style in numbers; lengths in world units, angles in degrees from the front."""

    top: float
    """Thickness above."""
    side: float
    """Thickness at the sides and the back."""
    front: float = 0.0
    """Added at the forehead's edge (a quiff)."""
    rounding: float = 0.25
    """Part of a column over which its thickness rounds off to the skin."""
    fringe: float | None = None
    """Elevation in degrees to which hair covers the forehead; none for a free forehead."""
    sweep: float = 0.0
    """How far hair that falls from a parting covers the forehead's sides, degrees of elevation."""
    opening: float = 180.0
    """Azimuth behind which hair hangs down; 180 for hair that does not."""
    fall: float = 0.0
    """How far it hangs below the middle of the head."""
    flare: float = 0.0
    """How much wider it gets on its way down, as a part of its width."""
    curl_in: float = 0.25
    """How much narrower it is at the very end."""
    wave: float = 0.0
    """Amplitude of waves along hanging hair."""
    bumps: float = 0.0
    """Amplitude of curls."""
    bump_count: int = 9
    locks: float = 0.004
    """Depth of the furrows between locks."""
    knot: float = 0.0
    """Radius of two knots high at the sides."""


CUTS: dict[HairStyle, Cut | None] = {
    "bald": None,
    "buzz": None,
    "short": Cut(top=0.030, side=0.016, front=0.004),
    "crop": Cut(top=0.042, side=0.020, fringe=34.0, rounding=0.12, locks=0.007),
    "quiff": Cut(top=0.050, side=0.014, front=0.045, rounding=0.16, locks=0.006),
    "curly": Cut(top=0.062, side=0.050, bumps=0.014, bump_count=13, rounding=0.15, opening=100.0, fall=0.16, curl_in=0.3),
    "afro": Cut(top=0.120, side=0.115, bumps=0.008, bump_count=22, rounding=0.35),
    "bob": Cut(sweep=17.0, top=0.040, side=0.050, opening=68.0, fall=0.26, flare=0.10, curl_in=0.35, locks=0.005),
    "fringe": Cut(top=0.042, side=0.050, opening=62.0, fall=0.30, flare=0.05, fringe=13.0, rounding=0.10, locks=0.006),
    "long": Cut(sweep=20.0, top=0.038, side=0.046, opening=66.0, fall=0.60, flare=0.16, wave=0.012, locks=0.006),
    "swept": Cut(sweep=12.0, top=0.046, side=0.044, opening=116.0, fall=0.55, flare=0.10, wave=0.008, locks=0.006),
    "knot": Cut(top=0.022, side=0.014, knot=0.075, locks=0.003),
}
"""None: no geometry; stubble is painted on the scalp, or nothing."""


def under_hat(hair: Hair) -> Hair:
    """The same hair pressed flat; styles that stand up become short ones."""
    style: HairStyle = "short" if hair.style in ("curly", "afro", "quiff", "knot", "crop") else hair.style
    return replace(hair, style=style, volume=min(hair.volume, 0.45))


def grow_hair(hair: Hair, skull: Tensor) -> Strands | None:
    """Hair geometry on the skull grid [AZIMUTHS, ELEVATIONS, 3] of a posed head; None for styles without volume."""
    cut = CUTS[hair.style]
    if cut is None:
        return None
    rng = np.random.Generator(np.random.Philox(hair.shape_seed))
    center = skull_center(skull)
    cap, end, hanging = _cap(cut, hair, rng, skull, center)
    pieces = [(cap, 0)]
    if cut.knot:
        pieces += [(_knot(cut.knot * hair.volume, cap, center, side), 1) for side in (1, -1)]
    return _assemble(pieces, _wisps(cap, end, hanging, skull, center, hair), center, covers_ears=cut.opening < 90)


def _smooth(x: Array | float, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((np.asarray(x, dtype=np.float64) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _cap(cut: Cut, hair: Hair, rng: np.random.Generator, skull: Tensor, center: Tensor) -> tuple[Tensor, Array, Array]:
    """Points [AZIMUTHS, ROWS, 3], the elevation [AZIMUTHS] where columns leave the skull, and how far [AZIMUTHS] they hang."""
    azimuth = np.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS)
    turned = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi) / _DEGREES  # degrees from the front
    ragged = _ring_noise(rng, (17, 31))
    radius = float((skull[:, ELEVATIONS // 3] - center).norm(dim=1).mean())
    hanging = _smooth(turned, cut.opening - 4, cut.opening + 10) if cut.fall else np.zeros(AZIMUTHS)
    end = _end_elevation(cut, hair, turned, azimuth, ragged)
    end = end * (1 - hanging) + 0.02 * hanging
    fall = hanging * cut.fall * hair.length * (1 + 0.05 * ragged)
    scalp_length = (np.pi / 2 - end) * radius
    along = np.linspace(0, 1, ROWS)[None] ** 0.9 * (scalp_length + fall)[:, None]  # [A, ROWS]
    elevation = np.pi / 2 - np.minimum(along, scalp_length[:, None]) / radius
    drop = np.maximum(along - scalp_length[:, None], 0)
    surface = skull_points(skull, elevation)
    outwards = F.normalize(surface - center, dim=2)
    thickness = _thickness(cut, hair, rng, elevation, along / (scalp_length + fall)[:, None], azimuth, turned, hanging)
    points = surface + outwards * torch.from_numpy(thickness).float()[..., None]
    return _hang(cut, hair, rng, points, center, drop, fall, turned), end, hanging


def _wisps(cap: Tensor, end: Array, hanging: Array, skull: Tensor, center: Tensor, hair: Hair) -> tuple[Tensor, Tensor]:
    """Thin pointed locks that break up the edge of a cap [AZIMUTHS, ROWS, 3].

    Returns:
        Corners [W, 3, 3] of single triangles, the tip last, and where along the hair [W] they begin.
    """
    rng = np.random.Generator(np.random.Philox(hair.shape_seed + 1))
    column = torch.arange(AZIMUTHS)
    loose = torch.from_numpy(hanging > 0.5)
    corners, begins = [], []
    for layer in range(_WISP_LAYERS):
        start = torch.where(loose, ROWS - 2 - layer, ROWS - 4 - 2 * layer)
        left, right = cap[column, start], cap[(column + 1) % AZIMUTHS, start]
        reach = torch.from_numpy(rng.uniform(0.0, 1.0, AZIMUTHS) ** 2).float()[:, None]
        lean = torch.from_numpy(rng.uniform(-0.4, 1.4, AZIMUTHS)).float()[:, None]
        skin = skull_points(skull, (end - 0.01 - 0.09 * reach[:, 0].double().numpy())[:, None])[:, 0]
        skin = skin + 0.004 * F.normalize(skin - center, dim=1)
        down = F.normalize(cap[:, -1] - cap[:, -4], dim=1)
        tip = torch.where(loose[:, None], cap[:, -1] + (0.008 + 0.035 * reach) * down, skin)
        tip = torch.lerp(tip, torch.roll(tip, -1, 0), lean)
        corners.append(torch.stack([left, right, tip], dim=1))
        begins.append(start / (ROWS - 1))
    return torch.cat(corners), torch.cat(begins)


def _end_elevation(cut: Cut, hair: Hair, turned: Array, azimuth: Array, ragged: Array) -> Array:
    """Where columns that do not hang end on the head, radians."""
    line = hairline(azimuth)
    front = 1 - _smooth(turned, 30, 62)
    line = line + hair.recede * front
    parting = 0.35 * hair.part
    aside = np.abs((azimuth - parting + np.pi) % (2 * np.pi) - np.pi) / _DEGREES
    line = line - cut.sweep * _DEGREES * _smooth(aside, 2, 48) * front
    if cut.fringe is None:
        return np.asarray(line + 0.012 * ragged)
    # A fringe reaches lower on the side away from the parting.
    side = 1 + 0.35 * hair.part * np.sin(azimuth)
    fringe = (cut.fringe * side + 4 * ragged) * _DEGREES
    covered = 1 - _smooth(turned, 44, 64)
    return np.asarray(line * (1 - covered) + np.minimum(line, fringe) * covered)


def _thickness(
    cut: Cut, hair: Hair, rng: np.random.Generator, elevation: Array, place: Array, azimuth: Array, turned: Array, hanging: Array
) -> Array:
    """Distance [A, ROWS] from the skull, negative where the cap dips into the skin."""
    above = _smooth(elevation / _DEGREES, 15, 60)
    base = cut.side + (cut.top - cut.side) * above
    front = (1 - _smooth(turned, 25, 75))[:, None]
    base = base + cut.front * front * _smooth(elevation / _DEGREES, 35, 52) * (1 - _smooth(elevation / _DEGREES, 58, 86))
    base = base * hair.volume
    if cut.sweep:
        base = base - 0.014 * _parting(hair, elevation, azimuth)
    if cut.bumps:
        base = base + cut.bumps * _grid_noise(rng, cut.bump_count)
    locks = _ring_noise(rng, (19, 27, 41))
    base = base + cut.locks * locks[:, None] * _smooth(place, 0.1, 0.5)
    toward_end = np.clip((place - (1 - cut.rounding)) / cut.rounding, 0, 1)
    rounded = (base + _DIP) * np.sqrt(1 - 0.999 * toward_end**2) - _DIP
    return np.asarray(base * hanging[:, None] + rounded * (1 - hanging[:, None]))


def _parting(hair: Hair, elevation: Array, azimuth: Array) -> Array:
    """1 along a line [A, ROWS] from the forehead to the crown, 0 a little aside."""
    across = np.sin(azimuth - 0.35 * hair.part)[:, None] * np.cos(elevation)
    ahead = np.cos(azimuth)[:, None] * np.cos(elevation)
    return np.asarray(np.exp(-((across / 0.05) ** 2)) * _smooth(ahead, -0.1, 0.15))


def _hang(
    cut: Cut, hair: Hair, rng: np.random.Generator, points: Tensor, center: Tensor, drop: Array, fall: Array, turned: Array
) -> Tensor:
    """Let the lower parts of the columns fall by `drop` [A, ROWS] and shape them on the way."""
    if not cut.fall:
        return points
    share = np.where(fall[:, None] > 1e-4, drop / np.maximum(fall[:, None], 1e-4), 0)  # 0 at the skull's equator to 1 at the tip
    tucked = 0.80 + 0.20 * _smooth(turned, cut.opening, cut.opening + 32)  # locks beside the face turn inwards
    width = 1 + (tucked[:, None] - 1) * _smooth(share, 0.0, 0.25)
    width = width * (1 + cut.flare * _smooth(share, 0.0, 0.8)) * (1 - cut.curl_in * _smooth(share, 0.72, 1.02))
    if cut.wave:
        phase = rng.uniform(0, 2 * np.pi) + 3 * _ring_noise(rng, (3, 5))[:, None]
        width = width + cut.wave / 0.2 * np.sin(share * cut.fall / 0.09 * np.pi + phase) * _smooth(share, 0.05, 0.3)
    horizontal = torch.from_numpy(width).float()
    moved = points - center
    moved = torch.stack([moved[..., 0] * horizontal, moved[..., 1] - torch.from_numpy(drop).float(), moved[..., 2] * horizontal], dim=2)
    return moved + center


def _ring_noise(rng: np.random.Generator, frequencies: tuple[int, ...]) -> Array:
    """A wavy line [AZIMUTHS] around the head, about -1 to 1."""
    azimuth = np.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS)
    waves = [np.sin(frequency * azimuth + rng.uniform(0, 2 * np.pi)) * rng.uniform(0.5, 1) for frequency in frequencies]
    return np.asarray(np.sum(waves, axis=0) / len(frequencies))


def _grid_noise(rng: np.random.Generator, count: int) -> Array:
    """Rounded bumps [AZIMUTHS, ROWS] about as wide as high, -1 to 1, periodic around the head."""
    azimuth = np.arange(AZIMUTHS)[:, None] * (2 * np.pi / AZIMUTHS)
    row = np.linspace(0, 1, ROWS)[None]
    bumps = np.zeros((AZIMUTHS, ROWS))
    for _ in range(4):
        around, down = rng.integers(count // 2, count + 1), rng.uniform(0.5, 1.0) * count * 0.6
        bumps += np.sin(around * azimuth + rng.uniform(0, 6.3) + 1.5 * np.sin(down * row * 2)) * np.sin(
            down * np.pi * row + rng.uniform(0, 6.3)
        )
    return np.asarray(np.tanh(bumps) * _smooth(row, 0.02, 0.2))


def skull_points(skull: Tensor, elevation: Array) -> Tensor:
    """Points [A, R, 3] of the skull grid's columns at elevations [A, R], radians."""
    place = (np.pi / 2 - elevation) / (np.pi / 2 - LOWEST_ELEVATION) * (ELEVATIONS - 1)
    low = np.clip(np.floor(place).astype(np.int64), 0, ELEVATIONS - 2)
    share = torch.from_numpy(np.clip(place - low, 0, 1)).float()[..., None]
    column, row = torch.arange(AZIMUTHS)[:, None], torch.from_numpy(low)
    return skull[column, row] * (1 - share) + skull[column, row + 1] * share


def _knot(radius: float, cap: Tensor, center: Tensor, side: int) -> Tensor:
    """A ball [AZIMUTHS, ROWS, 3] that sits high on the left (1) or the right (-1) side of the head, a little behind."""
    crown = cap[side * AZIMUTHS * 5 // 16, ROWS // 2]
    up = F.normalize(crown - center, dim=0)
    middle = crown + up * radius * 0.75
    azimuth = torch.arange(AZIMUTHS)[:, None] * (2 * np.pi / AZIMUTHS)
    polar = torch.linspace(1e-3, np.pi - 1e-3, ROWS)[None]
    ball = torch.stack([azimuth.sin() * polar.sin(), polar.cos().expand(AZIMUTHS, -1), azimuth.cos() * polar.sin()], dim=2)
    swirl = 1 + 0.06 * torch.sin(5 * azimuth + 4 * polar)
    return middle + radius * ball * torch.tensor([1.0, 0.85, 1.0]) * swirl[..., None]


@lru_cache(maxsize=4)
def sheet_faces(columns: int, rows: int, *, closed: bool) -> Tensor:
    """Triangles [T, 3] of a grid of columns x rows, perhaps closed around, counter-clockwise from outside."""
    column, row = torch.meshgrid(torch.arange(columns if closed else columns - 1), torch.arange(rows - 1), indexing="ij")
    following = (column + 1) % columns
    a, b = column * rows + row, following * rows + row
    c, d = following * rows + row + 1, column * rows + row + 1
    return torch.cat([torch.stack([a, d, c], dim=2).reshape(-1, 3), torch.stack([a, c, b], dim=2).reshape(-1, 3)])


def _assemble(pieces: list[tuple[Tensor, int]], wisps: tuple[Tensor, Tensor], center: Tensor, *, covers_ears: bool) -> Strands:
    vertices: list[Tensor] = []
    faces: list[Tensor] = []
    local: list[Tensor] = []
    direction: list[Tensor] = []
    turn = ((torch.arange(AZIMUTHS) / AZIMUTHS + 0.5) % 1)[:, None].expand(-1, ROWS)  # the seam is at the back
    along = torch.linspace(0, 1, ROWS)[None].expand(AZIMUTHS, -1)
    for points, piece in pieces:
        faces.append(sheet_faces(AZIMUTHS, ROWS, closed=True) + len(vertices) * AZIMUTHS * ROWS)
        vertices.append(points.reshape(-1, 3))
        run = torch.cat([points[:, 1:] - points[:, :-1], points[:, -1:] - points[:, -2:-1]], dim=1)
        direction.append(F.normalize(run, dim=2).reshape(-1, 3))
        local.append(torch.stack([turn, along, torch.full_like(turn, float(piece))], dim=2).reshape(-1, 3))
    normals = vertex_normals(torch.cat(vertices), torch.cat(faces))
    corners, begins = wisps
    count, layers = len(corners), len(corners) // AZIMUTHS
    faces.append(torch.arange(3 * count).reshape(count, 3) + len(vertices) * AZIMUTHS * ROWS)
    vertices.append(corners.reshape(-1, 3))
    direction.append(F.normalize(corners[:, 2] - corners[:, :2].mean(dim=1), dim=1).repeat_interleave(3, dim=0))
    around = turn[:, 0].repeat(layers)[:, None].expand(-1, 3)
    place = torch.stack([begins, begins, torch.ones(count)], dim=1)
    local.append(torch.stack([around, place, torch.zeros(count, 3)], dim=2).reshape(-1, 3))
    normals = torch.cat([normals, F.normalize(vertices[-1] - center, dim=1)])  # thin things are lit as what they lie on
    return Strands(torch.cat(vertices), torch.cat(faces), torch.cat(local), normals, torch.cat(direction), covers_ears)
