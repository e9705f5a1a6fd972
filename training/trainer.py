"""Batches to steps: what a step sees of the data set, and the averaged generator that follows."""

from __future__ import annotations

import torch
from torch import Tensor

from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.ema import update_average
from training.fakes import StepInput, prepare
from training.phases import Phases, StepSettings
from training.randomness import Draws
from training.schedule import blur_sigma, ema_decay, swap_probability
from training.state import TrainState


class Trainer:
    """Turns batches into steps. Knows nothing of files and time."""

    def __init__(self, config: TrainConfig, dataset: PortraitDataset, state: TrainState, device: torch.device) -> None:
        self.config, self.dataset, self.state, self.device = config, dataset, state, device
        self.draws = Draws(config.run.seed)
        self.phases = Phases(state.generator, state.discriminator, state.optimizers, config.loss, self.draws)
        self._labels = dataset.labels.to(device)

    def step(self, batch: Batch) -> None:
        """One step on the next batch of the run."""
        state, config = self.state, self.config
        state.generator.train()
        state.discriminator.train()
        settings = StepSettings(
            step=state.step,
            batch=len(batch),
            blur_fraction=blur_sigma(config.schedule, state.images, 1),
            swap_probability=swap_probability(config.schedule, state.images),
        )
        self.phases.step(self._parts(batch), settings)
        state.images += len(batch)
        state.step += 1
        update_average(state.average, state.generator, ema_decay(config.schedule, state.images, len(batch)))

    def _parts(self, batch: Batch) -> list[StepInput]:
        """The batch on the device, in parts, with rasters and mesh renderings."""
        positions = torch.arange(self.state.images, self.state.images + len(batch))
        size = self.config.run.part
        return [self._part(batch[i : i + size], positions[i : i + size]) for i in range(0, len(batch), size)]

    def _part(self, batch: Batch, position: Tensor) -> StepInput:
        batch = batch.map(lambda tensor: tensor.to(self.device, non_blocking=True))
        position = position.to(self.device)
        other = self.draws.below("swapped label", position, len(self._labels))
        return prepare(
            self.state.generator,
            self.config.model.discriminator,
            batch.image,
            batch.camera,
            self.dataset.head_mesh(batch),
            swapped=self._labels[other],
            position=position,
            mismatch=self.config.loss.mismatch_weight > 0,
        )
