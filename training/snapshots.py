"""Pictures and files that a run leaves: sample grids and snapshots, each whole or absent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from next3d.generator import Generator
from next3d.media.images import make_grid, save_png
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.randomness import Draws
from training.state import STATE_SUFFIX, TrainState, save_network, save_state

GRID_PIXELS = 1024
"""A grid is at most about this wide."""
GRID_SIDE = 8
"""Most images in a row."""


@dataclass(frozen=True)
class SampleGrid:
    """Real images and, cell by cell, fakes with the same heads and cameras and a latent of their own."""

    dataset: PortraitDataset
    batch: Batch
    latents: Tensor
    """[N, Z]."""
    columns: int
    part: int
    """Images generated at once."""

    def save_reals(self, path: Path) -> None:
        """The real images."""
        save_png(path, make_grid(self.batch.image, self.columns))

    @torch.no_grad()
    def save_fakes(self, path: Path, generator: Generator) -> None:
        """What a generator makes of the same heads and cameras."""
        device = next(generator.parameters()).device
        images = []
        for start in range(0, len(self.batch), self.part):
            some = slice(start, start + self.part)
            batch = self.batch[some].to(device)
            output = generator(self.latents[some].to(device), batch.camera.to_label(), self.dataset.head_mesh(batch))
            images.append(output.image.cpu())
        save_png(path, make_grid(torch.cat(images).clamp(-1, 1), self.columns))


def build_grid(dataset: PortraitDataset, config: TrainConfig) -> SampleGrid:
    """Choose the grid's heads and latents; the same for every run with this seed and data set."""
    columns = max(1, min(GRID_SIDE, GRID_PIXELS // dataset.resolution))
    count = min(columns * columns, len(dataset))
    draws = Draws(config.run.seed)
    chosen = draws.permutation("grid", 0, len(dataset))[:count].tolist()
    latents = draws.normal("grid z", torch.arange(count), config.model.generator.latent_size)
    return SampleGrid(dataset, dataset.read(chosen), latents, min(columns, count), config.run.part)


def save_snapshot(folder: Path, state: TrainState, config: TrainConfig) -> Path:
    """Write the averaged generator and the resume state; returns the path of the state."""
    stem = folder / f"network-{state.images // 1000:06d}"
    save_network(stem.with_suffix(".safetensors"), state, config)
    path = stem.with_suffix(STATE_SUFFIX)
    save_state(path, state, config)
    return path
