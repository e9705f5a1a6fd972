from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import DatasetError
from training.images import decode_rgb


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def grey(value: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (4, 4), value)


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
        (grey(77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (200, 100, 50)).convert("P", palette=Image.Palette.ADAPTIVE), (200, 100, 50)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("LA", (4, 4), (100, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 0x4D12, np.uint16)), (0x4D, 0x4D, 0x4D)),
    ],
    ids=["rgb", "grey", "bilevel", "palette", "opaque", "transparent", "transparent grey", "16 bit"],
)
def test_every_colour_mode_becomes_rgb(image, color):
    """Transparent pixels turn white."""
    pixels = decode_rgb(encoded(image), "a.png", 4, 4)
    assert pixels.shape == (4, 4, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == color).all()


def test_palette_entry_marked_transparent_turns_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30] * 256)
    assert (decode_rgb(encoded(image, transparency=0), "a.png", 4, 4) == 255).all()


def test_smaller_images_are_averages_of_boxes():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    small = decode_rgb(encoded(Image.fromarray(pixels)), "a.png", 8, 4)
    assert np.abs(small - pixels.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))).max() <= 1  # two passes, each rounded


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: data[: len(data) // 2], lambda data: b"no image at all"])
def test_damaged_files_are_named(damage):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"^faces/a\.png: is not a readable image"):
        decode_rgb(damage(encoded(noise)), "faces/a.png", 64, 64)


def test_other_sizes_are_named_with_both_sizes():
    with pytest.raises(DatasetError, match=r"^faces/a\.png: is 4x4 pixels, but the data set's images are 8x8"):
        decode_rgb(encoded(grey(1)), "faces/a.png", 8, 8)
