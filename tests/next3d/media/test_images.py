"""Pictures survive the way to a file and back; grids and depth colours are laid out as said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from next3d.media.images import color_depth, from_pixels, from_uint8, make_grid, resize, save_jpeg, save_png, to_pixels, to_uint8


def test_all_levels_survive_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)


def test_values_outside_the_range_are_clamped_not_wrapped():
    assert to_uint8(torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5])).tolist() == [0, 0, 128, 255, 255]


def test_saved_picture_reads_back_upright(tmp_path: Path, rng: torch.Generator):
    image = torch.rand(3, 5, 7, generator=rng) * 2 - 1
    save_png(tmp_path / "a.png", image)
    read = np.array(Image.open(tmp_path / "a.png"))
    assert read.shape == (5, 7, 3)
    assert np.array_equal(read, to_pixels(image))
    assert (from_pixels(read) - image).abs().max() <= 1 / 255 + 1e-6


def test_a_jpeg_is_as_good_as_its_limit_allows(tmp_path: Path, rng: torch.Generator):
    noise = to_pixels(torch.rand(3, 64, 64, generator=rng) * 2 - 1)
    good = save_jpeg(tmp_path / "a.jpg", noise, limit=10**6)
    error = np.abs(np.array(Image.open(tmp_path / "a.jpg")).astype(int) - noise).mean()
    assert error < 8
    less = save_jpeg(tmp_path / "a.jpg", noise, limit=good - 1)
    assert less == (tmp_path / "a.jpg").stat().st_size < good
    assert save_jpeg(tmp_path / "a.jpg", noise, limit=1) < less, "the last quality is taken where none is small enough"
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_grey_pictures_become_rgb():
    assert to_pixels(torch.zeros(1, 2, 2)).tolist() == [[[128] * 3] * 2] * 2
    with pytest.raises(ValueError, match=r"\(2, 4, 4\)"):
        to_pixels(torch.zeros(2, 4, 4))


def test_grid_runs_row_by_row_and_fills_with_black():
    tiles = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 2, 3)
    grid = make_grid(tiles, columns=3)
    assert grid.shape == (1, 4, 9)
    assert grid[0, ::2, ::3].tolist() == [[0, 1, 2], [3, 4, -1]]
    with pytest.raises(ValueError, match="do not fit"):
        make_grid(tiles, columns=2, rows=2)


def test_nearer_is_lighter():
    colors = color_depth(torch.linspace(2, 3, 32).reshape(1, 1, 4, 8), near=2, far=3)
    luminance = (colors * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1).flatten()
    assert (luminance.diff() < 0).all()
    assert colors.abs().max() <= 1


def test_resizing_keeps_flat_pictures_flat():
    flat = torch.full((1, 3, 8, 8), 0.25)
    for size in (3, 8, 20):
        assert resize(flat, size).shape == (1, 3, size, size)
        assert torch.allclose(resize(flat, size), torch.tensor(0.25))
