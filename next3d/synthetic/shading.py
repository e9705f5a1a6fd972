"""Light on surfaces: surroundings as spherical harmonics, one lamp with a shadow, skin that lets red through, shiny eyes and hair."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.synthetic.looks import Lighting
from next3d.synthetic.paint import Paint

_SKIN_WRAP = (0.30, 0.16, 0.12)
"""How far red, green and blue reach past the terminator: a cheap stand-in for light inside skin."""


def surroundings(normals: Tensor, lighting: Lighting) -> Tensor:
    """Light [P, 3] that arrives from all around on surfaces with unit normals [P, 3]."""
    x, y, z = normals.unbind(dim=1)
    basis = torch.stack([torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], dim=1)
    return (basis @ torch.from_numpy(lighting.ambient)).clamp_min(0.02)


def shade_matte(paint: Paint, normals: Tensor, ambient: Tensor, occlusion: Tensor, lit: Tensor, lighting: Lighting) -> Tensor:
    """Diffuse light [P, 3] leaving cloth, teeth, mouth."""
    lamp, color = torch.from_numpy(lighting.lamp_direction), torch.from_numpy(lighting.lamp_color)
    direct = ((normals @ lamp).clamp_min(0) * lit)[:, None] * color
    return paint.albedo * (ambient * occlusion[:, None] + direct)


def shade_skin(paint: Paint, normals: Tensor, view: Tensor, ambient: Tensor, occlusion: Tensor, lit: Tensor, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving skin towards unit directions `view` [P, 3]; crevices turn reddish rather than grey."""
    lamp, color = torch.from_numpy(lighting.lamp_direction), torch.from_numpy(lighting.lamp_color)
    cosine = (normals @ lamp)[:, None]
    wrap = torch.tensor(_SKIN_WRAP)
    wrapped = ((cosine + wrap) / (1 + wrap)).clamp_min(0)
    shadow = 0.12 * torch.tensor([1.0, 0.4, 0.3]) + (1 - 0.12 * torch.tensor([1.0, 0.4, 0.3])) * lit[:, None]
    crevice = occlusion[:, None] ** torch.tensor([0.8, 1.05, 1.1])
    diffuse = paint.albedo * (ambient * crevice + wrapped * shadow * color)
    shine = 0.10 * mirror(normals, view, lamp, 18.0) + 0.05 * mirror(normals, view, lamp, 60.0)
    rim = 0.05 * (1 - (normals * view).sum(dim=1).clamp(0, 1)) ** 4 * occlusion
    return diffuse + (paint.gloss * shine * lit)[:, None] * color + rim[:, None] * ambient


def shade_eyes(paint: Paint, normals: Tensor, view: Tensor, ambient: Tensor, occlusion: Tensor, lit: Tensor, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving eyeballs: matte, with a catch-light of the lamp and a fainter one of the sky."""
    lamp, color = torch.from_numpy(lighting.lamp_direction), torch.from_numpy(lighting.lamp_color)
    matte = shade_matte(paint, normals, ambient, 0.35 + 0.65 * occlusion, 0.3 + 0.7 * lit, lighting)
    window = F.normalize(torch.tensor([-0.35, 0.45, 1.0]), dim=0)
    glint = 1.1 * mirror(normals, view, lamp, 350.0)[:, None] * color + 0.6 * mirror(normals, view, window, 500.0)[:, None] * ambient
    return matte + glint


def shade_hair(paint: Paint, normals: Tensor, direction: Tensor, view: Tensor, ambient: Tensor, lit: Tensor, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving strands along unit `direction` [P, 3]: highlights form bands across them (Kajiya and Kay, 1989)."""
    lamp, color = torch.from_numpy(lighting.lamp_direction), torch.from_numpy(lighting.lamp_color)
    facing = (normals @ lamp).clamp(-0.3, 1) * 0.6 + 0.25
    across = (1 - (direction @ lamp) ** 2).clamp_min(0).sqrt()
    diffuse = paint.albedo * (ambient + (facing.clamp_min(0) * across * lit)[:, None] * color)
    half = F.normalize(view + lamp, dim=1)
    band = (1 - (direction * half).sum(dim=1) ** 2).clamp_min(0) ** 22
    shine = band * (normals @ lamp).clamp(0, 1) * lit * paint.gloss
    tint = 0.045 + 0.55 * paint.albedo
    sky = (1 - direction[:, 1] ** 2).clamp_min(0) ** 8 * (normals[:, 1].clamp(0, 1)) * paint.gloss
    return diffuse + shine[:, None] * tint * color * 1.2 + 0.25 * sky[:, None] * tint * ambient


def mirror(normals: Tensor, view: Tensor, lamp: Tensor, sharpness: float) -> Tensor:
    """Blinn-Phong highlight [P]."""
    half = F.normalize(view + lamp, dim=1)
    return (normals * half).sum(dim=1).clamp_min(0) ** sharpness
