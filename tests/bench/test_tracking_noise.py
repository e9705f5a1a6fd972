"""How a detector's habits are measured."""

from __future__ import annotations

import torch

from bench.tracking_data import the_head
from bench.tracking_noise import factor_analysis, without_turns
from next3d.tracking.noise import plain_noise
from next3d.tracking.points import point_model


def test_factors_and_noise_are_told_apart(rng):
    """Covariances of rows that were made of three factors and noise come back."""
    loadings, spread = torch.randn(30, 3, generator=rng).double(), 0.2 + torch.rand(30, generator=rng).double()
    rows = torch.randn(6000, 3, generator=rng).double() @ loadings.T + torch.randn(6000, 30, generator=rng).double() * spread
    found, rest = factor_analysis(rows, 3)
    assert (rest - spread).abs().mean() < 0.03
    torch.testing.assert_close(found @ found.T, loadings @ loadings.T, atol=0.5, rtol=0.1)


def test_what_looks_like_a_turn_is_taken_out(rng):
    """A factor that is a turn of the whole head vanishes; others keep their norm but for that part."""
    model = point_model(the_head())
    measured = model.base * torch.tensor([1.0, -1.0, -1.0])
    turns = [torch.linalg.cross(torch.tensor(axis).expand_as(measured), measured, dim=1) for axis in ([1.0, 0, 0], [0, 1.0, 0])]
    other = torch.randn(478, 3, generator=rng)
    left = without_turns(model, torch.stack([*turns, torch.ones_like(other), other], dim=2))
    assert left[..., :3].abs().max() < 1e-4
    weighted = turns[0] / plain_noise(model).spread ** 2
    assert abs(float((weighted * left[..., 3]).sum())) < 1e-3 * float(weighted.norm() * left[..., 3].norm())
