"""Metrics that are computed with every snapshot; they need no download and work for every data layout."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from next3d.generator import Generator
from next3d.media.images import from_uint8, to_uint8
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.metrics.swd import SwdReference, distance, mean_level, prepare
from training.randomness import Draws

IMAGES = 500
"""Real images, and fakes with their heads and cameras, that are compared."""


@dataclass
class SnapshotMetrics:
    """What `--metrics` asks for. Real images are read and prepared once."""

    dataset: PortraitDataset
    config: TrainConfig
    _batch: Batch | None = field(default=None, repr=False)
    _reference: SwdReference | None = field(default=None, repr=False)

    def measure(self, generator: Generator) -> dict[str, float]:
        """Figures by name, `metrics/…`; empty if none are asked for."""
        if "swd" not in self.config.run.metrics:
            return {}
        if self._batch is None or self._reference is None:
            order = Draws(self.config.run.seed).permutation("watched", 0, len(self.dataset))
            self._batch = self.dataset.read_sound(order[:IMAGES].tolist())
            self._reference = prepare(self._batch.image)
        levels = distance(prepare(self._fakes(generator, self._batch)), self._reference)
        figures = {f"metrics/swd_{level}": value for level, value in levels.items()}
        return {"metrics/swd_mean": mean_level(levels), **figures}

    @torch.no_grad()
    def _fakes(self, generator: Generator, batch: Batch) -> Tensor:
        """One image per real one, with its head and camera, rounded to 8 bits as photos are."""
        device = next(generator.parameters()).device
        latents = Draws(self.config.run.seed).normal("watched z", torch.arange(len(batch)), generator.config.latent_size)
        part, images = self.config.run.part, []
        for start in range(0, len(batch), part):
            some = batch[start : start + part].to(device)
            output = generator(latents[start : start + part].to(device), some.camera.to_label(), self.dataset.head_mesh(some))
            images.append(from_uint8(to_uint8(output.image)).cpu())
        return torch.cat(images)
