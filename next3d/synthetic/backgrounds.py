"""What is behind the person: out-of-focus walls, gradients, lamps and furniture, as an image in linear light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_PALETTE = np.array(
    [
        [0.30, 0.30, 0.32], [0.62, 0.62, 0.60], [0.06, 0.06, 0.07], [0.25, 0.36, 0.50], [0.20, 0.30, 0.18],
        [0.45, 0.34, 0.22], [0.50, 0.44, 0.36], [0.12, 0.18, 0.30], [0.42, 0.20, 0.16], [0.30, 0.48, 0.52],
    ],
    dtype=np.float32,
)  # fmt: skip
"""Greys, sky, foliage, wood, plaster, night, brick, sea; linear RGB."""


def draw_background(rng: np.random.Generator, size: int) -> Array:
    """A blurred scene [size, size, 3], linear RGB in [0, 1]. Its look does not depend on `size`."""
    base, second = (_tinted(rng) for _ in range(2))
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = _grid(size)
    ramp = 0.5 + 0.5 * (np.cos(angle) * columns + np.sin(angle) * rows)
    mix = (ramp.clip(0, 1) * rng.uniform(0.0, 0.9))[..., None]
    image = base * (1 - mix) + second * mix
    for _ in range(int(rng.integers(0, 6))):
        image = _add_shape(image, rng, rows, columns)
    centre = rng.uniform(-0.3, 0.3, 2)
    vignette = 1 - rng.uniform(0, 0.3) * ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2)
    return np.asarray((image * vignette[..., None]).clip(0, 1), dtype=np.float32)


def _tinted(rng: np.random.Generator) -> Array:
    """A palette colour, a little brighter, darker or shifted."""
    colour = _PALETTE[rng.integers(len(_PALETTE))] * rng.uniform(0.5, 1.5)
    return np.asarray((colour * rng.uniform(0.85, 1.15, 3)).clip(0.01, 0.95), dtype=np.float32)


def _grid(size: int) -> tuple[Array, Array]:
    """Pixel-centre coordinates in [-1, 1], rows down and columns right."""
    axis = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    return axis[:, None], axis[None, :]


def _add_shape(image: Array, rng: np.random.Generator, rows: Array, columns: Array) -> Array:
    """One soft blob (a lamp, a bush) or one soft bar (a door frame, a shelf, a horizon)."""
    x, y = rng.uniform(-1.1, 1.1, 2)
    angle = rng.uniform(0, np.pi) if rng.uniform() < 0.3 else rng.choice([0.0, np.pi / 2])
    along = np.cos(angle) * (columns - x) + np.sin(angle) * (rows - y)
    across = -np.sin(angle) * (columns - x) + np.cos(angle) * (rows - y)
    width, length = rng.uniform(0.12, 0.6), rng.uniform(0.2, 2.5)
    blur = rng.uniform(0.05, 0.25)
    if rng.uniform() < 0.5:
        distance = np.sqrt((along / width) ** 2 + (across / width) ** 2) * width - width
    else:
        distance = np.maximum(np.abs(across) - width, np.abs(along) - length)
    alpha = rng.uniform(0.3, 0.9) / (1 + np.exp((distance / blur * 4).clip(-30, 30)))
    return np.asarray(image * (1 - alpha[..., None]) + _tinted(rng) * alpha[..., None], dtype=np.float32)
