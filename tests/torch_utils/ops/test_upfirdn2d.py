"""FIR resampling against its definition, written as sums over shifted windows of a plane of zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from torch_utils.ops.upfirdn2d import BINOMIAL, XY, Filter, Sides, downsample2d, filter2d, resampling_padding, upfirdn2d, upsample2d

SLANTED = (0.1, 0.2, 0.5, -0.1)
DENSE = ((1.0, 2.0, 0.5, 1.0), (3.0, -1.0, 2.0, 0.0), (0.2, 1.0, 4.0, -2.0))
"""Neither separable nor square nor symmetric, and its sum is not 1."""
MARGIN = 32


def definition(
    x: Tensor,
    filter: Filter,
    up: XY = (1, 1),
    down: XY = (1, 1),
    sides: Sides = (0, 0, 0, 0),
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """The four steps of the documentation; pairs are (x, y)."""
    kernel = torch.as_tensor((1.0,) if filter is None else filter, dtype=x.dtype)
    kernel = torch.outer(kernel, kernel) if kernel.ndim == 1 else kernel
    kernel = kernel if flip else kernel.flip(0, 1)
    height, width = x.shape[2] * up[1], x.shape[3] * up[0]
    plane = x.new_zeros(*x.shape[:2], height + 2 * MARGIN, width + 2 * MARGIN)
    plane[..., MARGIN : MARGIN + height : up[1], MARGIN : MARGIN + width : up[0]] = x
    left, right, above, below = sides
    plane = plane[..., MARGIN - above : MARGIN + height + below, MARGIN - left : MARGIN + width + right]
    rows, columns = plane.shape[2] - kernel.shape[0] + 1, plane.shape[3] - kernel.shape[1] + 1
    windows = [kernel[i, j] * plane[..., i : i + rows, j : j + columns] for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]
    return gain * torch.stack(windows).sum(0)[..., :: down[1], :: down[0]]


FILTERS = {
    "binomial": BINOMIAL,
    "one tap": (2.0,),
    "none": None,
    "slanted": SLANTED,
    "long": tuple(float(i + 1) for i in range(7)),
    "dense": DENSE,
    "row": (SLANTED,),
    "column": tuple((tap,) for tap in SLANTED),
    "list": list(SLANTED),
    "tensor": torch.tensor(SLANTED),
    "dense tensor": torch.tensor(DENSE),
}
STEPS = {
    "up": {"up": (2, 2), "sides": (2, 1, 2, 1), "gain": 4.0},
    "down": {"down": (2, 2), "sides": (1, 1, 1, 1)},
    "filter": {},
    "axes differ": {"up": (2, 3), "down": (3, 2), "sides": (3, -1, 0, 4), "gain": 1.7},
    "crop": {"sides": (-2, 3, 1, -1), "gain": -1.0},
    "crop what was inserted": {"up": (3, 2), "sides": (-1, -2, -3, 0)},
}


@pytest.mark.parametrize("flip", [False, True], ids=["convolve", "correlate"])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("filter", FILTERS.values(), ids=FILTERS.keys())
def test_equals_its_definition(filter, steps, flip, rng):
    x = torch.randn(2, 3, 13, 10, generator=rng, dtype=torch.float64)
    expected = definition(x, filter, **steps, flip=flip)
    arguments = {"padding" if name == "sides" else name: value for name, value in steps.items()}
    for backend in ("ref", "auto"):
        result = upfirdn2d(x, filter, **arguments, flip_filter=flip, backend=backend)
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("short", "full"), [(3, (3, 3, 3, 3)), (-1, (-1, -1, -1, -1)), ((1, 2), (1, 1, 2, 2)), ([0, 3], (0, 0, 3, 3))], ids=str
)
def test_short_forms_of_padding(short, full, rng):
    x = torch.randn(1, 1, 8, 7, generator=rng)
    assert torch.equal(upfirdn2d(x, padding=short), upfirdn2d(x, padding=full))


def test_one_factor_stands_for_both(rng):
    x = torch.randn(1, 1, 8, 7, generator=rng)
    assert torch.equal(upfirdn2d(x, up=3, down=2, padding=4), upfirdn2d(x, up=(3, 3), down=[2, 2], padding=4))


@pytest.mark.parametrize(
    "filter", [BINOMIAL, (1.0,), None, SLANTED[:3], DENSE, torch.tensor(DENSE)], ids=["4", "1", "none", "3", "dense", "tensor"]
)
@pytest.mark.parametrize("factor", [1, 2, 3, (2, 1), (1, 4)], ids=str)
def test_named_resamplings_are_centred(filter, factor, rng):
    """Sizes are exact multiples, and without inserted zeros the paddings of two sides differ by one at most."""
    x = torch.randn(2, 3, 12, 16, generator=rng).double()
    across, along = (factor, factor) if isinstance(factor, int) else factor
    more = {"padding": (1, -1, 2, 0), "flip_filter": True, "gain": 0.7}
    fine = upsample2d(x, filter, up=factor, **more)
    sides = [a + b for a, b in zip(resampling_padding(filter, up=factor), more["padding"], strict=True)]
    torch.testing.assert_close(
        fine, definition(x, filter, (across, along), (1, 1), sides, True, 0.7 * across * along), rtol=1e-6, atol=1e-7
    )
    assert fine.shape[2:] == (12 * along + 2, 16 * across)
    coarse = downsample2d(x, filter, down=factor)
    assert coarse.shape[2:] == (12 // along, 16 // across)
    assert filter2d(x, filter).shape == x.shape
    for sides in (resampling_padding(filter, down=factor), resampling_padding(filter)):
        assert 0 <= sides[0] - sides[1] <= 1
        assert 0 <= sides[2] - sides[3] <= 1


def test_filter2d_is_resampling_by_one(rng):
    x = torch.randn(1, 2, 6, 5, generator=rng)
    for filter in (BINOMIAL, DENSE, None):
        expected = upfirdn2d(x, filter, padding=resampling_padding(filter), gain=3.0)
        assert torch.equal(filter2d(x, filter, gain=3.0), expected)
        assert torch.equal(upsample2d(x, filter, up=1, gain=3.0), expected)
        assert torch.equal(downsample2d(x, filter, down=1, gain=3.0), expected)
    assert torch.equal(filter2d(x, None), x)


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (1, 6)], ids=str)
def test_sizes(size):
    x = torch.zeros(1, 2, *size)
    assert upsample2d(x).shape[2:] == (2 * size[0], 2 * size[1])
    assert upsample2d(x, (0.05, 0.15, 0.3, 0.3, 0.15, 0.05), up=4).shape[2:] == (4 * size[0], 4 * size[1])
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


ONCE: dict[str, Callable[[Tensor], Tensor]] = {
    "up": upsample2d,
    "down": downsample2d,
    "filter": lambda x: filter2d(x, SLANTED, flip_filter=True),
    "dense": lambda x: upfirdn2d(x, DENSE, up=(1, 2), down=(2, 1), padding=(3, -1, 2, 1), gain=0.5),
    "axes differ": lambda x: upfirdn2d(x, SLANTED, up=(3, 2), down=(2, 3), padding=(3, -1, 2, 1), gain=0.5),
}


@pytest.mark.parametrize("resample", ONCE.values(), ids=ONCE.keys())
def test_gradients(resample, rng):
    x = torch.randn(1, 2, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resample, x)
    assert torch.autograd.gradgradcheck(resample, x)


@pytest.mark.parametrize("filter", [SLANTED, DENSE], ids=["line", "dense"])
def test_gradients_of_a_filter(filter, rng):
    """A filter that is learned is a tensor that wants a gradient."""
    x = torch.randn(1, 2, 4, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    taps = torch.tensor(filter, dtype=torch.float64, requires_grad=True)
    function = lambda x, taps: upsample2d(x, taps)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, taps))
    assert torch.autograd.gradgradcheck(function, (x, taps))


def test_the_context_of_the_first_call_does_not_matter(rng):
    """The kept filter is neither on the meta device nor an inference tensor because somebody looked there first."""
    taps = (0.0625, 0.25, 0.375, 0.25, 0.0625)
    with torch.device("meta"):
        assert upfirdn2d(torch.zeros(1, 1, 8, 8), taps, backend="ref").device.type == "meta"
    with torch.device("meta"), torch.inference_mode():
        x = torch.ones(1, 1, 8, 8, device="cpu")
        torch.testing.assert_close(upfirdn2d(x, taps, backend="ref"), torch.ones(1, 1, 4, 4, device="cpu"))
    for flip in (False, True):
        x = torch.randn(1, 1, 8, 8, generator=rng, requires_grad=True)
        upfirdn2d(x, taps, flip_filter=flip, backend="ref").sum().backward()
        assert x.grad is not None


IMAGE = torch.zeros(1, 1, 4, 4)
BAD_INPUT = {
    "three dimensions": (IMAGE[0], {}, r"x: shape \(1, 4, 4\), expected \[N, C, H, W\]"),
    "three paddings": (IMAGE, {"padding": (1, 2, 3)}, r"padding=\(1, 2, 3\), expected one number"),
    "no factor": (IMAGE, {"up": 0}, "up=0, expected a whole number >= 1"),
    "three factors": (IMAGE, {"down": (1, 2, 2)}, r"down=\(1, 2, 2\), expected"),
    "empty filter": (IMAGE, {"filter": ()}, r"filter: shape \[0\], expected \[taps\] or \[rows, columns\]"),
    "ragged filter": (IMAGE, {"filter": ((1.0, 2.0), (1.0,))}, "rows have different lengths"),
    "no dimensions": (IMAGE, {"filter": torch.tensor(1.0)}, r"filter: shape \[\]"),
    "too small": (IMAGE, {"padding": (0, -1, 0, 0)}, r"\[4, 3\] with zeros and padding is smaller than the filter \[4, 4\]"),
    "dense in C++": (IMAGE, {"filter": DENSE, "backend": "cpu"}, "backend='cpu' takes taps in a tuple"),
    "tensor in C++": (IMAGE, {"filter": torch.ones(2), "backend": "cpu"}, "backend='cpu' takes taps in a tuple"),
}


@pytest.mark.parametrize(("x", "arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_named(x, arguments, message):
    with pytest.raises(ValueError, match=message):
        upfirdn2d(x, **arguments)
