"""The discriminator: what it looks at, its groups, and the derivatives that R1 needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from next3d.config import preset
from next3d.discriminator import Discriminator, minibatch_std
from next3d.render.mesh_image import render_mesh_image
from next3d.types import Camera, HeadMesh
from tests.models import labels

CONFIG = preset("tiny").discriminator
SIZE, RAW = CONFIG.image_resolution, 16


@dataclass
class Inputs:
    image: Tensor
    image_raw: Tensor
    mesh_image: Tensor
    c: Tensor

    def __iter__(self):
        return iter((self.image, self.image_raw, self.mesh_image, self.c))

    def __getitem__(self, index) -> Inputs:
        return Inputs(*(value[index] for value in self))


def inputs(rng: torch.Generator, count: int = 4) -> Inputs:
    draw = lambda size: torch.rand(count, 3, size, size, generator=rng) * 2 - 1  # noqa: E731
    return Inputs(draw(SIZE), draw(RAW), draw(SIZE), labels(count))


def test_std_of_identical_samples_is_nothing(rng):
    x = torch.randn(1, 5, 4, 4, generator=rng).expand(4, -1, -1, -1)
    out = minibatch_std(x, 4)
    assert out.shape == (4, 6, 4, 4)
    assert torch.equal(out[:, :5], x)
    assert out[:, 5].abs().max() < 1e-3


def test_std_is_the_mean_standard_deviation_of_consecutive_samples(rng):
    x = torch.randn(6, 5, 4, 4, generator=rng)
    out = minibatch_std(x, 3)
    for group in range(2):
        expected = x[3 * group : 3 * group + 3].std(dim=0, unbiased=False).mean()
        torch.testing.assert_close(out[3 * group : 3 * group + 3, 5], expected.expand(3, 4, 4), rtol=1e-4, atol=1e-6)


def test_strided_groups_are_consecutive_groups_of_interleaved_samples(rng):
    x = torch.randn(6, 2, 4, 4, generator=rng)
    order = torch.tensor([0, 2, 4, 1, 3, 5])
    torch.testing.assert_close(minibatch_std(x, 3, strided=True)[order], minibatch_std(x[order], 3))
    assert not torch.allclose(minibatch_std(x, 3, strided=True), minibatch_std(x, 3))


def test_std_of_small_and_odd_batches(rng):
    assert minibatch_std(torch.randn(2, 1, 4, 4, generator=rng), 4).shape == (2, 2, 4, 4)
    assert minibatch_std(torch.randn(1, 1, 4, 4, generator=rng), 4)[:, 1].abs().max() < 1e-3
    with pytest.raises(ValueError, match="6 is not a multiple of the group size 4"):
        minibatch_std(torch.zeros(6, 1, 4, 4), 4)


def test_order_within_a_group_does_not_matter(tiny_discriminator, rng):
    given = inputs(rng, 8)
    order = torch.tensor([2, 0, 3, 1, 7, 6, 4, 5])  # groups of four
    torch.testing.assert_close(tiny_discriminator(*given[order]), tiny_discriminator(*given)[order], rtol=1e-4, atol=1e-5)


def test_groups_do_not_see_each_other(tiny_discriminator, rng):
    given = inputs(rng, 8)
    together = tiny_discriminator(*given)
    torch.testing.assert_close(tiny_discriminator(*given[4:]), together[4:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(tiny_discriminator(*given[2:6])[:2], together[2:4]), "samples of one group do"


def test_every_input_matters(tiny_discriminator, rng):
    given = inputs(rng)
    logits = tiny_discriminator(*given)
    assert logits.shape == (4, 1)
    for name in ("image", "image_raw", "mesh_image", "c"):
        changed = replace(given, **{name: getattr(given, name).roll(1, 0)})
        assert not torch.allclose(tiny_discriminator(*changed), logits), name


def test_another_mesh_changes_the_verdict(tiny_discriminator, toy, rng):
    """Through the rendering that training uses: the same picture with a head that stands elsewhere."""
    given, camera = inputs(rng), Camera.from_label(labels(4))
    mesh = toy.mesh(4, seed=0)
    other = HeadMesh(mesh.vertices + torch.tensor([0.03, 0.02, 0.0]), mesh.landmarks)
    draw = lambda which: render_mesh_image(which, camera, toy.topology, SIZE)  # noqa: E731
    one = tiny_discriminator(given.image, given.image_raw, draw(mesh), given.c)
    two = tiny_discriminator(given.image, given.image_raw, draw(other), given.c)
    assert (one - two).abs().min() > 1e-5


def test_raw_images_of_any_size_are_seen_at_the_image_s_size(tiny_discriminator, rng):
    given = inputs(rng)
    flat = lambda size: torch.full((4, 3, size, size), 0.3)  # noqa: E731
    results = [tiny_discriminator(*replace(given, image_raw=flat(size))) for size in (8, 16, 32, 48)]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


def test_without_mesh_image(rng):
    module, given = Discriminator(replace(CONFIG, mesh_image=False)), inputs(rng)
    assert module(given.image, given.image_raw, None, given.c).shape == (4, 1)
    with pytest.raises(ValueError, match="given"):
        module(*given)


def test_without_label(rng):
    module, given = Discriminator(replace(CONFIG, label_size=0)), inputs(rng)
    logits = module(*given)
    assert logits.shape == (4, 1)
    torch.testing.assert_close(module(*replace(given, c=given.c.flip(0))), logits)


@pytest.mark.parametrize(
    "change",
    [{"image": torch.zeros(4, 3, 16, 16)}, {"image": torch.zeros(4, 1, SIZE, SIZE)}, {"mesh_image": None}],
    ids=["other size", "grey", "no mesh image"],
)
def test_refuses(tiny_discriminator, change, rng):
    with pytest.raises(ValueError, match="discriminator"):
        tiny_discriminator(*replace(inputs(rng), **change))


@pytest.mark.parametrize("mesh_image", [True, False])
def test_every_parameter_gets_a_gradient(mesh_image, rng):
    module, given = Discriminator(replace(CONFIG, mesh_image=mesh_image)), inputs(rng)
    logits = module(given.image, given.image_raw, given.mesh_image if mesh_image else None, given.c)
    torch.nn.functional.softplus(logits).mean().backward()
    idle = [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert not idle


def test_gradient_penalty_has_the_right_derivative(rng):
    """R1 differentiates twice: the second derivative along a direction of the weights equals a finite difference."""
    config = replace(CONFIG, image_resolution=8, channel_max=4)
    module = Discriminator(config).double()
    image = (torch.rand(2, 3, 8, 8, generator=rng).double() * 2 - 1).requires_grad_()
    raw = (torch.rand(2, 3, 4, 4, generator=rng).double() * 2 - 1).requires_grad_()
    mesh, c = torch.rand(2, 3, 8, 8, generator=rng).double(), labels(2).double()

    def penalty() -> Tensor:
        gradients = torch.autograd.grad(module(image, raw, mesh, c).sum(), (image, raw), create_graph=True)
        return sum((gradient.square().sum() for gradient in gradients), start=torch.zeros((), dtype=torch.float64))

    parameters = list(module.parameters())
    direction = [torch.randn(p.shape, generator=rng).double() for p in parameters]
    analytic = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(analytic, direction, strict=True) if g is not None)
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter += sign * step * d
        values.append(float(penalty().detach()))
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter -= sign * step * d
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)
    assert any(g is not None and g.abs().sum() > 0 for g in analytic)


def test_equal_seeds_give_equal_networks():
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(Discriminator(CONFIG).state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
