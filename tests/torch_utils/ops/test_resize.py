"""Resizing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_utils.ops.resize import resize
from torch_utils.ops.upfirdn2d import downsample2d, upsample2d

MODES = ["antialiased", "classic", "none", 0.3]


def triangle_weights(length: int, size: int, antialias: bool) -> Tensor:
    """[size, length]: rows of a triangle that is as wide as the step where the image shrinks, normalised at the borders."""
    step = length / size
    width = max(step, 1.0) if antialias else 1.0
    where = ((torch.arange(size, dtype=torch.float64) + 0.5) * step).clamp(0.5, length - 0.5)
    pixel = torch.arange(length, dtype=torch.float64) + 0.5
    weights = (1 - (where[:, None] - pixel).abs() / width).clamp_min(0)
    return weights / weights.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("size", [(20, 20), (9, 9), (7, 19), (12, 10)], ids=str)
@pytest.mark.parametrize("antialias", [True, False])
def test_equals_products_with_triangles(size, antialias, rng):
    x = torch.randn(2, 3, 12, 10, generator=rng).double()
    rows, columns = (triangle_weights(length, count, antialias) for length, count in zip((12, 10), size, strict=True))
    torch.testing.assert_close(resize(x, size, mode="antialiased" if antialias else "none"), rows @ x @ columns.T)


@pytest.mark.parametrize("share", [0, 0.3, 1.0])
def test_a_number_mixes(share, rng):
    x = torch.randn(1, 2, 12, 10, generator=rng)
    expected = share * resize(x, 7) + (1 - share) * resize(x, 7, mode="none")
    torch.testing.assert_close(resize(x, 7, mode=share), expected)


def test_classic_looks_up_between_doubling_and_halving(rng):
    """One pixel around the doubled image is cut off again, and the way back uses the mirrored filter."""
    filter = torch.tensor([0.1, 0.2, 0.5, 0.2])
    x = torch.randn(1, 2, 12, 10, generator=rng)
    doubled = resize(upsample2d(x, filter), (16, 26), mode="none")
    expected = downsample2d(doubled[..., 1:-1, 1:-1], filter.flip(0))
    found = resize(x, (7, 12), filter, mode="classic")
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
    assert found.shape == (1, 2, 7, 12)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_gradients(mode, rng):
    x = torch.randn(1, 1, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, (3, 6), mode=mode), x)
    assert torch.autograd.gradgradcheck(lambda x: resize(x, (3, 6), mode=mode), x)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_one_number_is_both_sides(mode, rng):
    x = torch.randn(1, 2, 8, 6, generator=rng)
    assert torch.equal(resize(x, 5, mode=mode), resize(x, (5, 5), mode=mode))


@pytest.mark.parametrize("mode", ["bicubic", 1.5, -0.1])
def test_unknown_mode_is_named(mode):
    with pytest.raises(ValueError, match=f"mode={mode!r}, expected 'antialiased', 'classic', 'none' or a number between 0 and 1"):
        resize(torch.zeros(1, 1, 4, 4), 2, mode=mode)
