"""What people wear on their heads, and beards with volume: small meshes that sit on the posed head.

Lengths are world units, or parts of half the distance between the eyes (about 31 mm on a person) where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.synthetic.geometry import vertex_normals
from next3d.synthetic.hair import sheet_faces, skull_points
from next3d.synthetic.looks import Earrings, Glasses, Hat
from next3d.synthetic.skin_fields import SkinFields, smooth
from next3d.synthetic.skull import AZIMUTHS, EQUATOR, skull_center
from next3d.synthetic.surface import HeadSurface

HAT_THICKNESS = 0.036
"""Distance of a hat from the skull; hair below it is thinner."""
_HAT_ROWS = 24
_BRIM_COLUMNS, _BRIM_ROWS = 31, 7
_TUBE_SIDES = 6
_RIM_STEPS = 28


@dataclass(frozen=True)
class Piece:
    """One thing of V vertices and T triangles."""

    vertices: Tensor
    """[V, 3], world."""
    faces: Tensor
    """[T, 3]."""
    color: Tensor
    """[3] or [V, 3], linear RGB."""
    gloss: float
    """How much of the lamp it mirrors, 0 to 1."""


def join(pieces: list[tuple[Tensor, Tensor]], color: Tensor, gloss: float) -> Piece:
    """Several meshes (vertices, triangles) of one material as one."""
    vertices, faces, count = [], [], 0
    for points, triangles in pieces:
        vertices.append(points)
        faces.append(triangles + count)
        count += len(points)
    return Piece(torch.cat(vertices), torch.cat(faces), color, gloss)


def tube(path: Tensor, radius: float, side: Tensor, *, closed: bool) -> tuple[Tensor, Tensor]:
    """A round wire along points [K, 3]; `side` [3] is a direction that the path never takes."""
    following = torch.roll(path, -1, 0) - torch.roll(path, 1, 0)
    if not closed:
        following[0], following[-1] = path[1] - path[0], path[-1] - path[-2]
    along = F.normalize(following, dim=1)
    first = F.normalize(torch.linalg.cross(along, side.expand_as(along)), dim=1)
    second = torch.linalg.cross(along, first)
    angle = torch.arange(_TUBE_SIDES) * (2 * np.pi / _TUBE_SIDES)
    ring = first[:, None] * angle.cos()[:, None] + second[:, None] * angle.sin()[:, None]  # [K, sides, 3]
    return (path[:, None] + radius * ring).reshape(-1, 3), _tube_faces(len(path), closed)


@lru_cache(maxsize=16)
def _tube_faces(count: int, closed: bool) -> Tensor:
    step, side = torch.meshgrid(torch.arange(count if closed else count - 1), torch.arange(_TUBE_SIDES), indexing="ij")
    following, beside = (step + 1) % count, (side + 1) % _TUBE_SIDES
    a, b = step * _TUBE_SIDES + side, following * _TUBE_SIDES + side
    c, d = following * _TUBE_SIDES + beside, step * _TUBE_SIDES + beside
    return torch.cat([torch.stack([a, b, c], dim=2).reshape(-1, 3), torch.stack([a, c, d], dim=2).reshape(-1, 3)])


def make_glasses(glasses: Glasses, vertices: Tensor, landmarks: Tensor, surface: HeadSurface) -> Piece:
    """A frame in front of the eyes; lenses are as clear as air.

    Args:
        glasses: the frame.
        vertices: [V, 3], the posed head.
        landmarks: [68, 3].
        surface: of the head.
    """
    left, right = surface.eye_middles @ vertices
    x = F.normalize(left - right, dim=0)
    middle = (left + right) / 2
    skull = surface.skull(vertices)
    ahead = middle - skull_center(skull)
    z = F.normalize(ahead - (ahead @ x) * x, dim=0)
    y = torch.linalg.cross(z, x)
    unit = float((left - right).norm()) / 2
    front = max(0.80 * unit, float(((landmarks[27:29] - middle) @ z).max()) + 0.15 * unit)
    wire = glasses.wire * unit

    def at(across: Tensor, up: Tensor) -> Tensor:
        """Points [K, 3] of the curved surface in which the rims lie; coordinates in units of half the eyes' distance."""
        depth = front - 0.10 * unit * across**2
        return middle + unit * (across[:, None] * x + up[:, None] * y) + depth[:, None] * z

    angle = torch.arange(_RIM_STEPS) * (2 * np.pi / _RIM_STEPS)
    power = 2 / glasses.squareness
    wide, high = angle.cos().sign() * angle.cos().abs() ** power, angle.sin().sign() * angle.sin().abs() ** power
    parts = []
    for side, temple in ((1.0, skull[AZIMUTHS // 4, EQUATOR]), (-1.0, skull[-AZIMUTHS // 4, EQUATOR])):
        parts.append(tube(at(side * 1.02 + glasses.width * wide, glasses.height * high - 0.06), wire, z, closed=True))
        hinge = at(torch.tensor([side * (1.02 + glasses.width)]), torch.tensor([0.22]))[0]
        sideways = max(float((temple - middle) @ x * side) + 0.02, float((hinge - middle) @ x * side))
        back = middle + side * sideways * x + 0.25 * unit * y + float((temple - middle) @ z) * z
        parts.append(tube(torch.stack([hinge, torch.lerp(hinge, back, 0.5), back]), 0.9 * wire, y, closed=False))
    inner = 1.02 - glasses.width
    across = torch.linspace(-inner, inner, 7)
    parts.append(tube(at(across, 0.16 + 0.10 * (1 - (across / inner) ** 2)), wire, z, closed=False))
    return join(parts, torch.from_numpy(glasses.color), glasses.gloss)


def make_earrings(earrings: Earrings, vertices: Tensor, surface: HeadSurface) -> Piece:
    """A hoop, or a drop, under each ear lobe."""
    angle = torch.arange(16) * (2 * np.pi / 16)
    parts = []
    for lobe in surface.lobes:
        place = vertices[lobe] + torch.tensor([0.0, 0.004, 0.004])
        radius = earrings.size
        circle = torch.stack([torch.zeros(16), -radius * (1 - angle.cos()), radius * angle.sin()], dim=1)
        thickness = 0.0035 if earrings.hoop else 0.6 * radius
        parts.append(tube(place + circle * (1.0 if earrings.hoop else 0.5), thickness, torch.tensor([1.0, 0.0, 0.0]), closed=True))
    return join(parts, torch.from_numpy(earrings.color), 1.0)


def make_hat(hat: Hat, skull: Tensor) -> Piece:
    """A knitted hat with a folded edge, or a cap with a visor, on the skull grid [AZIMUTHS, ELEVATIONS, 3]."""
    azimuth = np.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS)
    front = 0.5 + 0.5 * np.cos(azimuth)
    end = np.radians(hat.edge * front + (hat.edge - 44) * (1 - front))
    share = np.linspace(0, 1, _HAT_ROWS)[None]
    elevation = np.pi / 2 - share * (np.pi / 2 - end)[:, None]
    thickness = np.full((AZIMUTHS, _HAT_ROWS), HAT_THICKNESS)
    if hat.visor:
        thickness += 0.012 * np.sin(np.pi * share.clip(0, 1)) + 0.003 * np.cos(6 * azimuth)[:, None] * share * (1 - share) * 4
    else:
        thickness += 0.006 * np.cos(24 * azimuth)[:, None] * np.minimum(1, 4 * share) + 0.014 * (share > 0.74)
        thickness += 0.05 * np.clip(1 - share / 0.35, 0, 1) ** 2 * hat.slack
    thickness[:, -1] = 0.002
    surface = skull_points(skull, elevation)
    center = skull_center(skull)
    outwards = F.normalize(surface - center, dim=2)
    dome = surface + outwards * torch.from_numpy(thickness).float()[..., None]
    pieces = [(dome.reshape(-1, 3), sheet_faces(AZIMUTHS, _HAT_ROWS, closed=True))]
    if hat.visor:
        pieces.append(_visor(dome, center))
    return join(pieces, torch.from_numpy(hat.color), 0.1)


def _visor(dome: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """A stiff curved sheet that begins at the edge in front."""
    column = torch.arange(_BRIM_COLUMNS) - _BRIM_COLUMNS // 2
    start = dome[column % AZIMUTHS, -2]  # [31, 3]
    place = column / (_BRIM_COLUMNS // 2)
    ahead = F.normalize(dome[0, -2] - center, dim=0) * torch.tensor([1.0, 0.0, 1.0])
    length = 0.20 * (1 - place**2).clamp_min(0).sqrt()
    share = torch.linspace(0, 1, _BRIM_ROWS)
    reach = length[:, None] * share  # [31, 7]
    down = -0.10 * reach - 0.08 * (place**2)[:, None] * share
    sheet = start[:, None] + reach[..., None] * ahead + down[..., None] * torch.tensor([0.0, 1.0, 0.0])
    return sheet.reshape(-1, 3), sheet_faces(_BRIM_COLUMNS, _BRIM_ROWS, closed=False)


def make_beard(volume: float, vertices: Tensor, normals: Tensor, surface: HeadSurface) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hair that stands off the skin where beards grow.

    Args:
        volume: thickness at its fullest.
        vertices: [V, 3], the posed head.
        normals: [V, 3], unit.
        surface: of the head.

    Returns:
        Vertices [B, 3], triangles [T, 3], direction of hair [B, 3], and how dense it is [B], in [0, 1]; its edges dip below the skin.
    """
    index, faces = _beard_patch(surface)
    fields = SkinFields.from_columns(surface.skin_columns[index])
    share = smooth(fields.beard * (1 - fields.lips), 0.05, 1.05)
    lowest = smooth(fields.up, float(fields.up.quantile(0.6)), float(fields.up.min()))
    thickness = (volume * (0.55 + 0.45 * lowest) + 0.003) * share - 0.003
    wave = 1 + 0.22 * torch.sin(fields.across * 170 + 30 * fields.up) * torch.sin(fields.up * 110)
    grown = vertices[index] + normals[index] * (thickness * torch.where(thickness > 0, wave, 1.0))[:, None]
    grown = grown - torch.tensor([0.0, 0.5, 0.0]) * (thickness.clamp_min(0) * lowest)[:, None]
    down = torch.tensor([0.0, -1.0, 0.15]).expand(len(index), 3)
    flat = down - (down * normals[index]).sum(dim=1, keepdim=True) * normals[index]
    return grown, faces, F.normalize(flat, dim=1), share


@lru_cache(maxsize=2)
def _beard_patch(surface: HeadSurface) -> tuple[Tensor, Tensor]:
    """Vertices [B] and triangles [T, 3] (numbered within them) of the skin where beards grow."""
    fields = SkinFields.from_columns(surface.skin_columns)
    bearded = (fields.beard * (1 - fields.lips) > 0.02) & (fields.lips < 0.5)
    faces = surface.faces[(surface.materials == 0) & bearded[surface.faces].all(dim=1)]
    index = torch.unique(faces)
    place = torch.full((len(bearded),), -1)
    place[index] = torch.arange(len(index))
    return index, place[faces]


def piece_normals(piece: Piece) -> Tensor:
    """Unit normals [V, 3]."""
    return vertex_normals(piece.vertices, piece.faces)
