"""Resampling and modulated convolutions against their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.modulated_conv import conv2d_resample, modulated_conv2d
from torch_utils.ops.upfirdn2d import downsample2d, upfirdn2d


def correlate(x: Tensor, weight: Tensor) -> Tensor:
    """Zero-padded correlation as loops over the kernel; x [N, C, H, W], weight [O, C, k, k] with odd k."""
    size, (height, width) = weight.shape[-1], x.shape[2:]
    padded = F.pad(x, (size // 2,) * 4)
    terms = [
        torch.einsum("oc,nchw->nohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width])
        for i in range(size)
        for j in range(size)
    ]
    return torch.stack(terms).sum(0)


def zero_inserted(x: Tensor) -> Tensor:
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    out[:, :, ::2, ::2] = x
    return out


def upsample_then_convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The definition: zero insertion, FIR filter, convolution with the flipped kernel; wide borders, then the middle."""
    border = 4
    wide = zero_inserted(F.pad(x, (border,) * 4))
    filtered = upfirdn2d(wide, padding=(2, 1), gain=4.0)
    out = correlate(filtered, weight.flip(2, 3))
    return out[:, :, 2 * border : -2 * border, 2 * border : -2 * border]


def filter_then_convolve_every_second(x: Tensor, weight: Tensor) -> Tensor:
    """The definition: FIR filter, correlation, every second sample."""
    border = 4
    wide = upfirdn2d(F.pad(x, (border,) * 4), padding=(1, 2))  # between the samples that it merges
    return correlate(wide, weight)[:, :, border:-border, border:-border][:, :, ::2, ::2]


@pytest.fixture(params=[1, 3])
def problem(request, rng) -> tuple[Tensor, Tensor]:
    size = request.param
    return torch.randn(2, 3, 6, 8, generator=rng).double(), torch.randn(5, 3, size, size, generator=rng).double()


def test_plain_convolution(problem):
    torch.testing.assert_close(conv2d_resample(*problem), correlate(*problem))


def test_upsampling_convolution(problem):
    torch.testing.assert_close(conv2d_resample(*problem, up=2), upsample_then_convolve(*problem))


def test_downsampling_convolution(problem):
    x, weight = problem
    result = conv2d_resample(x, weight, down=2)
    torch.testing.assert_close(result, filter_then_convolve_every_second(x, weight))
    if weight.shape[-1] == 1:
        torch.testing.assert_close(result, correlate(downsample2d(x), weight))


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_scales_the_weights_of_each_sample(up, demodulate, rng):
    """StyleGAN2, Eq. 1 and 3, literally: one convolution per sample with its own weights."""
    x, weight = torch.randn(3, 4, 5, 6, generator=rng).double(), torch.randn(2, 4, 3, 3, generator=rng).double()
    styles = torch.randn(3, 4, generator=rng).double()
    noise = torch.randn(3, 1, 5 * up, 6 * up, generator=rng).double()
    expected = []
    for sample in range(3):
        own = weight * styles[sample, None, :, None, None]
        if demodulate:
            own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected.append(conv2d_resample(x[sample : sample + 1], own, up=up))
    result = modulated_conv2d(x, weight, styles, noise=noise, up=up, demodulate=demodulate)
    torch.testing.assert_close(result, torch.cat(expected) + noise)


def test_demodulation_gives_unit_variance(rng):
    x = torch.randn(4, 32, 16, 16, generator=rng)
    weight, styles = torch.randn(64, 32, 3, 3, generator=rng), torch.rand(4, 32, generator=rng) * 10
    inner = modulated_conv2d(x, weight, styles)[..., 1:-1, 1:-1]
    assert float(inner.std()) == pytest.approx(1, abs=0.05)


def test_demodulation_ignores_the_scale_of_styles_and_weights(rng):
    x, weight, styles = (
        torch.randn(2, 4, 5, 5, generator=rng),
        torch.randn(3, 4, 3, 3, generator=rng),
        torch.rand(2, 4, generator=rng) + 0.5,
    )
    torch.testing.assert_close(modulated_conv2d(x, weight * 3, styles * 7), modulated_conv2d(x, weight, styles), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("up", [1, 2])
def test_gradients_of_the_modulated_convolution(up, rng):
    inputs = [torch.randn(shape, generator=rng).double().requires_grad_() for shape in ((2, 2, 3, 3), (2, 2, 3, 3), (2, 2))]
    function = lambda x, weight, styles: modulated_conv2d(x, weight, styles, up=up)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("down", [1, 2])
def test_second_gradients_of_the_convolution(down, rng):
    """R1 differentiates the discriminator's convolutions twice."""
    inputs = [torch.randn(shape, generator=rng).double().requires_grad_() for shape in ((1, 2, 4, 4), (2, 2, 3, 3))]
    function = lambda x, weight: conv2d_resample(x, weight, down=down)  # noqa: E731
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
