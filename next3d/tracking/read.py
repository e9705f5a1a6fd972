"""Photos of any kind to upright 8-bit sRGB. What cannot be read is said in one sentence that names the file.

Colours go to sRGB where the file has a profile; deeper levels than 8 bits are scaled; transparent parts become white; of several frames or
pages the first one counts. Very large photos are reduced while they are read, so that memory stays bounded.
"""

from __future__ import annotations

import importlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

from dnnlib.errors import UserError
from next3d.tracking.types import Pixels

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".jp2"}
    | {".heic", ".heif", ".avif"}
)
"""Names that count as photos, lower case."""
KEPT_PIXELS = 40_000_000
"""Photos with more are reduced to at most this many; 40 megapixels take 120 MB, and three times that while they are read."""
MOST_PIXELS = 100_000_000
"""Photos that still have more after their decoder has reduced them as far as it can are refused."""
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Pillow's readers that are used; others start programs of their own (EPS) or do not read photos."""
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1"})
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What decoders raise on damaged files."""


@dataclass(frozen=True)
class Photo:
    """A photo and what was done to it."""

    pixels: Pixels
    notes: tuple[str, ...] = ()
    """What a person may want to know, each a short clause: "the first of several frames"."""


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
    """A path as text that can be shown and stored: bytes that are not UTF-8, and control characters, appear as \\xNN."""
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def decode_photo(file: IO[bytes], name: str) -> Photo:
    """A photo from an open file that can be searched; `name` is what errors call it.

    Raises:
        UserError: as in `read_photo`.
    """
    head = file.read(32)
    file.seek(0)
    if not head:
        raise UserError(f"{name}: the file is empty; copy it again from where it came.")
    with _explained(name, head), Image.open(file, formats=_readers()) as image:
        return _decoded(image, name)


def _readers() -> list[str]:
    """Those of `_FORMATS` that this installation reads."""
    with suppress(ImportError):  # said where a HEIC photo turns up
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


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
    except MemoryError as error:
        raise UserError(f"{name}: too large for this machine's memory; make it smaller first.") from error
    except _BROKEN as error:
        why = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{name}: damaged or cut off ({why}); copy it again from where it came.") from error


def _unknown(name: str, head: bytes) -> str:
    """Why a file is no picture."""
    suffix, brand = Path(name).suffix.lower(), head[8:12] if head[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS and "HEIF" in Image.OPEN:
        return f"{name}: damaged or cut off; copy it again from where it came."
    if brand in _HEIC_BRANDS or (suffix in {".heic", ".heif"} and brand):
        return f"{name}: HEIC photos need a plug-in; pip install pillow-heif, or export the photo as JPEG."
    if brand in {b"avif", b"avis"}:
        return f"{name}: AVIF photos need Pillow 11.3 or newer; pip install -U pillow, or export the photo as JPEG."
    return f"{name}: not a picture, or damaged at its beginning; expected JPEG, PNG, WebP, TIFF, BMP, GIF or (with pillow-heif) HEIC."


def _decoded(image: Image.Image, name: str) -> Photo:
    """Pixels and notes of an opened picture."""
    notes = []
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: phones add pictures for depth and previews
        notes.append("the first of several frames or pages")
    before = image.size
    _reduce_early(image, name)
    try:
        turned = ImageOps.exif_transpose(image)
    except _BROKEN:  # of the orientation's entry; damaged pixels are found again just below
        image.load()
        turned = image
        notes.append("its EXIF data are damaged")
    profile = image.info.get("icc_profile")
    flat = _flatten(_eight_bits(turned), profile, image, notes)
    if math.prod(flat.size) > KEPT_PIXELS:
        flat = flat.reduce(math.ceil(math.sqrt(math.prod(flat.size) / KEPT_PIXELS)))
    if math.prod(flat.size) < math.prod(before):
        notes.append(f"reduced from {math.prod(before) / 1e6:.0f} megapixels")
    return Photo(np.array(flat), tuple(notes))


def _reduce_early(image: Image.Image, name: str) -> None:
    """Let the decoder leave out pixels of a very large JPEG; refuse what stays too large.

    Raises:
        UserError: too many pixels.
    """
    if math.prod(image.size) > KEPT_PIXELS and image.format in ("JPEG", "MPO"):
        divisor = 2
        while math.prod(image.size) > KEPT_PIXELS * divisor**2 and divisor < 8:
            divisor *= 2
        image.draft(None, (image.width // divisor, image.height // divisor))
    if math.prod(image.size) > MOST_PIXELS:
        size = f"{math.prod(image.size) / 1e6:.0f} megapixels"
        raise UserError(f"{name}: {size} are too many for this kind of file; make it smaller first, or convert it to JPEG.")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Levels of more than 8 bits scaled to 8; other pictures as they are."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    levels = np.asarray(image, dtype=np.float64)
    levels = np.where(np.isfinite(levels), levels, 0)
    if image.mode == "F":
        top = 1.0 if levels.max() <= 1 else max(255.0, float(levels.max()))  # 0..1, 0..255, or as far as it goes
    else:
        top = 65535.0 if levels.max() <= 65535 else float(2**31 - 1)
    return Image.fromarray((levels.clip(0, top) * (255 / top)).round().astype(np.uint8))


def _flatten(image: Image.Image, profile: bytes | None, opened: Image.Image, notes: list[str]) -> Image.Image:
    """RGB on white, colours in sRGB."""
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            alpha = None
        else:
            notes.append("transparent parts on white")
        image = image.convert("RGB")
    if image.mode == "CMYK" and opened.format == "JPEG" and "adobe" not in opened.info:
        image = ImageChops.invert(image)  # Pillow reads every CMYK JPEG as Adobe writes them: inverted
    if image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    flat = _to_srgb(image, profile, notes)
    if alpha is not None:
        flat = Image.composite(flat, Image.new("RGB", flat.size, "white"), alpha)
    return flat


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGB in sRGB: through the embedded profile, where there is a usable one."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            known = "srgb" in (source.profile.profile_description or "").lower()
            wanted = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}.get(space)
            if wanted == image.mode and not known:
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("its colour profile is damaged and was left out")
    return image.convert("RGB")
