"""Bias, activation, gain and clamp."""

from __future__ import annotations

import math

import pytest
import torch

from torch_utils.ops.bias_act import DEFAULT_GAIN, bias_act

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017, Eq. 14
SCALAR = {
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "lrelu": lambda x: x if x > 0 else 0.2 * x,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * math.expm1(x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "swish": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("act", sorted(SCALAR))
@pytest.mark.parametrize(("gain", "clamp"), [(None, None), (0.7, None), (2.0, 0.5)])
def test_equals_the_formula_number_by_number(act, gain, clamp, rng):
    x, bias = torch.randn(2, 3, 4, generator=rng).double(), torch.randn(3, generator=rng).double()
    result = bias_act(x, bias, act=act, gain=gain, clamp=clamp)
    scale = DEFAULT_GAIN[act] if gain is None else gain
    limit = math.inf if clamp is None else clamp
    for n, c, i in ((n, c, i) for n in range(2) for c in range(3) for i in range(4)):
        expected = max(-limit, min(limit, SCALAR[act](float(x[n, c, i] + bias[c])) * scale))
        assert float(result[n, c, i]) == pytest.approx(expected)


def test_every_activation_is_tested():
    assert set(SCALAR) == set(DEFAULT_GAIN)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0, 1.5, -0.5])
def test_alpha_is_the_slope_of_lrelu(alpha, rng):
    x = torch.randn(2, 3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    result = bias_act(x, act="lrelu", alpha=alpha, gain=1.0)
    torch.testing.assert_close(result, torch.where(x > 0, x, alpha * x))
    (gradient,) = torch.autograd.grad(result.sum(), x)
    torch.testing.assert_close(gradient, torch.where(x > 0, 1.0, alpha).double())


def test_gain_may_turn_the_sign(rng):
    x = torch.randn(2, 3, 4, generator=rng)
    torch.testing.assert_close(bias_act(x, act="lrelu", gain=-2.0), -bias_act(x, act="lrelu", gain=2.0))


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_bias_belongs_to_its_dimension(dim, rng):
    x = torch.randn(2, 3, 4, generator=rng)
    bias = torch.arange(float(x.shape[dim]))
    torch.testing.assert_close(bias_act(x, bias, dim=dim).movedim(dim, -1), x.movedim(dim, -1) + bias)


def test_lrelu_keeps_the_second_moment_of_normal_noise_to_first_order(rng):
    x = torch.randn(100000, generator=rng)
    assert float(bias_act(x[:, None], act="lrelu").square().mean()) == pytest.approx(1.04, abs=0.02)  # (1 + 0.2**2) / 2 * 2


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("act", sorted(SCALAR))
def test_gradients(act, dim, rng):
    x = torch.randn(3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(x.shape[dim], generator=rng, dtype=torch.float64, requires_grad=True)
    function = lambda x, bias: bias_act(x, bias, dim=dim, act=act, alpha=0.3, gain=1.2, clamp=1.5)  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, bias))
    assert torch.autograd.gradgradcheck(function, (x, bias))


def test_half_precision_stays_half():
    assert bias_act(torch.zeros(1, 2, dtype=torch.float16), torch.zeros(2)).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"act": "relu6"}, "relu6"),
        ({"bias": torch.zeros(2)}, "expected"),
        ({"bias": torch.zeros(1, 3)}, "expected"),
        ({"clamp": -1.0}, "clamp=-1.0, expected a limit >= 0"),
    ],
    ids=["unknown activation", "bias of another size", "bias of another rank", "negative clamp"],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        bias_act(torch.zeros(2, 3), **arguments)
