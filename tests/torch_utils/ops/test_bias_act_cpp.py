"""Scale, noise, bias and activation in C++ against the reference: values, gradients, gradients of gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_utils.custom_ops import BackendError
from torch_utils.ops.bias_act import bias_act

BACKENDS = ["ref", "cpu"]
PARTS = {
    "bias": ("bias",),
    "nothing": (),
    "scale": ("bias", "scale"),
    "noise": ("bias", "noise"),
    "all": ("bias", "scale", "noise"),
    "one noise for all": ("bias", "scale", "common_noise"),
    "noise map": ("scale", "noise_map"),
}


def tensors(rng: torch.Generator, parts: tuple[str, ...], shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    shapes = {
        "bias": shape[1:2],
        "scale": shape[:2],
        "noise": (shape[0], 1, *shape[2:]),
        "common_noise": (1, 1, *shape[2:]),
        "noise_map": shape[2:],
    }
    named = {"x": shape} | {part: shapes[part] for part in parts}
    made = {name: torch.randn(size, generator=rng, dtype=dtype).requires_grad_() for name, size in named.items()}
    return {"noise" if "noise" in name else name: tensor for name, tensor in made.items()}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("act", "clamp"), [("linear", None), ("lrelu", None), ("lrelu", 0.8)])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("channels", [3, 16])
def test_cpp_equals_reference(channels, parts, act, clamp, channels_last, rng):
    """In both memory orders, also where the gradient comes in the other one."""
    inputs = tensors(rng, parts, (2, channels, 5, 7))
    flow = torch.randn(2, channels, 5, 7, generator=rng)
    if channels_last:
        inputs["x"] = inputs["x"].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    results = {}
    for backend in BACKENDS:
        y = bias_act(**inputs, act=act, gain=1.3, clamp=clamp, backend=backend)
        results[backend] = (y, *torch.autograd.grad(y, list(inputs.values()), flow))
        assert y.is_contiguous(memory_format=torch.channels_last) == channels_last
    for actual, expected in zip(results["cpu"], results["ref"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 3, 2, 2, 2), (0, 3, 4, 4), (2, 3, 0, 4)], ids=str)
def test_shapes_without_scale_and_noise(shape, rng):
    inputs = tensors(rng, ("bias",), shape)
    results = []
    for backend in BACKENDS:
        y = bias_act(**inputs, act="lrelu", backend=backend)
        results.append((y, *torch.autograd.grad(y.square().sum(), list(inputs.values()))))
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
def test_all_derivatives_match_finite_differences(parts, channels_last, rng):
    inputs = tensors(rng, parts, (2, 2, 2, 3), torch.float64)
    if channels_last:
        inputs["x"] = inputs["x"].detach().contiguous(memory_format=torch.channels_last).requires_grad_()

    def function(*values: Tensor) -> Tensor:
        return bias_act(**dict(zip(inputs, values, strict=True)), act="lrelu", clamp=1.5, backend="cpu")

    assert torch.autograd.gradcheck(function, tuple(inputs.values()))
    assert torch.autograd.gradgradcheck(function, tuple(inputs.values()))


def test_penalty_on_gradients_equals_reference(rng):
    """What R1 does, through two layers."""
    x, bias = torch.randn(2, 3, 4, 4, generator=rng, requires_grad=True), torch.randn(3, generator=rng, requires_grad=True)
    weight = torch.randn(3, 3, 3, 3, generator=rng, requires_grad=True)
    results = []
    for backend in BACKENDS:
        y = torch.nn.functional.conv2d(bias_act(x, bias, act="lrelu", backend=backend), weight)
        y = bias_act(y, bias, act="lrelu", backend=backend)
        (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), (x, bias, weight)))
    for actual, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_one_input_alone(rng):
    inputs = {name: tensor.detach() for name, tensor in tensors(rng, PARTS["all"], (2, 3, 4, 4)).items()}
    for name in inputs:
        leaf = inputs[name].clone().requires_grad_()
        outputs = [bias_act(**(inputs | {name: leaf}), act="lrelu", backend=backend) for backend in BACKENDS]
        gradients = [torch.autograd.grad(y.square().sum(), leaf)[0] for y in outputs]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_strides_do_not_matter(rng):
    x = torch.randn(4, 5, 3, 2, generator=rng).permute(3, 2, 1, 0)
    bias = torch.randn(6, generator=rng)[::2]
    torch.testing.assert_close(bias_act(x, bias, act="lrelu", backend="cpu"), bias_act(x, bias, act="lrelu", backend="ref"))


def test_result_does_not_depend_on_threads(rng):
    inputs = tensors(rng, PARTS["all"], (4, 8, 32, 32))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = bias_act(**inputs, act="lrelu", backend="cpu")
            results.append((y, *torch.autograd.grad(y.square().sum(), list(inputs.values()))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_operators_are_registered_as_torch_expects(rng):
    bias_act(torch.ones(1, 1, 1, 1), backend="cpu")  # loads them
    x, bias, scale = torch.randn(2, 3, 4, generator=rng), torch.randn(3, generator=rng), torch.randn(2, 3, generator=rng)
    inputs = tuple(t.requires_grad_() for t in (x, bias, scale, torch.randn(1, 4, generator=rng)))
    torch.library.opcheck(torch.ops.next3d.bias_act, (*inputs, 0.2, 1.4, 0.9))
    last = x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    torch.library.opcheck(torch.ops.next3d.bias_act, (last, *inputs[1:], 0.2, 1.4, 0.9))
    torch.library.opcheck(torch.ops.next3d.bias_act, (inputs[0], None, None, None, 1.0, 1.0, float("inf")))
    torch.library.opcheck(torch.ops.next3d.bias_act_mask, (x, x.detach().clone(), 0.2, 1.4, 0.9))


BAD_INPUT = {
    "scale of another size": ({"scale": torch.ones(2, 4)}, r"scale \(2, 4\), expected \[N, C\] of x \(2, 3, 4, 4\)"),
    "noise of another size": ({"noise": torch.ones(4, 5)}, r"noise \(4, 5\), expected \[N or 1, 1, H, W\] or \[H, W\]"),
    "noise per channel": ({"noise": torch.ones(2, 3, 4, 4)}, r"noise \(2, 3, 4, 4\)"),
    "sigmoid in C++": ({"act": "sigmoid", "backend": "cpu"}, "backend='cpu' cannot do act='sigmoid'"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        bias_act(torch.zeros(2, 3, 4, 4), **arguments)


def test_missing_backend_is_an_error():
    with pytest.raises(BackendError, match="bias_act: there is no 'cuda' backend"):
        bias_act(torch.zeros(1, 1), backend="cuda")
