"""Light on surfaces: surroundings as spherical harmonics, one lamp with a shadow, skin that lets red through, shiny eyes and hair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.synthetic.looks import Lighting
from next3d.synthetic.paint import Paint

_SKIN_WRAP = (0.30, 0.16, 0.12)
"""How far red, green and blue reach past the terminator: a cheap stand-in for light inside skin."""
_SHADOW_LEAK = (0.12, 0.05, 0.04)
"""How much of the lamp reaches skin in shadow."""
_WINDOW = (-0.35, 0.45, 1.0)
"""Direction of the window that eyes mirror."""


@dataclass(frozen=True)
class Light:
    """What arrives at P points."""

    normals: Tensor
    """[P, 3], unit."""
    view: Tensor
    """[P, 3], unit, towards the camera."""
    ambient: Tensor
    """[P, 3]: from all around, as if nothing was in the way."""
    occlusion: Tensor
    """[P] in [0, 1]: how much of `ambient` is not hidden."""
    lit: Tensor
    """[P] in [0, 1]: whether the lamp is not hidden."""

    def __getitem__(self, index: Tensor) -> Light:
        """Some of the points."""
        return Light(*(value.index_select(0, index) for value in vars(self).values()))


def surroundings(normals: Tensor, lighting: Lighting) -> Tensor:
    """Light [P, 3] that arrives from all around on surfaces with unit normals [P, 3]."""
    x, y, z = normals.unbind(dim=1)
    basis = torch.stack([torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y])
    return (basis.T @ torch.from_numpy(lighting.ambient)).clamp_min(0.02)


def shade_matte(paint: Paint, light: Light, lighting: Lighting) -> Tensor:
    """Diffuse light [P, 3] leaving cloth, teeth, mouth."""
    lamp, color = _lamp(lighting)
    direct = ((light.normals @ lamp).clamp_min(0) * light.lit)[:, None] * color
    return paint.albedo * (light.ambient * light.occlusion[:, None] + direct)


def shade_glossy(paint: Paint, light: Light, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving metal, plastic and wool: matte, and as far as it is glossy it mirrors the lamp in its own colour."""
    lamp, color = _lamp(lighting)
    tint = 0.3 + 0.7 * paint.albedo
    shine = paint.gloss * (0.9 * mirror(light, lamp) ** 40 * (0.3 + 0.7 * light.lit) + 0.25 * light.normals[:, 1].clamp_min(0) ** 2)
    return shade_matte(paint, light, lighting) + tint * shine[:, None] * (0.5 * color + 0.5 * light.ambient)


def shade_skin(paint: Paint, light: Light, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving skin; crevices and the edges of shadows turn reddish rather than grey."""
    lamp, color = _lamp(lighting)
    wrap, leak = torch.tensor(_SKIN_WRAP), torch.tensor(_SHADOW_LEAK)
    wrapped = (((light.normals @ lamp)[:, None] + wrap) / (1 + wrap)).clamp_min(0)
    direct = wrapped * (leak + (1 - leak) * light.lit[:, None]) * color
    crevice = torch.lerp(light.occlusion[:, None], light.occlusion.sqrt()[:, None], torch.tensor([0.35, 0.0, 0.0]))
    highlight = mirror(light, lamp)
    shine = paint.gloss * light.lit * (0.10 * highlight**18 + 0.05 * highlight**60)
    rim = 0.05 * (1 - (light.normals * light.view).sum(dim=1).clamp(0, 1)) ** 4 * light.occlusion
    return paint.albedo * (light.ambient * crevice + direct) + shine[:, None] * color + rim[:, None] * light.ambient


def shade_eyes(paint: Paint, light: Light, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving eyeballs: matte, with a catch-light of the lamp and a fainter one of a window."""
    lamp, color = _lamp(lighting)
    soft = replace(light, occlusion=0.35 + 0.65 * light.occlusion, lit=0.3 + 0.7 * light.lit)
    window = F.normalize(torch.tensor(_WINDOW), dim=0)
    glint = 1.1 * mirror(light, lamp)[:, None] ** 350 * color + 0.6 * mirror(light, window)[:, None] ** 500 * light.ambient
    return shade_matte(paint, soft, lighting) + glint


def shade_hair(paint: Paint, direction: Tensor, light: Light, lighting: Lighting) -> Tensor:
    """Light [P, 3] leaving strands along unit `direction` [P, 3]: highlights form bands across them (Kajiya and Kay, 1989)."""
    lamp, color = _lamp(lighting)
    cosine = light.normals @ lamp
    across = (1 - (direction @ lamp) ** 2).clamp_min(0).sqrt()
    direct = (0.25 + 0.6 * cosine.clamp(-0.3, 1)) * across * light.lit
    half = F.normalize(light.view + lamp, dim=1)
    band = (1 - (direction * half).sum(dim=1) ** 2).clamp_min(0) ** 22
    shine = 1.2 * band * cosine.clamp(0, 1) * light.lit * paint.gloss
    sky = 0.25 * (1 - direction[:, 1] ** 2).clamp_min(0) ** 8 * light.normals[:, 1].clamp(0, 1) * paint.gloss
    ambient = light.ambient * light.occlusion[:, None]
    tint = 0.045 + 0.55 * paint.albedo
    return paint.albedo * (ambient + direct[:, None] * color) + tint * (shine[:, None] * color + sky[:, None] * ambient)


def mirror(light: Light, source: Tensor) -> Tensor:
    """Cosine [P] between the normal and the direction half-way between viewer and `source` [3] (Blinn, 1977)."""
    half = F.normalize(light.view + source, dim=1)
    return (light.normals * half).sum(dim=1).clamp_min(0)


def _lamp(lighting: Lighting) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(lighting.lamp_direction), torch.from_numpy(lighting.lamp_color)
