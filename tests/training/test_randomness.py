from __future__ import annotations

import pytest
import torch

from training.randomness import Draws


def test_a_sample_draws_the_same_in_every_company():
    """Numbers depend on the sample's own index, not on which other samples are asked for beside it."""
    draws = Draws(3)
    whole = draws.normal("z", torch.arange(100, 112), 5, 3)
    parts = torch.cat([draws.normal("z", torch.arange(100, 105), 5, 3), draws.normal("z", torch.arange(105, 112), 5, 3)])
    assert torch.equal(whole, parts)
    assert torch.equal(draws.uniform("z", torch.tensor([107]), 4), draws.uniform("z", torch.tensor([9, 107]), 4)[1:])


@pytest.mark.parametrize("other", [Draws(4).uniform("a", torch.arange(1000), 1), Draws(3).uniform("b", torch.arange(1000), 1)])
def test_seed_and_purpose_change_everything(other):
    mine = Draws(3).uniform("a", torch.arange(1000), 1)
    assert torch.corrcoef(torch.stack([mine.flatten(), other.flatten()]))[0, 1].abs() < 0.1


def test_uniform_numbers_are_uniform_across_samples_and_within_them():
    drawn = Draws(0).uniform("u", torch.arange(2000), 50)
    assert 0 <= drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    counts = torch.histc(drawn, bins=20, min=0, max=1)
    assert (counts / 5000 - 1).abs().max() < 0.06
    assert torch.corrcoef(drawn.T)[0, 1:].abs().max() < 0.1, "neighbouring numbers of one sample are related"
    assert torch.corrcoef(drawn[:50])[0, 1:].abs().max() < 0.6, "neighbouring samples are related"


def test_normal_numbers_have_the_moments_of_a_normal_distribution():
    drawn = Draws(0).normal("n", torch.arange(1000), 101).double()
    assert drawn.shape == (1000, 101)
    assert drawn.mean().abs() < 0.01
    assert abs(drawn.var() - 1) < 0.02
    assert abs((drawn**4).mean() - 3) < 0.1
    assert torch.corrcoef(drawn.T)[0, 1:].abs().max() < 0.15


def test_whole_numbers_reach_every_value_equally_often():
    counts = torch.bincount(Draws(1).below("item", torch.arange(7000), 7), minlength=7)
    assert (counts / 1000 - 1).abs().max() < 0.15
    with pytest.raises(ValueError, match="bound"):
        Draws(1).below("item", torch.arange(2), 0)


def test_permutation_is_one():
    order = Draws(1).permutation("epoch", 3, 100)
    assert sorted(order.tolist()) == list(range(100))
    assert not torch.equal(order, Draws(1).permutation("epoch", 4, 100))
