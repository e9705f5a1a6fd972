"""Mapping network: truncation, conditioning, running mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from next3d.stylegan2.mapping import MappingNetwork


@pytest.fixture
def network() -> MappingNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MappingNetwork(8, 25, 16, layers=2)
    network.w_avg.normal_(generator=torch.Generator().manual_seed(1))
    return network.requires_grad_(False)


@pytest.fixture
def z_c(rng) -> tuple[Tensor, Tensor]:
    return torch.randn(3, 8, generator=rng), torch.randn(3, 25, generator=rng)


def test_scale_of_latent_does_not_matter(network, z_c):
    z, c = z_c
    torch.testing.assert_close(network(z * 10, c), network(z, c), rtol=1e-4, atol=1e-5)


def test_latent_and_label_both_matter(network, z_c):
    z, c = z_c
    assert not torch.allclose(network(z.flip(0), c), network(z, c))
    assert not torch.allclose(network(z, c.flip(0)), network(z, c))


@pytest.mark.parametrize(("latent", "label"), [(8, 0), (0, 25)], ids=["latent alone", "label alone"])
def test_either_input_may_be_left_out(latent, label, z_c):
    network = MappingNetwork(latent, label, 16, layers=1)
    z, c = z_c
    w = network(z if latent else None, c if label else None)
    assert w.shape == (3, 16)
    assert hasattr(network, "embed") == bool(label)


def test_truncation_moves_towards_the_mean(network, z_c):
    rows = network(*z_c)[:, None].expand(-1, 5, -1)
    assert torch.equal(network.truncate(rows, 1.0, None), rows)
    torch.testing.assert_close(network.truncate(rows, 0.0, None), network.w_avg.expand(3, 5, 16))
    torch.testing.assert_close(network.truncate(rows, 0.25, None), 0.25 * rows + 0.75 * network.w_avg)
    torch.testing.assert_close(network.truncate(rows, -1.0, None), 2 * network.w_avg - rows)


def test_cutoff_spares_later_rows(network, z_c):
    rows = network(*z_c)[:, None].expand(-1, 5, -1)
    cut = network.truncate(rows, 0.0, 2)
    torch.testing.assert_close(cut[:, :2], network.w_avg.expand(3, 2, 16))
    assert torch.equal(cut[:, 2:], rows[:, 2:])
    assert torch.equal(network.truncate(rows, 0.0, 0), rows)


def test_running_mean_converges_to_the_mean_of_w(network, rng):
    good, bad = torch.zeros(()), torch.ones(())
    for _ in range(3):
        network.move_average(torch.ones(16), good, decay=0.5)
    start = network.w_avg.clone()
    network.move_average(torch.full((16,), 2.0), good, decay=0.998)
    torch.testing.assert_close(network.w_avg, start + 0.002 * (2 - start))
    assert not network.w_avg.requires_grad
    for _ in range(3000):
        network.move_average((torch.randn(32, 16, generator=rng) + 3).mean(dim=0), good)
    torch.testing.assert_close(network.w_avg, torch.full((16,), 3.0), rtol=0, atol=0.05)
    before = network.w_avg.clone()
    network.move_average(torch.full((16,), float("nan")), bad)
    assert torch.equal(network.w_avg, before)
