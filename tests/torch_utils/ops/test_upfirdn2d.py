"""FIR resampling against its definition, written as loops over samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_utils.ops.upfirdn2d import BINOMIAL, downsample2d, upfirdn2d, upsample2d


def resample_line(x: Tensor, taps: tuple[float, ...], up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    """The four steps of the documentation along the last axis, one number at a time."""
    line = x.new_zeros(*x.shape[:-1], x.shape[-1] * up)
    for i in range(x.shape[-1]):
        line[..., i * up] = x[..., i]
    before, after = padding
    length = line.shape[-1] + before + after
    padded = x.new_zeros(*x.shape[:-1], length)
    for i in range(length):
        if 0 <= i - before < line.shape[-1]:
            padded[..., i] = line[..., i - before]
    count = len(taps)
    filtered = [
        sum(taps[k] / sum(taps) * padded[..., i + count - 1 - k] for k in range(count)) * gain for i in range(0, length - count + 1, down)
    ]
    return torch.stack([torch.as_tensor(value) for value in filtered], dim=-1)


def naive(x: Tensor, taps: tuple[float, ...], up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    """Both axes."""
    across = resample_line(x, taps, up, down, padding, gain**0.5)
    return resample_line(across.mT, taps, up, down, padding, gain**0.5).mT


@pytest.mark.parametrize(
    ("taps", "up", "down", "padding", "gain"),
    [
        (BINOMIAL, 2, 1, (2, 1), 4.0),
        (BINOMIAL, 1, 2, (1, 1), 1.0),
        (BINOMIAL, 1, 1, (0, 0), 1.0),
        ((1.0, 2.0, 5.0), 1, 1, (1, 1), 1.0),
        ((1.0, 2.0, 5.0), 3, 2, (2, 0), 0.5),
        ((1.0,), 2, 1, (0, 0), 1.0),
        ((1.0, 2.0, 3.0, 4.0, 5.0), 2, 3, (5, 4), 2.0),
        (BINOMIAL, 1, 1, (-2, 3), 1.0),
    ],
    ids=["up2", "down2", "filter", "asymmetric", "up3-down2", "no-filter", "up2-down3", "crop"],
)
def test_equals_its_definition(taps, up, down, padding, gain, rng):
    x = torch.randn(2, 3, 8, 7, generator=rng, dtype=torch.float64)
    expected = naive(x, taps, up, down, padding, gain)
    result = upfirdn2d(x, taps, up=up, down=down, padding=padding, gain=gain)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (1, 6)], ids=str)
def test_sizes(size):
    x = torch.zeros(1, 2, *size)
    assert upsample2d(x).shape[2:] == (2 * size[0], 2 * size[1])
    assert upsample2d(x, up=4, taps=(1.0, 3.0, 6.0, 6.0, 3.0, 1.0)).shape[2:] == (4 * size[0], 4 * size[1])
    if min(size) > 1:
        assert downsample2d(x).shape[2:] == (size[0] // 2, size[1] // 2)


def test_resampling_keeps_constants_away_from_the_border():
    x = torch.full((1, 1, 8, 8), 3.0)
    torch.testing.assert_close(upsample2d(x)[..., 2:-2, 2:-2], torch.full((1, 1, 12, 12), 3.0))
    torch.testing.assert_close(downsample2d(x)[..., 1:-1, 1:-1], torch.full((1, 1, 2, 2), 3.0))


def test_upsampling_does_not_move_the_image():
    """A ramp stays a ramp whose pixel centres fit: no shift by half a pixel."""
    ramp = (torch.arange(16) + 0.5).expand(1, 1, 16, 16)
    fine = (torch.arange(32) + 0.5) / 2
    torch.testing.assert_close(upsample2d(ramp)[0, 0, 15, 4:-4], fine[4:-4])
    coarse = (torch.arange(8) + 0.5) * 2
    torch.testing.assert_close(downsample2d(ramp)[0, 0, 4, 1:-1], coarse[1:-1])


def test_downsampling_is_the_transpose_of_upsampling(rng):
    """<up(x), y> = 4 <x, down(y)>: the filters are mirror-symmetric and the paddings fit."""
    x, y = torch.randn(1, 2, 5, 6, generator=rng).double(), torch.randn(1, 2, 10, 12, generator=rng).double()
    torch.testing.assert_close((upsample2d(x) * y).sum(), 4 * (x * downsample2d(y)).sum())


def test_gradients(rng):
    x = torch.randn(1, 2, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    for resample in (upsample2d, downsample2d):
        assert torch.autograd.gradcheck(resample, x)
        assert torch.autograd.gradgradcheck(resample, x)


def test_the_context_of_the_first_call_does_not_matter(rng):
    """The kept filter is neither on the meta device nor an inference tensor because somebody looked there first."""
    taps = (1.0, 4.0, 6.0, 4.0, 1.0)
    with torch.device("meta"):
        assert upfirdn2d(torch.zeros(1, 1, 8, 8), taps).device.type == "meta"
    with torch.device("meta"), torch.inference_mode():
        x = torch.ones(1, 1, 8, 8, device="cpu")
        torch.testing.assert_close(upfirdn2d(x, taps), torch.ones(1, 1, 4, 4, device="cpu"))
    x = torch.randn(1, 1, 8, 8, generator=rng, requires_grad=True)
    upfirdn2d(x, taps).sum().backward()
    assert x.grad is not None
