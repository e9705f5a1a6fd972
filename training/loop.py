"""The training loop: batches in, steps of both networks, a line per tick, snapshots, and a clean stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dnnlib.errors import UserError
from dnnlib.files import atomic_write
from next3d.config import to_json
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.ema import update_average
from training.fakes import StepInput, prepare
from training.folders import make_run_folder
from training.interrupt import StopRequest
from training.loader import load_batches
from training.phases import Phases, StepSettings
from training.randomness import Draws
from training.report import Clock, Journal, progress_line
from training.schedule import blur_sigma, ema_decay, swap_probability
from training.snapshots import SampleGrid, build_grid, save_snapshot
from training.state import TrainState, new_state, resume
from training.watch import SnapshotMetrics

Say = Callable[[str], None]
"""Prints a line."""


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


def train(
    config: TrainConfig,
    dataset: PortraitDataset,
    outdir: Path,
    *,
    name: str,
    device: torch.device,
    resume_from: Path | None = None,
    say: Say = print,
) -> Path:
    """Train until `config.run.kimg`, or until SIGINT or SIGTERM; returns the run's folder.

    Args:
        config: the whole run.
        dataset: opened at the resolution of the networks.
        outdir: where the numbered run folder goes; it is created when everything else has been checked.
        name: the folder's name after its number.
        device: where the networks are.
        resume_from: a `.state` file to continue, or a network file to start from.
        say: receives lines for people.

    Raises:
        UserError: bad input; nothing has been written then, or everything written is whole.
    """
    state = new_state(config, dataset.topology, device)
    if resume_from is not None:
        resume(resume_from, state)
    run = _Run(config, dataset, state, device, say)
    grid = build_grid(dataset, config)  # reads files: better to fail before the folder is there
    batches = run.batches()
    first = next(batches)
    folder = make_run_folder(outdir, name)
    say(f"Run folder: {folder}")
    with atomic_write(folder / "config.json") as temporary:
        temporary.write_text(to_json(config) + "\n", encoding="utf-8")
    run.loop(folder, grid, first, batches)
    return folder


@dataclass
class _Run:
    """A run with its files and its clock."""

    config: TrainConfig
    dataset: PortraitDataset
    state: TrainState
    device: torch.device
    say: Say

    def batches(self) -> Iterator[Batch]:
        """What is left of the run's endless stream."""
        config = self.config
        return load_batches(
            self.dataset,
            seed=config.run.seed,
            start=self.state.images,
            size=config.run.batch,
            workers=config.data.workers,
            pin=self.device.type == "cuda",
        )

    def loop(self, folder: Path, grid: SampleGrid, first: Batch, batches: Iterator[Batch]) -> None:
        """Steps, ticks and snapshots until the end."""
        run, state = self.config.run, self.state
        goal = round(run.kimg * 1000)
        trainer = Trainer(self.config, self.dataset, state, self.device)
        journal = Journal(folder)
        grid.save_reals(folder / "reals.png")
        grid.save_fakes(folder / "fakes_init.png", state.average)
        metrics = SnapshotMetrics(self.dataset, self.config)
        clock = Clock(goal, state.images)
        ticks, next_tick = 0, state.images + run.tick * 1000
        saved: Path | None = None
        batch = first
        with StopRequest() as stop:
            while state.images < goal:
                trainer.step(batch)
                done = state.images >= goal or stop.asked
                if state.images >= next_tick or done:
                    figures = clock.tick(state.images) | trainer.phases.statistics.take()
                    self.say(progress_line(state.images, figures))
                    _check_finite(figures, saved)
                    ticks, next_tick = ticks + 1, next_tick + run.tick * 1000
                    if done or (run.snap is not None and ticks % run.snap == 0):
                        saved = self._snapshot(folder, grid)
                        measured = metrics.measure(state.average)
                        figures |= measured
                        if measured:
                            self.say("  ".join(f"{name} {value:.4g}" for name, value in measured.items()))
                    journal.write(state.images, figures)
                    clock.resume()
                if done:
                    break
                batch = next(batches)
        journal.close()
        if stop.asked and state.images < goal:
            self.say(f"Stopped after {state.images / 1000:g} kimg; resume with --resume {saved}")

    def _snapshot(self, folder: Path, grid: SampleGrid) -> Path:
        """Networks, resume state and a grid."""
        path = save_snapshot(folder, self.state, self.config)
        grid.save_fakes(folder / f"fakes{self.state.images // 1000:06d}.png", self.state.average)
        return path


def _check_finite(figures: dict[str, float], saved: Path | None) -> None:
    """Stop a run that can only produce rubbish, before it is saved.

    Raises:
        UserError: a loss is NaN or infinite.
    """
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        advice = f"resume from {saved}" if saved is not None else "start again"
        raise UserError(f"training: {bad[0]} is no longer a finite number; {advice} with a lower --glr and --dlr or a higher --gamma.")
