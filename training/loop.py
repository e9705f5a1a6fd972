"""A training run: ticks, snapshots, and a clean stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch

from dnnlib.errors import UserError
from dnnlib.files import atomic_write
from next3d.config import to_json
from next3d.official.published import is_published
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.folders import make_run_folder
from training.interrupt import StopRequest
from training.loader import load_batches
from training.pretrained import resume_published
from training.report import Clock, Journal, progress_line
from training.snapshots import SampleGrid, build_grid, save_snapshot
from training.state import TrainState, new_state, resume
from training.trainer import Trainer
from training.watch import SnapshotMetrics

Say = Callable[[str], None]
"""Prints a line."""


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
    """Train until `config.run.kimg`; returns the run's folder.

    Args:
        config: the whole run.
        dataset: opened at the resolution of the networks.
        outdir: where the numbered run folder goes; it is created when everything else has been checked.
        name: the folder's name after its number.
        device: where the networks are.
        resume_from: a `.state` file to continue, or a network file or published snapshot to start from.
        say: receives lines for people.

    Raises:
        UserError: bad input; nothing has been written then, or everything written is whole.
        KeyboardInterrupt: SIGINT or SIGTERM came; the step was finished and saved.
    """
    state = new_state(config, dataset.topology, device)
    if resume_from is not None:
        if is_published(resume_from):
            for line in resume_published(resume_from, state):
                say(line)
        else:
            resume(resume_from, state)
        if state.images >= _goal(config):
            raise UserError(f"{resume_from}: has already seen {state.images / 1000:g} kimg; give a larger --kimg than {config.run.kimg:g}.")
    batches = load_batches(
        dataset,
        seed=config.run.seed,
        start=state.images,
        size=config.run.batch,
        group=config.model.discriminator.group_size,
        workers=config.data.workers,
        pin=device.type == "cuda",
        max_broken=config.data.max_broken,
    )
    first, grid = next(batches), build_grid(dataset, config)  # they read files: better to fail before the folder is there
    folder = make_run_folder(outdir, name)
    say(f"Run folder: {folder}")
    with atomic_write(folder / "config.json") as temporary:
        temporary.write_text(to_json(config) + "\n", encoding="utf-8")
    with closing(Journal(folder)) as journal:
        _Run(config, Trainer(config, dataset, state, device), folder, grid, journal, say).loop(first, batches)
    return folder


def _goal(config: TrainConfig) -> int:
    """Images at which the run ends."""
    return round(config.run.kimg * 1000)


class _Run:
    """A run with its files and its clock."""

    def __init__(self, config: TrainConfig, trainer: Trainer, folder: Path, grid: SampleGrid, journal: Journal, say: Say) -> None:
        self.config, self.trainer, self.folder, self.grid, self.journal, self.say = config, trainer, folder, grid, journal, say
        self.state: TrainState = trainer.state
        self.metrics = SnapshotMetrics(trainer.dataset, config)
        self.ticks = 0
        self.saved: Path | None = None

    def loop(self, first: Batch, batches: Iterator[Batch]) -> None:
        """Steps until the end, or until somebody asks to stop."""
        self.grid.save_reals(self.folder / "reals.png")
        self.grid.save_fakes(self.folder / "fakes_init.png", self.state.average)
        goal, tick = _goal(self.config), self.config.run.tick * 1000
        self.clock = Clock(goal, self.state.images)
        next_tick = self.state.images + tick
        batch = first
        with StopRequest() as stop:
            while True:
                self.trainer.step(batch)
                done = self.state.images >= goal or stop.asked
                if self.state.images >= next_tick or done:
                    self.tick(save=done)
                    next_tick += tick
                if done:
                    break
                batch = next(batches)
        if self.state.images < goal:
            self.say(f"Stopped after {self.state.images / 1000:g} kimg; resume with --resume {self.saved}")
            raise KeyboardInterrupt  # callers must be able to tell a stopped run from a finished one

    def tick(self, *, save: bool) -> None:
        """Report; save as well if `save` says so or it is time."""
        figures = self.clock.tick(self.state.images) | self.trainer.phases.statistics.take()
        self.say(progress_line(self.state.images, figures))
        self._check_finite(figures)
        self.ticks += 1
        snap = self.config.run.snap
        if save or (snap is not None and self.ticks % snap == 0):
            self.saved = save_snapshot(self.folder, self.state, self.config)
            self.grid.save_fakes(self.folder / f"fakes{self.state.images // 1000:06d}.png", self.state.average)
            measured = self.metrics.measure(self.state.average)
            if measured:
                self.say("  ".join(f"{name} {value:.4g}" for name, value in measured.items()))
            figures |= measured
        self.journal.write(self.state.images, figures)
        self.clock.resume()

    def _check_finite(self, figures: dict[str, float]) -> None:
        """Stop a run that can only produce rubbish, before it is saved.

        Raises:
            UserError: a loss is NaN or infinite.
        """
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        if bad:
            advice = "start again" if self.saved is None else f"resume from {self.saved}"
            raise UserError(f"training: {bad[0]} is no longer a finite number; {advice} with a lower --glr and --dlr or a higher --gamma.")
