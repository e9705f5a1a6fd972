"""Pictures at the border of the program: float tensors in [-1, 1] inside, 8-bit RGB in files.

Tensors are [N, 3, H, W]; arrays are [H, W, 3] uint8, row 0 at the top.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dnnlib.files import atomic_write

Pixels = NDArray[np.uint8]

# Dark blue → teal → light yellow at equal steps: luminance grows with the value, so the map survives grey printing.
_DEPTH_COLORS = torch.tensor(
    [[0.10, 0.07, 0.27], [0.12, 0.25, 0.46], [0.09, 0.44, 0.53], [0.21, 0.63, 0.52], [0.57, 0.79, 0.45], [0.98, 0.95, 0.72]]
)


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1], any shape, to uint8 in 0..255: rounded to the nearest level, clamped outside the range."""
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """Levels 0..255 to float32 in [-1, 1]; `to_uint8` gives them back exactly."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(image: Tensor) -> Pixels:
    """One image [3, H, W] or [1, H, W] in [-1, 1] to an array [H, W, 3]."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"image: shape {tuple(image.shape)}, expected [3, H, W] or [1, H, W]")
    levels = to_uint8(image).expand(3, -1, -1)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def from_pixels(pixels: Pixels) -> Tensor:
    """An array [H, W, 3] uint8 to an image [3, H, W] in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))


def save_png(path: str | Path, image: Tensor) -> None:
    """Write one image [3, H, W] or [1, H, W] in [-1, 1] as a PNG that is whole or absent."""
    with atomic_write(path) as temporary:
        Image.fromarray(to_pixels(image)).save(temporary, format="PNG")


def save_jpeg(path: str | Path, pixels: Pixels, *, limit: int, qualities: Sequence[int] = (92, 88, 84, 78, 70, 60)) -> int:
    """Write an array [H, W, 3] as a JPEG that is whole or absent; returns its size in bytes.

    It has the first of the qualities with which it is no larger than `limit` bytes, or the last one.
    """
    for quality in qualities:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality, subsampling=0, optimize=True)  # full colour: irises are small
        if buffer.tell() <= limit:
            break
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return buffer.tell()


def make_grid(images: Tensor, columns: int, *, rows: int | None = None) -> Tensor:
    """Tile images [N, C, H, W] into one [C, rows * H, columns * W], row by row; missing tiles are black (-1).

    Args:
        images: at least one image.
        columns: tiles per row.
        rows: as many as needed by default.

    Raises:
        ValueError: no images, or more than fit.
    """
    count, channels, height, width = images.shape
    rows = rows or -(-count // columns)
    if not 1 <= count <= rows * columns:
        raise ValueError(f"grid: {count} images do not fit {columns} columns x {rows} rows")
    tiles = images.new_full((rows * columns, channels, height, width), -1.0)
    tiles[:count] = images
    tiles = tiles.reshape(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return tiles.reshape(channels, rows * height, columns * width)


def color_depth(depth: Tensor, *, near: float, far: float) -> Tensor:
    """Depth [N, 1, H, W] to colours [N, 3, H, W] in [-1, 1]: light is near, dark is far.

    `near` and `far` are world units and fixed by the caller, so that frames of one video have one scale.

    Raises:
        ValueError: `near` is not below `far`.
    """
    if not near < far:
        raise ValueError(f"depth colours: near={near}, far={far}; need near < far")
    palette = _DEPTH_COLORS.to(depth)
    position = (1 - (depth[:, 0] - near) / (far - near)).clamp(0, 1) * (len(palette) - 1)  # [N, H, W]
    low = position.long().clamp(max=len(palette) - 2)
    fraction = (position - low)[..., None]
    colors = torch.lerp(palette[low], palette[low + 1], fraction)  # [N, H, W, 3]
    return colors.permute(0, 3, 1, 2) * 2 - 1


def resize(images: Tensor, size: int) -> Tensor:
    """Square images [N, C, H, H] to [N, C, size, size]; smaller by averaging areas, larger with visible pixels kept smooth."""
    if images.shape[-1] == size:
        return images
    return torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
