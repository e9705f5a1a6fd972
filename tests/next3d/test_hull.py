"""A fresh network with a hull: dense where the mesh is, thin elsewhere, and still free to learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from next3d.config import preset
from next3d.generator import Generator
from next3d.types import RaySampling
from tests.models import labels

DEMO = preset("demo-64").generator


@pytest.fixture(scope="module")
def start(toy):
    """A fresh demo network and the planes of two people."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Generator(DEMO, toy.topology).requires_grad_(False)
    styles = network.mapping(torch.randn(2, DEMO.latent_size, generator=torch.Generator().manual_seed(0)), labels(2))
    return network, network.animate(network.identity(styles), toy.mesh(2))


def test_dense_inside_and_thin_outside(start, toy):
    network, planes = start
    inside = 0.9 * toy.vertices[(toy.topology.guide_colors[:, 2] > 0.7) & (toy.topology.guide_colors[:, 1].abs() < 0.5)]
    outside = torch.tensor([[0.35, 0.35, 0.35], [-0.4, 0.0, 0.3], [0.0, 0.45, 0.0], [0.3, -0.4, -0.4]])
    dense = torch.nn.functional.softplus(network.density(planes, inside.expand(2, -1, -1)) - 1)
    thin = torch.nn.functional.softplus(network.density(planes, outside.expand(2, -1, -1)) - 1)
    assert dense.mean() > 5 * thin.mean()
    assert thin.mean() < 1.5


def test_colours_do_not_know_the_hull(start):
    """The hidden unit that makes it adds to nothing but density."""
    network, _ = start
    assert network.decoder.output.weight[1:, 0].eq(0).all()
    assert network.decoder.output.weight[0, 0] > 0


def test_without_hull_the_start_is_the_paper_s_fog(toy):
    config = replace(DEMO, hull_density=0.0)
    network = Generator(config, toy.topology)
    assert network.texture.last_torgb.bias.eq(0).all()
    assert network.static.last_torgb.bias.eq(0).all()


def test_every_parameter_still_learns(toy):
    network, rng = Generator(DEMO, toy.topology), torch.Generator().manual_seed(0)
    output = network(torch.randn(2, DEMO.latent_size, generator=rng), labels(2), toy.mesh(2, seed=0), sampling=RaySampling(generator=rng))
    (output.image * torch.randn(output.image.shape, generator=rng)).sum().backward()
    idle = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert not idle
