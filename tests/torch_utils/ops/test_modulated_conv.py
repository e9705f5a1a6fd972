"""Resampling and modulated convolutions against their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.modulated_conv import conv2d_resample, modulated_conv2d
from torch_utils.ops.upfirdn2d import BINOMIAL, Filter, Sides, downsample2d, upsample2d

DENSE = ((0.1, 0.2, 0.05, 0.1), (0.3, -0.1, 0.2, 0.0), (0.02, 0.1, 0.4, -0.2))
"""A filter that is neither separable nor symmetric nor square."""


def correlate(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """The valid part of a correlation as loops over groups and kernel; x [N, C, H, W], weight [O, C / groups, rows, columns]."""
    rows, columns = weight.shape[2:]
    height, width = x.shape[2] - rows + 1, x.shape[3] - columns + 1
    parts = []
    for part, own in zip(x.chunk(groups, dim=1), weight.chunk(groups), strict=True):
        terms = [
            torch.einsum("oc,nchw->nohw", own[:, :, i, j], part[:, :, i : i + height, j : j + width])
            for i in range(rows)
            for j in range(columns)
        ]
        parts.append(torch.stack(terms).sum(0))
    return torch.cat(parts, dim=1)


def definition(
    x: Tensor,
    weight: Tensor,
    filter: Filter = BINOMIAL,
    *,
    up: int = 1,
    down: int = 1,
    sides: Sides = (0, 0, 0, 0),
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> Tensor:
    """Upsampling, convolution and downsampling one after the other, of an image in the middle of a wide border of zeros."""
    border = 12
    wide = upsample2d(F.pad(x, (border,) * 4), filter, up=up, flip_filter=flip_filter) if up > 1 else F.pad(x, (border,) * 4)
    wide = correlate(wide, weight if flip_weight else weight.flip(2, 3), groups)
    rows, columns = weight.shape[2:]
    size = (x.shape[2] * up + sides[2] + sides[3] - rows + 1, x.shape[3] * up + sides[0] + sides[1] - columns + 1)
    around = 4 * down  # what the filter of the downsampling may see
    start = (border * up - sides[2] - around, border * up - sides[0] - around)
    wide = wide[:, :, start[0] : start[0] + size[0] + 2 * around, start[1] : start[1] + size[1] + 2 * around]
    if down == 1:
        return wide[:, :, around : around + size[0], around : around + size[1]]
    return downsample2d(wide, filter, down=down, flip_filter=flip_filter)[:, :, 4 : 4 + size[0] // down, 4 : 4 + size[1] // down]


RESAMPLINGS = {
    "plain": {},
    "plain, shifted": {"sides": (2, 0, 1, 3)},
    "plain, cropped": {"sides": (-1, 0, 1, -2)},
    "up": {"up": 2, "sides": (1, 1, 1, 1)},
    "up, shifted": {"up": 2, "sides": (0, 1, 2, 1)},
    "up, cropped": {"up": 3, "sides": (-2, 1, 0, -3)},
    "down": {"down": 2, "sides": (1, 1, 1, 1)},
    "down, shifted": {"down": 3, "sides": (0, 1, -2, 4)},
    "both": {"up": 2, "down": 2, "sides": (1, 1, 1, 1)},
    "both differ": {"up": 3, "down": 2, "sides": (1, 0, 2, 1)},
}


@pytest.mark.parametrize("flips", [(True, False), (False, True)], ids=["correlate", "convolve with flipped filter"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("filter", [BINOMIAL, DENSE, (1.0, 2.0, 3.0)], ids=["binomial", "dense", "slanted"])
@pytest.mark.parametrize("arguments", RESAMPLINGS.values(), ids=RESAMPLINGS.keys())
def test_equals_one_step_after_the_other(arguments, filter, kernel, groups, flips, rng):
    x, weight = torch.randn(2, 4, 9, 12, generator=rng).double(), torch.randn(6, 4 // groups, *kernel, generator=rng).double()
    common = {"groups": groups, "flip_weight": flips[0], "flip_filter": flips[1]}
    expected = definition(x, weight, filter, **arguments, **common)
    ours = {"padding" if name == "sides" else name: value for name, value in arguments.items()}
    torch.testing.assert_close(conv2d_resample(x, weight, filter, **ours, **common), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("size", [1, 3])
def test_half_the_kernel_as_padding_keeps_the_size(size, up, down, rng):
    x, weight = torch.randn(1, 3, 8, 6, generator=rng), torch.randn(5, 3, size, size, generator=rng)
    assert conv2d_resample(x, weight, up=up, down=down, padding=size // 2).shape == (1, 5, 8 * up // down, 6 * up // down)


def test_without_resampling_it_is_the_convolution_of_torch(rng):
    x, weight = torch.randn(2, 4, 7, 8, generator=rng), torch.randn(6, 2, 3, 3, generator=rng)
    found = conv2d_resample(x, weight, padding=(2, 1), groups=2)
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=(1, 2), groups=2))


def test_bad_input_is_named(rng):
    x, weight = torch.randn(1, 3, 8, 6, generator=rng), torch.randn(5, 3, 3, 3, generator=rng)
    with pytest.raises(ValueError, match=r"padding=\(1, 2, 3\), expected one number"):
        conv2d_resample(x, weight, padding=(1, 2, 3))
    with pytest.raises(ValueError, match="up=0, down=1, expected whole numbers >= 1"):
        conv2d_resample(x, weight, up=0)


@pytest.mark.parametrize("arguments", [{}, {"up": 2, "flip_weight": False}, {"down": 2, "filter": DENSE, "flip_filter": True}], ids=str)
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_scales_the_weights_of_each_sample(arguments, demodulate, rng):
    """StyleGAN2, Eq. 1 and 3, literally: one convolution per sample with its own weights."""
    x, weight = torch.randn(3, 4, 5, 6, generator=rng).double(), torch.randn(2, 4, 3, 3, generator=rng).double()
    styles, expected = torch.randn(3, 4, generator=rng).double(), []
    for sample in range(3):
        own = weight * styles[sample, None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected.append(conv2d_resample(x[sample : sample + 1], own, padding=1, **arguments))
    noise = torch.randn(3, 1, *expected[0].shape[2:], generator=rng).double()
    result = modulated_conv2d(x, weight, styles, noise=noise, padding=1, demodulate=demodulate, **arguments)
    torch.testing.assert_close(result, torch.cat(expected) + noise)


def test_demodulation_gives_unit_variance(rng):
    x = torch.randn(4, 32, 16, 16, generator=rng)
    weight, styles = torch.randn(64, 32, 3, 3, generator=rng), torch.rand(4, 32, generator=rng) * 10
    inner = modulated_conv2d(x, weight, styles)
    assert float(inner.std()) == pytest.approx(1, abs=0.05)


def test_demodulation_ignores_the_scale_of_styles_and_weights(rng):
    x, weight, styles = (
        torch.randn(2, 4, 5, 5, generator=rng),
        torch.randn(3, 4, 3, 3, generator=rng),
        torch.rand(2, 4, generator=rng) + 0.5,
    )
    torch.testing.assert_close(modulated_conv2d(x, weight * 3, styles * 7), modulated_conv2d(x, weight, styles), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"up": 2}, {"down": 2, "demodulate": False}], ids=str)
def test_gradients_of_the_modulated_convolution(arguments, rng):
    inputs = [torch.randn(shape, generator=rng).double().requires_grad_() for shape in ((2, 2, 3, 3), (2, 2, 3, 3), (2, 2))]
    function = lambda x, weight, styles: modulated_conv2d(x, weight, styles, padding=1, **arguments)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("arguments", [{}, {"down": 2}, {"up": 2}, {"up": 2, "down": 3, "filter": DENSE}], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_second_gradients_of_the_convolution(arguments, groups, rng):
    """R1 differentiates the discriminator's convolutions twice."""
    inputs = [torch.randn(shape, generator=rng).double().requires_grad_() for shape in ((1, 2, 4, 4), (2, 2 // groups, 3, 3))]
    function = lambda x, weight: conv2d_resample(x, weight, padding=1, groups=groups, **arguments)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
