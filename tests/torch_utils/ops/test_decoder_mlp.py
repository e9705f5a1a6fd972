"""The decoder's network: C++ against the plain formula, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from torch_utils.ops.decoder_mlp import decoder_mlp

BACKENDS = ["ref", "cpu"]


def network(rng: torch.Generator, points: int, inputs: int, hidden: int, colors: int) -> list[Tensor]:
    shapes = [(points, inputs), (hidden, inputs), (hidden,), (1 + colors, hidden), (1 + colors,)]
    return [torch.randn(shape, generator=rng).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (200, 8, 32, 16), (131, 5, 7, 3), (70, 32, 64, 32), (64, 17, 33, 17), (0, 4, 4, 4)], ids=str
)
def test_cpp_equals_reference(sizes, rng):
    """Sizes that are no multiples of the vector width, and points that do not fill the last tile."""
    tensors = network(rng, *sizes)
    weights = [torch.randn(sizes[0], sizes[3], generator=rng), torch.randn(sizes[0], generator=rng)]
    results = {}
    for backend in BACKENDS:
        found = decoder_mlp(*tensors, margin=0.001, backend=backend)
        loss = sum((f * w).sum() for f, w in zip(found, weights, strict=True))
        results[backend] = (*found, *torch.autograd.grad(loss, tensors))
    for actual, expected in zip(results["cpu"], results["ref"], strict=True):
        scale = expected.abs().max().item() if expected.numel() else 1.0
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6 * max(1.0, scale))


def test_extreme_values_saturate_instead_of_overflowing(rng):
    x, w1, b1, w2, b2 = network(rng, 50, 4, 8, 3)
    with torch.no_grad():
        x.mul_(1000)
    results = [decoder_mlp(x, w1, b1, w2, b2, margin=0.0, backend=backend) for backend in BACKENDS]
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(colors.sum() + density.sum(), x)[0] for colors, density in results]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_shapes_and_strides(rng):
    """Any leading dimensions; a transposed input as the reference's tri-plane lookup gives it."""
    x, *weights = network(rng, 2 * 30, 6, 10, 4)
    batch = x.reshape(2, 30, 6)
    strided = batch.transpose(1, 2).contiguous().transpose(1, 2)
    colors, density = decoder_mlp(strided, *weights, margin=0.001, backend="cpu")
    assert colors.shape == (2, 30, 4)
    assert density.shape == (2, 30)
    flat = decoder_mlp(x, *weights, margin=0.001, backend="cpu")
    assert torch.equal(colors.flatten(0, 1), flat[0])
    assert torch.equal(density.flatten(), flat[1])


def test_gradient_of_one_output_alone(rng):
    tensors = network(rng, 20, 3, 5, 2)
    for output in (0, 1):
        gradients = [torch.autograd.grad(decoder_mlp(*tensors, margin=0.001, backend=b)[output].sum(), tensors[:4]) for b in BACKENDS]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_result_does_not_depend_on_threads(rng):
    tensors = network(rng, 5000, 8, 32, 16)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found = decoder_mlp(*tensors, margin=0.001, backend="cpu")
            results.append((*found, *torch.autograd.grad(found[0].sum() + found[1].sum(), tensors)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_operators_are_registered_as_torch_expects(rng):
    tensors = network(rng, 20, 3, 5, 2)
    decoder_mlp(*tensors, margin=0.001, backend="cpu")  # loads them
    torch.library.opcheck(torch.ops.next3d.decoder_mlp, (*tensors, 0.001))


def test_flops_are_counted_as_for_the_reference(rng):
    tensors, counts = network(rng, 20, 3, 5, 2), []
    for backend in BACKENDS:
        with FlopCounterMode(display=False) as counter:
            decoder_mlp(*tensors, margin=0.001, backend=backend)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 2 * 20 * (3 * 5 + 5 * 3)


BAD_INPUT = {
    "x": (0, torch.zeros(4, 9), r"x \(4, 9\) and w1 \(5, 3\) do not fit"),
    "w2": (3, torch.zeros(3, 4), r"w2 \(3, 4\), expected \[1 \+ C, 5\]"),
    "no colours": (3, torch.zeros(1, 5), r"w2 \(1, 5\), expected \[1 \+ C, 5\]"),
    "b1": (2, torch.zeros(4), r"biases \(4,\) and \(3,\)"),
}


@pytest.mark.parametrize(("position", "tensor", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_named(position, tensor, message, rng):
    tensors = network(rng, 4, 3, 5, 2)
    tensors[position] = tensor
    with pytest.raises(ValueError, match=message):
        decoder_mlp(*tensors, margin=0.001)
