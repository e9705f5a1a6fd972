"""Contact sheets: square tiles in rows with even margins, and a word above each column.

The background is dark and nearly black, so that a sheet sits well on white pages and on dark ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from next3d.media.images import Pixels

BACKGROUND = (13, 17, 23)
INK = (222, 226, 232)
GAP = 6
"""Between tiles and around them, pixels."""
LETTERS_PER_TILE = 8.5
"""Height of the letters: this many on top of each other are as high as a tile."""


def background_color(device: torch.device | str = "cpu") -> Tensor:
    """The sheets' background [1, 3] in [0, 1], for renderings that have nothing behind them."""
    return torch.tensor([BACKGROUND], device=device) / 255


def draw_sheet(rows: Sequence[Sequence[Pixels]], size: int, *, labels: Sequence[str] = ()) -> Pixels:
    """Tiles on a sheet.

    Args:
        rows: tiles [H, H, 3] of any size, scaled by Lanczos where it differs; rows may have different lengths.
        size: of a tile on the sheet, pixels.
        labels: a word above each column, or none.

    Returns:
        [height, width, 3].

    Raises:
        ValueError: no tiles, or a tile that is not square.
    """
    columns = max(map(len, rows), default=0)
    if columns == 0:
        raise ValueError("sheet: no tiles")
    font = ImageFont.load_default(size / LETTERS_PER_TILE)
    top = GAP + (round(1.3 * size / LETTERS_PER_TILE) if labels else 0)
    sheet = Image.new("RGB", (columns * (size + GAP) + GAP, top + len(rows) * (size + GAP)), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        centre = GAP + column * (size + GAP) + size / 2
        pen.text((centre, top / 2 + GAP / 4), label, fill=INK, font=font, anchor="mm")
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            sheet.paste(_scaled(tile, size), (GAP + column * (size + GAP), top + row * (size + GAP)))
    return np.array(sheet)


def label_width(label: str, size: int) -> float:
    """Pixels that a label takes on a sheet with tiles of `size`."""
    return float(ImageFont.load_default(size / LETTERS_PER_TILE).getlength(label))


def stack_sheets(sheets: Sequence[Pixels]) -> Pixels:
    """Sheets on top of each other; the narrower ones are filled up on the right."""
    width = max(sheet.shape[1] for sheet in sheets)
    stacked = Image.new("RGB", (width, sum(sheet.shape[0] for sheet in sheets)), BACKGROUND)
    height = 0
    for sheet in sheets:
        stacked.paste(Image.fromarray(sheet), (0, height))
        height += sheet.shape[0]
    return np.array(stacked)


def split_row(frame: Pixels) -> list[Pixels]:
    """The square tiles of a picture that is one row of them."""
    return np.split(frame, frame.shape[1] // frame.shape[0], axis=1)


def _scaled(tile: Pixels, size: int) -> Image.Image:
    if tile.shape[0] != tile.shape[1]:
        raise ValueError(f"sheet: tile {tile.shape}, expected a square")
    return Image.fromarray(tile).resize((size, size), Image.Resampling.LANCZOS)
