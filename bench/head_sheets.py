"""Pictures of the default head for docs/head.md: every direction as a small labelled picture, views from around, random identities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dnnlib.files import atomic_write
from next3d.head.model import HeadParams, LinearHeadModel
from next3d.render.cameras import PORTRAIT_FOCAL, orbit_camera
from next3d.render.shaded import plain_colors, render_shaded
from next3d.types import Camera

LABEL = 12
"""Height of the line of text under a picture, pixels."""
SHAPE_STEP = 2.2
"""Shape thumbnails show each direction at minus and plus this many standard deviations."""
LAMP = torch.tensor([0.2, -0.3, -0.55])
"""Towards the lamp, which stands beside the camera: right, down, forward; its length is its strength."""
WHOLE_HEAD = (
    "skull",
    "neck",
    "ear",
    "occiput",
    "shoulder",
    "larynx",
    "forehead",
    "double_chin",
    "childlike",
    "masculine",
    "weight",
    "face_",
)
"""Shape thumbnails of names that begin so show the whole head, the others the face."""
NEED_OPEN_JAW = ("mouthClose", "tongueOut")
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


def shape_sheet(head: LinearHeadModel, size: int = 90, columns: int = 5, yaw: float = 0.5) -> Image.Image:
    """Each shape direction at -2.2 and +2.2 standard deviations, seen a little from the side."""
    count = len(head.shape_names)
    steps = SHAPE_STEP * torch.eye(count)
    whole = torch.tensor([name.startswith(WHOLE_HEAD) for name in head.shape_names]).repeat_interleave(2)
    params = head.neutral(2 * count)
    params = replace(params, shape=torch.stack([-steps, steps], dim=1).flatten(0, 1))
    far, near = (_cameras(torch.full((2 * count,), yaw), height=height, focal=focal) for height, focal in ((0.0, 4.6), (-0.02, 6.8)))
    mixed = Camera(
        *(torch.where(whole[:, None, None], a, b) for a, b in ((far.cam2world, near.cam2world), (far.intrinsics, near.intrinsics)))
    )
    pictures = plain_pictures(head, params, mixed, size)
    pairs = [side_by_side(*pictures[2 * index : 2 * index + 2]) for index in range(count)]
    return tiled(pairs, head.shape_names, columns)


def expression_sheet(head: LinearHeadModel, size: int = 112, columns: int = 8, yaw: float = 0.25) -> Image.Image:
    """Each expression direction at full strength; those that need an open jaw have jawOpen added."""
    count = len(head.expression_names)
    expression = torch.eye(count)
    for name in NEED_OPEN_JAW:
        expression[head.expression_index(name), head.expression_index("jawOpen")] = 1.0 if name == "mouthClose" else 0.7
    params = replace(head.neutral(count), expression=expression)
    cameras = _cameras(torch.full((count,), yaw), height=-0.03, focal=6.5)
    return tiled(plain_pictures(head, params, cameras, size), head.expression_names, columns)


def turntable_sheet(head: LinearHeadModel, size: int = 200) -> Image.Image:
    """The neutral head from eight sides."""
    yaw = torch.linspace(-1, 1, 9)[:-1] * math.pi
    return tiled(plain_pictures(head, head.neutral(8), _cameras(yaw, focal=3.1), size), [], 4)


def identity_sheet(head: LinearHeadModel, size: int = 160, columns: int = 5, count: int = 20, yaw: float = 0.3) -> Image.Image:
    """Random identities, as the synthetic portraits draw them."""
    shape = torch.randn(count, len(head.shape_names), generator=torch.Generator().manual_seed(0)).clamp(-SHAPE_STEP, SHAPE_STEP)
    params = replace(head.neutral(count), shape=shape)
    return tiled(plain_pictures(head, params, _cameras(torch.full((count,), yaw)), size), [], columns)


def save_sheets(head: LinearHeadModel, folder: Path) -> list[Path]:
    """Write all four as JPEG files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {"shapes": shape_sheet, "expressions": expression_sheet, "turntable": turntable_sheet, "identities": identity_sheet}
    written = []
    for name, make in sheets.items():
        written.append(folder / f"head-{name}.jpg")
        with atomic_write(written[-1]) as temporary:
            make(head).save(temporary, "JPEG", quality=82, optimize=True)
    return written


def _cameras(yaw: Tensor, *, height: float = 0.0, focal: float = PORTRAIT_FOCAL) -> Camera:
    """Level cameras that look at the middle line, `height` over the world's origin."""
    return orbit_camera(yaw, torch.zeros(len(yaw)), target=(0.0, height, 0.0), focal=focal)
