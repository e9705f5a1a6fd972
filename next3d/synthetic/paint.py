"""Albedo of every material at points of its own coordinates: skin, eyes, teeth, hair, cloth. Linear RGB.

All functions take the P points that show a material, not images. `gloss` is how much of the lamp a surface mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from next3d.synthetic.hair import CUTS, hairline
from next3d.synthetic.looks import Brows, Clothes, Color, Eyes, Hair, HairStyle, Skin
from next3d.synthetic.surface import HeadSurface

NOISE_SIZE = 256
_SCALP: dict[HairStyle, float] = {"bald": 0.0, "buzz": 0.8}
"""How much of the scalp's skin hair hides, by style; styles with volume hide nearly all."""


@dataclass(frozen=True)
class Paint:
    """Colour and gloss of P points."""

    albedo: Tensor
    """[P, 3]."""
    gloss: Tensor
    """[P]."""


@lru_cache(maxsize=1)
def noise_image() -> Tensor:
    """Tileable noise [NOISE_SIZE, NOISE_SIZE, 3] of deviation 1: blotches, grain and pores. Always the same."""
    rng = np.random.Generator(np.random.Philox(7))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(NOISE_SIZE), np.fft.fftfreq(NOISE_SIZE))) * NOISE_SIZE
    channels = []
    for low, high in ((2, 9), (8, 32), (24, 96)):
        band = ((frequency >= low) & (frequency <= high)) / np.maximum(frequency, 1)
        image = np.fft.ifft2(np.fft.fft2(rng.standard_normal((NOISE_SIZE, NOISE_SIZE))) * band).real
        channels.append(image / image.std())
    return torch.from_numpy(np.stack(channels, axis=2)).float()


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Noise [P, 3] at places that repeat every 1."""
    column = (u * NOISE_SIZE).floor().long() % NOISE_SIZE
    row = (v * NOISE_SIZE).floor().long() % NOISE_SIZE
    return noise_image()[row, column]


def smooth(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high` (or the other way round if low > high), smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _rgb(color: Color) -> Tensor:
    return torch.from_numpy(np.asarray(color, dtype=np.float32))


def _blend(albedo: Tensor, color: Tensor, share: Tensor) -> Tensor:
    return albedo + (color - albedo) * share[:, None]


def paint_skin(local: Tensor, lips: Tensor, surface: HeadSurface, skin: Skin, brows: Brows, hair: Hair) -> Paint:
    """Skin of the head at template points [P, 3]; `lips` [P] in [0, 1]."""
    x, y = local[:, 0], local[:, 1]
    grain = noise(x * 1.7 + skin.noise_offset[0], y * 1.7 + skin.noise_offset[1])
    albedo = _rgb(skin.tone) * (1 + 0.05 * skin.mottle * grain[:, :1] + 0.03 * skin.mottle * grain[:, 1:2])
    albedo = _flush(albedo, local, surface, skin)
    if skin.freckles:
        spots = smooth(grain[:, 2], 0.9, 1.6) * _near(local, surface.landmarks[29], 0.16) * skin.freckles
        albedo = _blend(albedo, albedo * torch.tensor([0.70, 0.52, 0.42]), spots)
    albedo = _beard(albedo, local, lips, grain, surface, skin, hair)
    albedo = _blend(albedo, _rgb(skin.lips) * (1 + 0.06 * grain[:, 1:2]), smooth(lips, 0.25, 0.75))
    albedo = _scalp(albedo, local, grain, surface, hair)
    albedo = _nostrils(albedo, local, surface)
    albedo = _lids(albedo, local, surface, skin)
    albedo = _brows(albedo, local, grain, surface, brows)
    gloss = skin.shine * (0.35 + 0.65 * _near(local, surface.landmarks[30], 0.10)) + 0.5 * lips
    return Paint(albedo, gloss)


def paint_body(count: int, skin: Skin) -> Paint:
    """Bare skin of neck and chest."""
    return Paint(_rgb(skin.tone).expand(count, 3), torch.full((count,), 0.25 * skin.shine))


def _near(local: Tensor, center: Tensor, radius: float) -> Tensor:
    """A soft ball around a template point and its mirror image."""
    offset = torch.stack([local[:, 0].abs() - center[0].abs(), local[:, 1] - center[1], local[:, 2] - center[2]], dim=1)
    return torch.exp(-(offset**2).sum(dim=1) / (2 * (radius / 2) ** 2))


def _flush(albedo: Tensor, local: Tensor, surface: HeadSurface, skin: Skin) -> Tensor:
    """Blood in cheeks, nose, chin and ears."""
    marks = surface.landmarks
    cheek = 0.5 * (marks[46] + marks[54]) + torch.tensor([0.035, 0.0, -0.01])
    red = 0.9 * _near(local, cheek, 0.12) + 0.6 * _near(local, marks[30], 0.06) + 0.35 * _near(local, marks[8], 0.07)
    red = red + 0.5 * smooth(local[:, 0].abs(), 0.175, 0.20)
    return _blend(albedo, albedo * torch.tensor([1.06, 0.72, 0.74]), (red * skin.redness).clamp(0, 1))


def _beard(albedo: Tensor, local: Tensor, lips: Tensor, grain: Tensor, surface: HeadSurface, skin: Skin, hair: Hair) -> Tensor:
    """Stubble to short beard below a line from the ear's foot to the mouth's corner and up to the nose."""
    if not skin.stubble:
        return albedo
    marks = surface.landmarks
    corner, jaw = marks[54], marks[15]
    across = ((local[:, 0].abs() - corner[0] * 1.1) / (jaw[0] - corner[0] * 1.1)).clamp(0, 1)
    top = marks[33, 1] - 0.012 - 0.020 * smooth(local[:, 0].abs(), 0.0, float(corner[0]))
    line = top + (jaw[1] + 0.02 - top) * across**1.6
    covered = smooth(line - local[:, 1], -0.008, 0.022) * smooth(local[:, 1], float(marks[8, 1]) - 0.075, float(marks[8, 1]) - 0.025)
    covered = covered * smooth(local[:, 2], float(marks[15, 2]) - 0.05, float(marks[15, 2]))
    density = min(skin.stubble * 1.1, 0.9) * (0.85 + 0.15 * grain[:, 2])
    return _blend(albedo, _rgb(hair.color) * 0.8 + 0.15 * albedo, (covered * density * (1 - lips)).clamp(0, 1))


def _scalp(albedo: Tensor, local: Tensor, grain: Tensor, surface: HeadSurface, hair: Hair) -> Tensor:
    """Hair roots above the hairline, so that skin does not shine through between hair and forehead."""
    density = _SCALP.get(hair.style, 0.92)
    if not density:
        return albedo
    offset = local - surface.skull_middle
    azimuth = torch.atan2(offset[:, 0], offset[:, 2])
    elevation = torch.atan2(offset[:, 1], offset[:, [0, 2]].norm(dim=1))
    table = torch.from_numpy(hairline(np.linspace(0, np.pi, 64))).float()
    place = azimuth.abs() / np.pi * 63
    low = place.floor().long().clamp(0, 62)
    line = table[low] + (table[low + 1] - table[low]) * (place - low)
    soft = 0.10 if CUTS[hair.style] is None else 0.04
    share = smooth(elevation - line + 0.02 * grain[:, 1], -soft / 2, soft)
    return _blend(albedo, _rgb(hair.color) + 0.06 * albedo, share * density * (1 - 0.06 * grain[:, 2].abs()))


def _nostrils(albedo: Tensor, local: Tensor, surface: HeadSurface) -> Tensor:
    """Dark holes under the nose; heads need not model them."""
    dark = _near(local, surface.landmarks[34] + torch.tensor([0.0, 0.004, 0.0]), 0.017)
    return _blend(albedo, albedo * torch.tensor([0.22, 0.12, 0.10]), dark.clamp(0, 1))


def _lids(albedo: Tensor, local: Tensor, surface: HeadSurface, skin: Skin) -> Tensor:
    """Lashes along both lids, make-up and the crease above."""
    x, y = local[:, 0].abs(), local[:, 1]
    upper, lower = surface.upper_lid, surface.lower_lid
    first, last = float(upper.x[0]), float(upper.x[-1])
    inside = smooth(x, first - 0.010, first + 0.004) * smooth(x, last + 0.014, last - 0.002)
    inside = inside * smooth(local[:, 2], float(surface.eye_centers[0, 2]) - 0.02, float(surface.eye_centers[0, 2]))
    above, below = y - upper.height(x), lower.height(x) - y
    shadow = inside * smooth(above, 0.045, 0.0) * smooth(above, -0.03, -0.01) * skin.eyeshadow
    albedo = _blend(albedo, albedo * torch.tensor([0.50, 0.38, 0.42]), shadow)
    tired = inside * smooth(below, 0.045, 0.01) * smooth(below, -0.01, 0.0)
    albedo = _blend(albedo, albedo * torch.tensor([0.82, 0.72, 0.72]), 0.5 * tired)
    lash_top = inside * smooth(above, 0.0095, 0.004) * smooth(above, -0.02, -0.012)
    lash_bottom = inside * smooth(below, 0.006, 0.002) * smooth(below, -0.02, -0.012)
    lashes = (lash_top * (0.55 + 0.45 * skin.eyeliner)).maximum(0.5 * lash_bottom * skin.eyeliner)
    return _blend(albedo, 0.10 * albedo + torch.tensor([0.008, 0.006, 0.005]), lashes)


def _brows(albedo: Tensor, local: Tensor, grain: Tensor, surface: HeadSurface, brows: Brows) -> Tensor:
    """Two bows of fine hair, full inside and thin outside."""
    x, y = local[:, 0].abs(), local[:, 1]
    first, last = float(surface.brow.x[0]), float(surface.brow.x[-1])
    place = ((x - first) / (last - first)).clamp(-0.2, 1.2)
    width = brows.width * (1.05 - 0.65 * place.clamp(0, 1))
    distance = (y - surface.brow.height(x) - brows.lift).abs() / width
    ends = smooth(place, -0.12, 0.12) * smooth(place, 1.10, 0.92)
    front = smooth(local[:, 2], float(surface.eye_centers[0, 2]) - 0.02, float(surface.eye_centers[0, 2]) + 0.01)
    share = smooth(distance, 1.25, 0.55) * ends * front * brows.density * (0.9 + 0.1 * grain[:, 2])
    return _blend(albedo, _rgb(brows.color), share.clamp(0, 1))


def paint_eyes(local: Tensor, surface: HeadSurface, eyes: Eyes) -> Paint:
    """Eyeballs at template points [P, 3]: pupil, iris with a dark ring, sclera that reddens towards the corners."""
    left = local[:, 0] > 0
    center = torch.where(left[:, None], surface.eye_centers[0], surface.eye_centers[1])
    offset = local - center
    angle = torch.atan2(offset[:, :2].norm(dim=1), offset[:, 2]) / surface.iris_angle  # 1 at the iris' edge
    around = torch.atan2(offset[:, 1], offset[:, 0])
    fibres = noise(around / (2 * np.pi) * 0.5, angle * 0.1 + 0.3)[:, 2]
    iris = _rgb(eyes.iris) * (1 + 0.18 * fibres[:, None]) * (1.25 - 0.45 * angle[:, None])
    iris = iris * (1 - 0.75 * smooth(angle, 0.78, 1.0)[:, None])
    red = smooth(offset[:, :2].norm(dim=1), 0.010, 0.030) * smooth(angle, 1.1, 2.2)
    sclera = _rgb(eyes.sclera) * (1 - red[:, None] * torch.tensor([0.06, 0.22, 0.22]))
    albedo = _blend(iris, sclera, smooth(angle, 0.94, 1.06))
    albedo = _blend(albedo, torch.tensor([0.006, 0.005, 0.005]), smooth(angle, eyes.pupil + 0.05, eyes.pupil - 0.05))
    return Paint(albedo, torch.ones(len(local)))


def paint_hair(local: Tensor, hair: Hair) -> Paint:
    """Hair at (turn, place along, piece): strands lighter and darker, roots darker than tips."""
    turn, along = local[:, 0], local[:, 1]
    seed = (hair.shape_seed % 997) / 997
    bend = 0.006 * torch.sin(along * 9 + 40 * seed)
    fine = noise((turn + bend) * 7 + seed, along * 0.12 + seed)
    broad = noise((turn + bend) * 2 + 2 * seed, along * 0.10)
    strand = 0.30 * fine[:, 1] + 0.20 * fine[:, 2] + 0.25 * broad[:, 1]
    shade = torch.exp(hair.streaks * 0.8 * strand) * (0.82 + 0.25 * along)
    return Paint(_rgb(hair.color) * shade[:, None], (0.6 + 0.4 * torch.tanh(strand)).clamp(0, 1))


def paint_clothes(local: Tensor, clothes: Clothes) -> Paint:
    """Cloth at (turn, place down, below the neckline): plain or striped, woven, with a hem."""
    turn, down, below = local.unbind(dim=1)
    weave = noise(turn * 6, down * 3)
    albedo = _rgb(clothes.color) * (1 + 0.05 * weave[:, 2:] + 0.06 * weave[:, :1])
    if clothes.stripes:
        stripe = smooth(torch.sin(down * clothes.stripes * np.pi), -0.2, 0.2)
        albedo = _blend(albedo, _rgb(clothes.second), stripe)
    hem = smooth(below, 0.022, 0.016)
    if clothes.collar == "shirt":
        albedo = albedo * (1 - 0.35 * smooth((turn - 0.5).abs(), 0.004, 0.002) * smooth(below, 0.0, 0.02))[:, None]
        hem = hem * 0.3
    return Paint(_blend(albedo, albedo * 0.72, hem), torch.full_like(turn, 0.08))
