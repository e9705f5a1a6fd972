"""The recipe on several ranks: every draw belongs to a sample's position, every controller to the whole batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.processes import run_ranks
from tests.training.test_ranks import CPU, ranks_config, train, weights_of
from training.augment import STRENGTH
from training.conditions import fitted
from training.config import TRANSFORMS, AugmentConfig, TrainConfig
from training.dataset import PortraitDataset
from training.state import new_state


def recipe(dataset: PortraitDataset) -> TrainConfig:
    """Everything that draws, adapts, changes with time, or leaves parts alone."""
    config = ranks_config()
    config = replace(
        config,
        loss=replace(config.loss, label_noise=0.3, density_kind="monotonic"),
        schedule=replace(config.schedule, raw_initial=8, raw_final=16, raw_fade_kimg=0.03),
        augment=AugmentConfig(kind="ada", p=0.5, target=1.0, interval=2, speed_kimg=0.2, transforms=TRANSFORMS),
        data=replace(config.data, mirror=True, expression=True),
        generator_optimizer=replace(config.generator_optimizer, multipliers=(("decoder", 0.5), ("superres", 0.0))),
        discriminator_optimizer=replace(config.discriminator_optimizer, frozen_blocks=1),
    )
    return fitted(config, dataset)


def four_steps(dataset: PortraitDataset) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """In float64: losses, weights and the strength of the augmentation."""
    config = recipe(dataset)
    state = new_state(config, dataset.topology, CPU)
    for network in state.networks().values():
        network.double()
    losses = train(state, config, dataset, 4)
    kept = {name: value for name, network in state.networks().items() for name, value in weights_of(name, network)}
    return losses, kept | {STRENGTH: state.counters[STRENGTH]}


def test_the_recipe_does_not_depend_on_the_number_of_ranks(even):
    losses, alone = four_steps(even)
    assert alone[STRENGTH] == pytest.approx(0.5 - 2 * 8 * 2 / 200)
    for split_losses, split in run_ranks(four_steps, 2, even, timeout=120):
        for one, several in zip(losses, split_losses, strict=True):
            assert several == pytest.approx(one, rel=1e-9)
        for name, value in alone.items():
            assert (split[name] - value).norm() <= 1e-9 * value.norm(), name
