"""Pictures of the default head for docs/head.md: every direction as a small labelled picture, views from around, random identities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from next3d.head.model import HeadParams, LinearHeadModel
from next3d.render.cameras import orbit_camera
from next3d.render.shaded import plain_colors, render_shaded
from next3d.types import Camera

LABEL = 12
"""Height of the line of text under a picture, pixels."""
SHAPE_STEP = 2.2
"""Shape thumbnails show each direction at minus and plus this many standard deviations."""
LAMP = torch.tensor([0.2, -0.3, -0.55])
"""Towards the lamp, which stands beside the camera: right, down, forward; its length is its strength."""
_CHUNK = 16


def plain_pictures(head: LinearHeadModel, params: HeadParams, camera: Camera, size: int) -> list[Image.Image]:
    """N plain portraits [size, size] of N heads under N cameras, a few at a time."""
    found = []
    for start in range(0, len(params.shape), _CHUNK):
        rows = slice(start, start + _CHUNK)
        some = params[rows]
        count = len(some.shape)
        tone = torch.tensor([[0.84, 0.66, 0.56], [0.22, 0.16, 0.12], [0.22, 0.34, 0.42]])[:, None].expand(-1, count, -1)
        seen = Camera(camera.cam2world[rows], camera.intrinsics[rows])
        light = seen.cam2world[:, :3, :3] @ LAMP
        colors = plain_colors(head.topology, *tone)
        picture = render_shaded(head(some), head.topology, colors, seen, size, light=light, ambient=0.4, background=0.85)
        pixels = (picture * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found += [Image.fromarray(image) for image in pixels]
    return found


def tiled(pictures: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """All pictures in one, each with a line of text below it; without labels no room is left for them."""
    width, height = pictures[0].size
    line = LABEL if labels else 0
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + line)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        corner = (column * width, row * (height + line))
        sheet.paste(picture, corner)
        if labels:
            draw.text((corner[0] + 2, corner[1] + height), labels[place], fill="black")
    return sheet


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures in one."""
    return tiled([left, right], [], 2)


def shape_sheet(head: LinearHeadModel, size: int = 80, columns: int = 6, yaw: float = 0.45) -> Image.Image:
    """Each shape direction at -2.2 and +2.2 standard deviations, seen a little from the side."""
    count = len(head.shape_names)
    steps = SHAPE_STEP * torch.eye(count)
    params = head.neutral(2 * count)
    params = replace(params, shape=torch.stack([-steps, steps], dim=1).flatten(0, 1))
    camera = orbit_camera(torch.full((2 * count,), yaw), torch.zeros(2 * count), focal=5.0)
    pictures = plain_pictures(head, params, camera, size)
    pairs = [side_by_side(*pictures[2 * index : 2 * index + 2]) for index in range(count)]
    return tiled(pairs, head.shape_names, columns)


def expression_sheet(head: LinearHeadModel, size: int = 100, columns: int = 8, yaw: float = 0.25) -> Image.Image:
    """Each expression direction at full strength."""
    count = len(head.expression_names)
    params = replace(head.neutral(count), expression=torch.eye(count))
    camera = orbit_camera(torch.full((count,), yaw), torch.zeros(count), target=(0.0, -0.03, 0.0), focal=6.0)
    return tiled(plain_pictures(head, params, camera, size), head.expression_names, columns)


def turntable_sheet(head: LinearHeadModel, size: int = 200) -> Image.Image:
    """The neutral head from eight sides."""
    yaw = torch.linspace(-1, 1, 9)[:-1] * math.pi
    return tiled(plain_pictures(head, head.neutral(8), _cameras(yaw), size), [], 4)


def identity_sheet(head: LinearHeadModel, size: int = 128, columns: int = 5, count: int = 20, yaw: float = 0.3) -> Image.Image:
    """Random identities, as the synthetic portraits draw them."""
    shape = torch.randn(count, len(head.shape_names), generator=torch.Generator().manual_seed(0)).clamp(-SHAPE_STEP, SHAPE_STEP)
    params = replace(head.neutral(count), shape=shape)
    return tiled(plain_pictures(head, params, _cameras(torch.full((count,), yaw)), size), [], columns)


def save_sheets(head: LinearHeadModel, folder: Path) -> list[Path]:
    """Write all four as small palette PNG files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {"shapes": shape_sheet, "expressions": expression_sheet, "turntable": turntable_sheet, "identities": identity_sheet}
    written = []
    for name, make in sheets.items():
        written.append(folder / f"head-{name}.png")
        make(head).quantize(96, dither=Image.Dither.NONE).save(written[-1], optimize=True)
    return written


def _cameras(yaw: Tensor) -> Camera:
    return orbit_camera(yaw, torch.zeros(len(yaw)))
