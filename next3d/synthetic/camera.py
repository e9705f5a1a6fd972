"""What a real camera does to a picture: a lens that is sharp at one distance, a noisy sensor, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

Picture = npt.NDArray[np.float32]

_LOST_DEPTH = 0.30
"""Distance behind the focus, world units, at which blur has its full strength."""


@dataclass(frozen=True)
class Effects:
    """How a picture was taken."""

    aperture: float = 0.0
    """Standard deviation of the blur far behind the face, as a part of the image's width."""
    noise: float = 0.0
    """Of the sensor at middle grey, in steps of 8 bits."""
    jpeg: int = 0
    """Quality; 0 for none."""


def draw_effects(rng: np.random.Generator) -> Effects:
    """Mostly a little of each."""
    aperture = float(rng.uniform(0.002, 0.010)) if rng.uniform() < 0.5 else 0.0
    noise = float(rng.uniform(0.5, 3.5)) if rng.uniform() < 0.7 else 0.0
    quality = int(rng.integers(70, 97))
    return Effects(aperture, noise, quality if rng.uniform() < 0.6 else 0)


def defocus(linear: Picture, depth: Picture, focus: float, aperture: float) -> Picture:
    """Blur what lies behind the face.

    Args:
        linear: [H, H, 3], linear light.
        depth: [H, H], world units; 0 where nothing is, which counts as far away.
        focus: distance of the face.
        aperture: as in `Effects`.
    """
    size = len(linear)
    blurred = gaussian_filter(linear, (aperture * size, aperture * size, 0), mode="nearest")
    behind = np.where(depth > 0, (depth - focus - 0.12) / _LOST_DEPTH, 1.0).clip(0, 1)
    share = gaussian_filter(behind.astype(np.float32), 0.004 * size)[..., None]
    return np.asarray(linear * (1 - share) + blurred * share, dtype=np.float32)


def expose(encoded: Picture, effects: Effects, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """sRGB values [H, H, 3] in [0, 1] to what is left of them after sensor and compression."""
    values = 255 * encoded
    if effects.noise:
        grain = rng.standard_normal(values.shape, dtype=np.float32)
        values = values + effects.noise * (0.35 + 1.1 * np.sqrt(encoded.clip(0, 1)) * (1 - 0.5 * encoded)) * grain
    pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    if effects.jpeg:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=effects.jpeg)
        pixels = np.asarray(Image.open(buffer))
    return pixels
