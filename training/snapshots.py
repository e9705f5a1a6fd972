"""Pictures and files that a run leaves: sample grids and snapshots, each whole or absent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dnnlib.errors import CheckpointError
from next3d.generator import Generator
from next3d.media.images import make_grid, save_png
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.folders import states_in
from training.randomness import Draws
from training.state import STATE_SUFFIX, TrainState, read_progress, save_network, save_state

GRID_PIXELS = 1024
"""A grid is at most about this wide."""
GRID_SIDE = 8
"""Most images in a row."""
FACES, HEADS = 4, 6
"""Rows and columns of the sheet of faces and heads."""


@dataclass(frozen=True)
class SampleGrid:
    """Pictures that are drawn again and again while a run goes on, always of the same latents, heads and cameras.

    Fakes: real images and, cell by cell, fakes with the same heads and cameras and a latent of their own. Heads: one face per row, one
    head and camera of the data set per column; down a column all faces do the same, along a row the face stays.
    """

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

    def fakes(self, generator: Generator) -> Tensor:
        """What a generator makes of the same heads and cameras: a picture [3, H, W] in [-1, 1] on the CPU."""
        cells = torch.arange(len(self.batch))
        return self._draw(generator, cells, cells, cells, self.columns)

    def heads(self, generator: Generator) -> Tensor:
        """The first faces, one per row, under the first heads and cameras of `fakes`: a picture as there."""
        heads = torch.arange(min(HEADS, len(self.batch)))
        faces = torch.arange(min(FACES, len(self.batch)))
        # The camera that a generator is conditioned on stays with the face: with another one it would be another face.
        rows = faces.repeat_interleave(len(heads))
        return self._draw(generator, rows, torch.zeros_like(rows), heads.repeat(len(faces)), len(heads))

    @torch.no_grad()
    def _draw(self, generator: Generator, faces: Tensor, conditions: Tensor, heads: Tensor, columns: int) -> Tensor:
        """A grid of latents `faces`, conditioned on the cameras of samples `conditions`, with head and camera of samples `heads`."""
        device = next(generator.parameters()).device
        labels, images = self.batch.camera.to_label(), []
        for start in range(0, len(faces), self.part):
            some = slice(start, start + self.part)
            batch = self.batch[heads[some]].to(device)
            latents, condition = self.latents[faces[some]].to(device), labels[conditions[some]].to(device)
            output = generator(latents, condition, self.dataset.head_mesh(batch), camera=batch.camera)
            images.append(output.image.cpu())
        return make_grid(torch.cat(images).clamp(-1, 1), columns)


def build_grid(dataset: PortraitDataset, config: TrainConfig) -> SampleGrid:
    """Choose the grid's heads and latents; the same for every run with this seed and data set."""
    columns = max(1, min(GRID_SIDE, GRID_PIXELS // dataset.resolution))
    count = min(columns * columns, len(dataset))
    draws = Draws(config.run.seed)
    chosen = draws.permutation("grid", 0, len(dataset))[:count].tolist()
    latents = draws.normal("grid z", torch.arange(count), config.model.generator.latent_size)
    return SampleGrid(dataset, dataset.read_sound(chosen), latents, min(columns, count), config.run.part)


def save_snapshot(folder: Path, state: TrainState, config: TrainConfig) -> Path:
    """Write the averaged generator and then the resume state; returns the path of the state.

    Raises:
        WriteError: there is no room; what was there before is as it was.
    """
    stem = folder / f"network-{state.images // 1000:06d}"
    save_network(stem.with_suffix(".safetensors"), state, config)
    path = stem.with_suffix(STATE_SUFFIX)
    save_state(path, state, config)
    return path


def prune(folder: Path, keep: int) -> list[Path]:
    """Delete all resume states but the newest `keep` complete ones; returns the deleted. Networks stay: they are small and worth comparing.

    A file that cannot be read counts for nothing and stays for people to look at.
    """
    whole = []
    for path in states_in(folder):
        try:
            whole.append((read_progress(path), path))
        except CheckpointError:
            continue
    old = [path for _, path in sorted(whole)[:-keep]]
    for path in old:
        path.unlink(missing_ok=True)
    return old
