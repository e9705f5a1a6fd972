"""Short animations as WebP: a tenth of a GIF's size in full colour, and pages show them as they show pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from dnnlib.errors import UserError
from dnnlib.files import atomic_write
from next3d.media.images import Pixels

QUALITIES = (80, 70, 60, 50, 40, 30)


def check_animations() -> None:
    """Make sure that animations can be written.

    Raises:
        UserError: Pillow was built without WebP.
    """
    Image.init()
    if "WEBP" not in Image.SAVE_ALL:
        raise UserError("this Pillow cannot write animations (it was built without WebP); try pip install --force-reinstall pillow.")


def save_animation(path: str | Path, frames: Sequence[Pixels], fps: float, *, limit: int, qualities: Sequence[int] = QUALITIES) -> int:
    """Write frames [H, W, 3] as an endless WebP that is whole or absent; returns its size in bytes.

    It has the first of the qualities (0 to 100) with which it is no larger than `limit` bytes, or the last one.

    Raises:
        UserError: Pillow was built without WebP.
        ValueError: no frames.
    """
    if not frames:
        raise ValueError(f"{path}: an animation needs at least one frame")
    check_animations()
    first, *others = map(Image.fromarray, frames)
    # Durations are whole milliseconds; their sum is exact.
    ends = [round(1000 * (index + 1) / fps) for index in range(len(frames))]
    durations = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    for quality in qualities:
        buffer = io.BytesIO()
        first.save(buffer, format="WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=quality, method=4)
        if buffer.tell() <= limit:
            break
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return buffer.tell()
