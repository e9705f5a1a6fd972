"""Weighted sums along rays: C++ against a batched matrix product."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from torch_utils.ops.weighted_sum import weighted_sum

BACKENDS = ["ref", "cpu"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (300, 16, 16), (1, 1, 1), (4, 0, 3), (0, 4, 3)], ids=str)
def test_cpp_equals_reference(shape, dtype, rng):
    """Values and both gradients."""
    weights = torch.randn(shape[:-1], generator=rng, dtype=dtype, requires_grad=True)
    values = torch.randn(shape, generator=rng, dtype=dtype, requires_grad=True)
    flow = torch.randn(*shape[:-2], shape[-1], generator=rng, dtype=dtype)
    results = {}
    for backend in BACKENDS:
        summed = weighted_sum(weights, values, backend=backend)
        results[backend] = (summed, *torch.autograd.grad(summed, (weights, values), flow))
    for actual, expected in zip(results["cpu"], results["ref"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_strides_do_not_matter(rng):
    weights, values = torch.randn(5, 4, generator=rng).t(), torch.randn(3, 5, 4, generator=rng).permute(2, 1, 0)
    torch.testing.assert_close(weighted_sum(weights, values, backend="cpu"), weighted_sum(weights, values, backend="ref"))


def test_operators_are_registered_as_torch_expects(rng):
    inputs = (torch.randn(6, 4, generator=rng, requires_grad=True), torch.randn(6, 4, 3, generator=rng, requires_grad=True))
    weighted_sum(*inputs, backend="cpu")  # loads them
    torch.library.opcheck(torch.ops.next3d.weighted_sum, inputs)


def test_flops_are_counted_as_for_the_reference(rng):
    counts = []
    for backend in BACKENDS:
        with FlopCounterMode(display=False) as counter:
            weighted_sum(torch.ones(6, 4), torch.ones(6, 4, 3), backend=backend)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 6 * 4 * 3


@pytest.mark.parametrize(
    ("weights", "values"),
    [(torch.ones(6, 4), torch.ones(6, 5, 3)), (torch.ones(6, 4), torch.ones(6, 4, 3).double())],
    ids=["shapes", "dtypes"],
)
def test_bad_input_is_named(weights, values):
    with pytest.raises(ValueError, match=r"weighted_sum: weights torch.float32 \(6, 4\) and values"):
        weighted_sum(weights, values)
