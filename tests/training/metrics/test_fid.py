"""The interval of FID covers what infinitely many repetitions would average to, and its bias is seen."""

from __future__ import annotations

import pytest
import torch

from tests.training.metrics.pictures import paint_context
from training.metrics.fid import leave_blocks_out
from training.metrics.intervals import jackknife
from training.metrics.moments import frechet, moments_of


def test_interval_covers_and_bias_is_estimated(tmp_path, knows_small_head):
    context = paint_context(tmp_path, count=8)
    generator = torch.Generator().manual_seed(5)
    scale = torch.tensor([1.0, 1.3, 0.7, 1.0])
    truth, number, trials = 4 * 0.25 + 0.3**2 + 0.3**2, 120, 100
    values, hits, corrected = [], [], []
    for _ in range(trials):
        real, fake = torch.randn(number, 4, generator=generator), torch.randn(number, 4, generator=generator) * scale + 0.5
        value, without = leave_blocks_out(real, fake, context)
        values.append(value)
        hits.append(jackknife(value, without))
        corrected.append(value - (len(without) - 1) * (sum(without) / len(without) - value))
    mean = sum(values) / trials
    error = float(torch.tensor(values).std()) / trials**0.5
    assert mean > truth + 2 * error, "few rows make it large"
    assert sum(corrected) / trials == pytest.approx(truth, abs=3 * error)
    assert 0.88 <= sum(low <= mean <= high for low, high in hits) / trials <= 0.995


def test_leaving_out_a_block(tmp_path, knows_small_head, rng):
    context = paint_context(tmp_path, count=8)
    real, fake = torch.randn(40, 3, generator=rng), torch.randn(20, 3, generator=rng) + 1
    value, without = leave_blocks_out(real, fake, context)
    assert value == pytest.approx(frechet(moments_of(real), moments_of(fake)), rel=1e-12)
    expected = frechet(moments_of(real[4:]), moments_of(fake[2:]))
    assert without[0] == pytest.approx(expected, rel=1e-12)
    assert len(without) == 10
