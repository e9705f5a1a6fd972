"""Resampling in C++ against the reference: values, gradients, gradients of gradients."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from torch_utils.custom_ops import BackendError
from torch_utils.ops.upfirdn2d import BINOMIAL, upfirdn2d

BACKENDS = ["ref", "cpu"]
LONG = tuple((i + 1) / 66 for i in range(11))  # more taps than are summed at once, and not symmetric


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding", [0, (2, 1, 2, 1), (1, 4, 4, 1), (-1, 3, 5, -2)], ids=str)
@pytest.mark.parametrize("taps", [(1.0,), (0.25, 0.75), BINOMIAL, LONG], ids=len)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), ((3, 1), (1, 2)), ((1, 2), (3, 1)), ((2, 3), (3, 2))])
def test_cpp_equals_reference(up, down, taps, padding, channels_last, rng):
    """Odd sizes, both memory orders, every combination, axes that differ; values and gradients."""
    x = torch.randn(2, 3, 13, 18, generator=rng)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    results = {}
    for backend in BACKENDS:
        y = upfirdn2d(x, taps, up=up, down=down, padding=padding, flip_filter=channels_last, gain=2.5, backend=backend)
        results[backend] = (y, *torch.autograd.grad(y.square().sum(), x))
    assert results["cpu"][0].is_contiguous(memory_format=torch.channels_last) == channels_last
    for actual, expected in zip(results["cpu"], results["ref"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), ((3, 1), (2, 3))])
def test_all_derivatives_match_finite_differences(up, down, order, rng):
    x = torch.randn(1, 2, 4, 5, generator=rng, dtype=torch.float64).contiguous(memory_format=order).requires_grad_()

    def resample(x: torch.Tensor) -> torch.Tensor:
        return upfirdn2d(x, up=up, down=down, padding=(2, 1, -1, 4), backend="cpu")

    assert torch.autograd.gradcheck(resample, x)
    assert torch.autograd.gradgradcheck(resample, x)


def test_penalty_on_gradients_equals_reference(rng):
    """What R1 does: the gradient of a squared gradient, through a product of filtered images."""
    x = torch.randn(2, 3, 8, 8, generator=rng, requires_grad=True)
    results = []
    for backend in BACKENDS:
        y = upfirdn2d(x, down=2, padding=1, backend=backend)
        (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), x)[0])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_strides_do_not_matter(rng):
    x = torch.randn(3, 9, 7, 2, generator=rng).permute(3, 0, 2, 1)
    assert not x.is_contiguous()
    torch.testing.assert_close(upfirdn2d(x, padding=2, backend="cpu"), upfirdn2d(x, padding=2, backend="ref"))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 1, 1)], ids=str)
def test_small_and_empty_batches(shape):
    x = torch.ones(shape)
    torch.testing.assert_close(upfirdn2d(x, padding=2, backend="cpu"), upfirdn2d(x, padding=2, backend="ref"))


def test_other_dtypes_take_the_reference(rng):
    x = torch.randn(1, 2, 8, 8, generator=rng)
    found = upfirdn2d(x.bfloat16(), padding=2)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), upfirdn2d(x, padding=2), rtol=0.05, atol=0.05)


def test_operator_is_registered_as_torch_expects(rng):
    x = torch.randn(2, 3, 5, 6, generator=rng, requires_grad=True)
    upfirdn2d(x, padding=2, backend="cpu")  # loads it
    torch.library.opcheck(torch.ops.next3d.upfirdn2d, (x, [0.1, 0.4, 0.5], [0.2, 0.8], [2, 3], [1, 2], [1, 0], 7, 12))
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(torch.ops.next3d.upfirdn2d, (last, [0.1, 0.4, 0.5], [0.1, 0.4, 0.5], [1, 1], [2, 2], [1, 1], 3, 3))


@pytest.mark.parametrize("filter", [BINOMIAL, (BINOMIAL, LONG[:4])], ids=["C++", "dense"])
def test_compiles_in_one_graph(filter, rng):
    x = torch.randn(2, 3, 5, 6, generator=rng, requires_grad=True)
    compiled = torch.compile(lambda x: upfirdn2d(x, filter, up=(1, 2), padding=(2, -1, 3, 0)), backend="aot_eager", fullgraph=True)
    results = []
    for function in (compiled, lambda x: upfirdn2d(x, filter, up=(1, 2), padding=(2, -1, 3, 0))):
        y = function(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(("up", "down", "padding"), [(1, 1, (2, 1, 2, 1)), (2, 1, (2, 1, 2, 1)), (1, 2, 1), ((1, 2), (2, 1), 3)])
def test_flops_are_counted_as_for_the_reference(up, down, padding):
    counts = []
    for backend in BACKENDS:
        with FlopCounterMode(display=False) as counter:
            upfirdn2d(torch.ones(2, 3, 8, 8), up=up, down=down, padding=padding, backend=backend)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_missing_backend_is_an_error():
    with pytest.raises(BackendError, match="upfirdn2d: there is no 'cuda' backend"):
        upfirdn2d(torch.ones(1, 1, 4, 4), backend="cuda")
