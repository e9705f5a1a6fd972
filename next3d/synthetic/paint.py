"""Albedo of every material at points of its own coordinates: skin, eyes, teeth, hair, cloth. Linear RGB.

All functions take the P points that show a material, not images. `gloss` is how much of the lamp a surface mirrors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from next3d.synthetic.hair import CUTS
from next3d.synthetic.looks import Brows, Clothes, Color, Eyes, Hair, HairStyle, Skin
from next3d.synthetic.skin_fields import SkinFields, smooth
from next3d.synthetic.surface import HeadSurface, Material

NOISE_SIZE = 256
"""A power of two."""
_MOUTH = (0.20, 0.055, 0.05)
_TONGUE = (0.42, 0.14, 0.13)
_TEETH = (0.74, 0.68, 0.58)
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
    """Tileable noise [NOISE_SIZE * NOISE_SIZE, 3] of deviation 1: blotches, grain and pores. Always the same."""
    rng = np.random.Generator(np.random.Philox(7))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(NOISE_SIZE), np.fft.fftfreq(NOISE_SIZE))) * NOISE_SIZE
    channels = []
    for low, high in ((2, 9), (8, 32), (24, 96)):
        band = ((frequency >= low) & (frequency <= high)) / np.maximum(frequency, 1)
        image = np.fft.ifft2(np.fft.fft2(rng.standard_normal((NOISE_SIZE, NOISE_SIZE))) * band).real
        channels.append(image / image.std())
    return torch.from_numpy(np.stack(channels, axis=2).reshape(-1, 3)).float()


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Noise [P, 3] at places that repeat every 1."""
    column, row = (torch.floor(place * NOISE_SIZE).to(torch.int32) & (NOISE_SIZE - 1) for place in (u, v))
    return noise_image().index_select(0, row * NOISE_SIZE + column)


def _rgb(color: Color) -> Tensor:
    return torch.from_numpy(np.asarray(color, dtype=np.float32))


