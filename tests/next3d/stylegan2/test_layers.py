"""Layers: equalised learning rate, noise, normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from next3d.stylegan2.layers import Conv2d, FullyConnected, SynthesisLayer, ToRGB, normalize_second_moment


def test_second_moment_is_one(rng):
    x = torch.randn(4, 100, generator=rng) * torch.tensor([[0.1], [1.0], [10.0], [1000.0]])
    torch.testing.assert_close(normalize_second_moment(x).square().mean(dim=1), torch.ones(4), rtol=1e-4, atol=1e-4)
    assert normalize_second_moment(torch.zeros(1, 5)).isfinite().all()


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_equalised_learning_rate(lr_multiplier, rng):
    """Unit-variance inputs give unit-variance outputs, and one optimiser step moves the function `lr_multiplier` times as far."""
    layer = FullyConnected(256, 512, lr_multiplier=lr_multiplier).requires_grad_(False)
    x = torch.randn(64, 256, generator=rng)
    assert layer(x).std() == pytest.approx(1, abs=0.1)
    assert layer.weight.std() * lr_multiplier == pytest.approx(1, abs=0.05)
    before = layer(x)
    layer.weight += 0.01
    layer.bias += 0.01
    expected = 0.01 * lr_multiplier * (x.sum(1, keepdim=True) / 16 + 1)
    torch.testing.assert_close(layer(x) - before, expected.expand(-1, 512), rtol=1e-2, atol=1e-4)


def test_bias_starts_at_its_value_whatever_the_multiplier():
    layer = FullyConnected(4, 3, lr_multiplier=0.1, bias_init=2.0)
    torch.testing.assert_close(layer(torch.zeros(1, 4)), torch.full((1, 3), 2.0))


@pytest.mark.parametrize(("up", "down", "size"), [(1, 1, 16), (2, 1, 32), (1, 2, 8)])
def test_convolution_sizes_and_variance(up, down, size, rng):
    """White noise stays of unit variance; the filters of resampling take some of it, whatever the number of channels."""
    expected = {(1, 1): 1.0, (2, 1): 0.5, (1, 2): 0.4}[up, down]
    for channels in (16, 64):
        layer = Conv2d(channels, 128, 3, bias=False, up=up, down=down).requires_grad_(False)
        out = layer(torch.randn(4, channels, 16, 16, generator=rng))
        assert out.shape == (4, 128, size, size)
        assert out[..., 2:-2, 2:-2].std() == pytest.approx(expected, rel=0.3)


def test_gain_scales_activation_and_clamp(rng):
    layer = Conv2d(4, 4, 3, act="lrelu", clamp=0.5)
    x = torch.randn(1, 4, 8, 8, generator=rng)
    torch.testing.assert_close(layer(x, gain=0.25), layer(x) * 0.25)
    assert layer(x * 100).abs().max() == 0.5


@pytest.fixture
def layer() -> SynthesisLayer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = SynthesisLayer(4, 6, style_size=8, resolution=16, up=2)
    torch.nn.init.constant_(layer.noise_strength, 0.5)
    return layer.requires_grad_(False)


@pytest.fixture
def x_style(rng) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 8, generator=rng)


def test_constant_noise_is_the_same_every_time_and_for_every_sample(layer, x_style):
    x, style = x_style
    assert torch.equal(layer(x, style, "const"), layer(x, style, "const"))
    assert not torch.equal(layer(x, style, "const"), layer(x, style, "none"))
    twice = layer(x[:1].expand(2, -1, -1, -1), style[:1].expand(2, -1), "const")
    torch.testing.assert_close(twice[0], twice[1])


def test_random_noise_comes_from_the_generator(layer, x_style):
    draw = lambda seed: layer(*x_style, torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    x, style = (value[:1].expand(2, *value.shape[1:]) for value in x_style)
    one, other = layer(x, style, torch.Generator().manual_seed(0))
    assert not torch.equal(one, other), "every sample has its own"


def test_noise_may_be_a_function(layer, x_style):
    asked = []

    def draws(shape: tuple[int, ...]) -> Tensor:
        asked.append(shape)
        return torch.zeros(shape)

    torch.testing.assert_close(layer(*x_style, draws), layer(*x_style, "none"))
    assert asked == [(2, 1, 16, 16)]


def test_no_noise_where_the_layer_has_none(x_style):
    quiet = SynthesisLayer(4, 6, style_size=8, resolution=8, use_noise=False)
    assert torch.equal(quiet(*x_style, "const"), quiet(*x_style, "none"))
    assert not any("noise" in name for name in quiet.state_dict())


def test_noise_has_no_effect_at_the_start_of_training(x_style):
    fresh = SynthesisLayer(4, 6, style_size=8, resolution=8)
    assert torch.equal(fresh(*x_style, "const"), fresh(*x_style, "none"))


def test_rgb_output_is_linear_in_features_and_style(rng):
    layer = ToRGB(4, 3, style_size=8)
    x, style = torch.randn(1, 4, 5, 5, generator=rng), torch.randn(1, 8, generator=rng)
    torch.testing.assert_close(layer(2 * x, style), 2 * layer(x, style))
