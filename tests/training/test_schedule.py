from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from dnnlib.errors import ConfigError
from training.config import LossConfig, OptimizerConfig, RunConfig, ScheduleConfig, default_config
from training.ema import averaged_copy, update_average
from training.phases import build_optimizer
from training.schedule import blur_sigma, ema_decay, swap_probability


def test_fades_run_from_start_to_end():
    config = ScheduleConfig(blur_sigma=8, blur_fade_kimg=10, swap_probability=0.5, swap_fade_kimg=20)
    assert [blur_sigma(config, images, 256) for images in (0, 5000, 10000, 99999)] == [4, 2, 0, 0]
    assert [swap_probability(config, images) for images in (0, 10000, 20000, 99999)] == [1, 0.75, 0.5, 0.5]
    assert blur_sigma(replace(config, blur_fade_kimg=0), 0, 512) == 0
    assert swap_probability(replace(config, swap_probability=None), 0) == 0


def test_average_forgets_by_half_per_half_life_and_faster_at_the_start():
    config = ScheduleConfig(ema_kimg=1, ema_rampup=0.05)
    assert ema_decay(config, 10**6, 500) ** 2 == pytest.approx(0.5)
    assert ema_decay(config, 1000, 50) == pytest.approx(0.5), "at 1000 images the half-life is 50"
    assert ema_decay(replace(config, ema_rampup=None), 1000, 1000) == pytest.approx(0.5)


def test_average_moves_parameters_and_copies_buffers():
    network = nn.BatchNorm1d(3)
    average = averaged_copy(network)
    with torch.no_grad():
        network.weight.fill_(3)
        network.running_mean.fill_(7)
    update_average(average, network, 0.75)
    torch.testing.assert_close(average.weight, torch.full((3,), 0.75 + 0.25 * 3))
    assert (average.running_mean == 7).all()
    assert not average.weight.requires_grad


def test_lazy_steps_correct_the_optimiser():
    """StyleGAN2, Appendix B: with one extra step after every k, rate and decays are taken to the power k / (k + 1)."""
    plain = build_optimizer(nn.Linear(2, 2), OptimizerConfig(lr=0.002)).param_groups[0]
    lazy = build_optimizer(nn.Linear(2, 2), OptimizerConfig(lr=0.002), 16).param_groups[0]
    assert (plain["lr"], plain["betas"]) == (0.002, (0.0, 0.99))
    assert lazy["lr"] == pytest.approx(0.002 * 16 / 17)
    assert lazy["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: default_config("huge-4096", "x"), "unknown preset 'huge-4096'"),
        (lambda: RunConfig(batch=10, batch_gpu=4), "--batch=10 is not a multiple of --batch-gpu=4"),
        (lambda: replace(default_config("tiny", "x"), run=RunConfig(batch=16, batch_gpu=2)), "minibatch standard deviation"),
        (lambda: replace(default_config("tiny", "x"), run=RunConfig(batch=6)), "minibatch standard deviation"),
        (lambda: LossConfig(gamma=-1), "gamma"),
        (lambda: ScheduleConfig(swap_probability=2), "gpc-reg-prob"),
        (lambda: OptimizerConfig(lr=0), "lr=0"),
    ],
    ids=["preset", "batch", "group", "group of batch", "gamma", "probability", "rate"],
)
def test_impossible_configurations_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
