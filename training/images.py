"""Image files of data sets to RGB arrays: grey, palette and RGBA ones are converted, larger ones are averaged down."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.errors import DatasetError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for files that are not what their name says."""


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height from an image file's header; `name` is for messages."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except _DAMAGE as error:
        raise _damaged(name, error) from error


def decode_rgb(data: bytes, name: str, stored: int, resolution: int) -> NDArray[np.uint8]:
    """An image file's bytes to RGB uint8 [resolution, resolution, 3].

    Transparent pixels are composited on white, the background of studio portraits; a 16-bit grey image keeps its upper eight bits.

    Args:
        data: the file.
        name: the file's name for messages.
        stored: side length that every image of the data set has.
        resolution: side length wanted, at most `stored`; the image is averaged over boxes of source pixels.

    Raises:
        DatasetError: damaged, or of another size than `stored`.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            if size == (stored, stored):
                rgb = _to_rgb(image)
                if resolution != stored:
                    rgb = rgb.resize((resolution, resolution), Image.Resampling.BOX)
                return np.array(rgb)
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    raise DatasetError(
        f"{name}: is {size[0]}x{size[1]} pixels, but the data set's images are {stored}x{stored}; resize it or remove it from the data set."
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, on white."""
    if image.mode.startswith("I"):  # 16 bits; older versions of Pillow open them as 32-bit "I"
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _damaged(name: str, error: BaseException) -> DatasetError:
    reason = str(error).split("<", maxsplit=1)[0].strip()  # Pillow appends the repr of our buffer
    return DatasetError(f"{name}: is not a readable image ({reason}); copy it again or remove it from the data set.")