def _blend(albedo: Tensor, color: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(albedo, color.expand_as(albedo), share[:, None])


def _tinted(albedo: Tensor, factor: tuple[float, float, float], share: Tensor) -> Tensor:
    """Multiply by a colour where `share` is 1."""
    return albedo * (1 + share[:, None] * (torch.tensor(factor) - 1))


def paint_skin(fields: SkinFields, skin: Skin, brows: Brows, hair: Hair) -> Paint:
    """Skin of the head at P points."""
    grain = noise(fields.across * 1.7 + skin.noise_offset[0], fields.up * 1.7 + skin.noise_offset[1])  # [P, 3]
    uneven = 1 + skin.mottle * (0.03 * grain[:, 0] + 0.025 * grain[:, 1])
    albedo = _rgb(skin.tone) * uneven[:, None]
    albedo = _tinted(albedo, (1.06, 0.72, 0.74), (fields.flush * skin.redness).clamp(0, 1))
    if skin.freckles:
        albedo = _tinted(albedo, (0.70, 0.52, 0.42), smooth(grain[:, 2], 0.9, 1.6) * fields.freckles * skin.freckles)
    bristles = noise(fields.across * 5 + skin.noise_offset[1], fields.up * 3 + skin.noise_offset[0])[:, 2]
    if skin.stubble:
        density = min(skin.stubble * 0.55, 0.45) * (0.8 + 0.25 * bristles) * (1 - fields.lips)
        color = _rgb(hair.color) * min(0.8, 0.16 / float(hair.color.max()))  # beards of fair people are darker than their hair
        albedo = _blend(albedo, color + 0.15 * albedo, (fields.beard * density).clamp(0, 1))
    albedo = _blend(albedo, _rgb(skin.lips) * (1 + 0.06 * grain[:, 1:2]), smooth(fields.lips, 0.25, 0.75))
    albedo = _scalp(albedo, fields, grain, hair)
    albedo = _tinted(albedo, (0.22, 0.12, 0.10), fields.nostrils)
    albedo = _lids(albedo, fields, skin)
    albedo = _brows(albedo, fields, bristles, brows)
    return Paint(albedo, skin.shine * (0.35 + 0.65 * fields.nose) + 0.5 * fields.lips)


def paint_body(local: Tensor, skin: Skin) -> Paint:
    """Bare skin at (across or turn, up or down, ...): neck and chest, and what lies under a beard."""
    grain = noise(local[:, 0] * 3 + skin.noise_offset[0], local[:, 1] * 1.2 + skin.noise_offset[1])
    uneven = 1 + skin.mottle * (0.03 * grain[:, 0] + 0.025 * grain[:, 1])
    return Paint(_rgb(skin.tone) * uneven[:, None], torch.full_like(uneven, 0.35 * skin.shine))


def _scalp(albedo: Tensor, fields: SkinFields, grain: Tensor, hair: Hair) -> Tensor:
    """Hair roots above the hairline, so that skin does not shine through between hair and forehead."""
    density = _SCALP.get(hair.style, 0.92)
    if not density:
        return albedo
    soft = 0.10 if CUTS[hair.style] is None else 0.07
    share = smooth(fields.hairline - hair.recede + 0.02 * grain[:, 1], -soft / 2, soft)
    return _blend(albedo, _rgb(hair.color) + 0.06 * albedo, share * density * (1 - 0.06 * grain[:, 2].abs()))


def _lids(albedo: Tensor, fields: SkinFields, skin: Skin) -> Tensor:
    """Lashes along both lids, make-up above and tiredness below."""
    near = (fields.lids > 0).nonzero()[:, 0]  # few points: the rest of the face need not be asked
    lids, above, below, part = fields.lids[near], fields.above_lid[near], fields.below_lid[near], albedo[near]
    if skin.eyeshadow:
        part = _tinted(part, (0.50, 0.38, 0.42), lids * smooth(above, 0.045, 0.0) * smooth(above, -0.03, -0.01) * skin.eyeshadow)
    part = _tinted(part, (0.82, 0.72, 0.72), 0.5 * lids * smooth(below, 0.045, 0.01) * smooth(below, -0.01, 0.0))
    lash_top = smooth(above, 0.0095, 0.004) * smooth(above, -0.02, -0.012) * (0.55 + 0.45 * skin.eyeliner)
    lash_bottom = smooth(below, 0.006, 0.002) * smooth(below, -0.02, -0.012) * 0.5 * skin.eyeliner
    part = _blend(part, 0.10 * part + torch.tensor([0.008, 0.006, 0.005]), lids * lash_top.maximum(lash_bottom))
    return albedo.index_copy(0, near, part)


def _brows(albedo: Tensor, fields: SkinFields, bristles: Tensor, brows: Brows) -> Tensor:
    """Two bows of fine hair, full inside and thin outside."""
    near = ((fields.brow_place > -0.13) & (fields.brow_place < 1.11) & (fields.brow.abs() < 0.04)).nonzero()[:, 0]
    place = fields.brow_place[near]
    distance = (fields.brow[near] - brows.lift).abs() / (brows.width * (1.05 - 0.65 * place.clamp(0, 1)))
    ends = smooth(place, -0.12, 0.12) * smooth(place, 1.10, 0.92)
    share = smooth(distance, 1.25, 0.55) * ends * brows.density * (0.88 + 0.12 * bristles[near])
    return albedo.index_copy(0, near, _blend(albedo[near], _rgb(brows.color), share.clamp(0, 1)))


def paint_mouth(material: Material, count: int) -> Paint:
    """Teeth, tongue, or the dark rest."""
    albedo = {Material.TEETH: _TEETH, Material.TONGUE: _TONGUE}.get(material, _MOUTH)
    return Paint(torch.tensor(albedo).expand(count, 3), torch.zeros(count))


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


def beard_cover(local: Tensor, density: Tensor, hair: Hair) -> Tensor:
    """How much of the skin [P] a beard of some density [P] hides at (across, up, ...): strand by strand less towards its edges."""
    seed = (hair.shape_seed % 997) / 997
    strands = noise(local[:, 0] * 9 + seed, local[:, 1] * 2.5 + seed)
    return smooth(density + 0.16 * strands[:, 2] + 0.08 * strands[:, 1], 0.05, 0.6)


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
