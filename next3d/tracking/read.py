"""Photos of any kind to upright 8-bit sRGB. What cannot be read is said in one sentence that names the file.

Colours go to sRGB where the file has a profile; 16-bit levels are scaled; transparent parts become white; of several frames or pages the
first one counts. Very large photos are reduced while they are read, so that memory stays bounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dnnlib.errors import UserError
from next3d.tracking.types import Pixels

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".heic", ".heif", ".avif"}
)
"""Names that count as photos, lower case."""
MOST_PIXELS = 50_000_000
"""Photos with more are reduced to at most this many; 50 megapixels take 150 MB."""
_HEIC = frozenset({".heic", ".heif"})
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


@dataclass(frozen=True)
class Photo:
    """A photo and what was done to it."""

    pixels: Pixels
    notes: tuple[str, ...] = ()
    """What a person may want to know, each a short clause: "first of 12 frames"."""


def read_photo(path: str | Path) -> Pixels:
    """A photo [H, W, 3], upright, sRGB.

    Raises:
        UserError: the file is missing, empty, cut off, too large or not a picture.
    """
    return read_noted(path).pixels


def read_noted(path: str | Path) -> Photo:
    """Like `read_photo`, with what was done to the photo."""
    try:
        with open(path, "rb") as file:
            return decode_photo(file, printable(path))
    except OSError as error:
        raise UserError(f"{printable(path)}: cannot be opened ({error.strerror}); check the path and its permissions.") from error


def printable(path: object) -> str:
    """A path as text that can be shown and stored: bytes that are not UTF-8 appear as \\xNN."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def decode_photo(file: IO[bytes], name: str) -> Photo:
    """A photo from an open file; `name` is what errors call it.

    Raises:
        UserError: as in `read_photo`.
    """
    head = file.read(32)
    file.seek(0)
    if not head:
        raise UserError(f"{name}: the file is empty; copy it again from where it came.")
    with _explained(name, head):
        image = Image.open(file)
        return _upright(image)


@contextmanager
def _explained(name: str, head: bytes) -> Iterator[None]:
    """Turns what decoders raise into sentences."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures, odd EXIF entries: handled or harmless
            yield
    except UnidentifiedImageError as error:
        raise UserError(_unknown(name, head)) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: more than 178 megapixels; make it smaller first.") from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{name}: damaged or cut off ({_short(error)}); copy it again from where it came.") from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:100]


def _unknown(name: str, head: bytes) -> str:
    """Why a file is no picture."""
    if Path(name).suffix.lower() in _HEIC or (head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS):
        return f"{name}: HEIC photos need a plug-in; pip install pillow-heif, or export the photo as JPEG."
    return f"{name}: not a picture that can be read; expected JPEG, PNG, WebP, TIFF, BMP or GIF."


def _upright(image: Image.Image) -> Photo:
    """Pixels and notes of an opened picture."""
    turned = ImageOps.exif_transpose(image)
    return Photo(np.ascontiguousarray(np.asarray(turned.convert("RGB"))))
