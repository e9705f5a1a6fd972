"""A training run: where it starts, ticks, snapshots, and a clean stop. With several processes, each runs this; the first one writes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from dnnlib.errors import UserError
from next3d.official.published import is_published
from torch_utils.distributed import any_rank, barrier, text_of_first, world
from training.anomalies import Anomalies
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.folders import make_run_folder, newest_run, newest_state
from training.interrupt import Stopped, StopRequest
from training.loader import BatchStream, load_batches
from training.pretrained import resume_published
from training.recorder import Recorder
from training.report import Clock, progress_line
from training.snapshots import build_grid
from training.state import TrainState, new_state, resume
from training.trainer import Trainer
from training.watch import SnapshotMetrics

Say = Callable[[str], None]
"""Prints a line."""
AUTO = "auto"
AGREE_EVERY = 4
"""Processes ask each other every so many steps whether one of them was asked to stop."""


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    source: Path | None = None
    """A `.state` file or a folder with a packed state to continue, or a network file or published snapshot to start from."""
    folder: Path | None = None
    """An earlier process's run folder to go on in; None makes a new one."""


def train(
    config: TrainConfig,
    dataset: PortraitDataset,
    outdir: Path,
    *,
    name: str,
    device: torch.device,
    resume_from: Path | str | None = None,
    say: Say = print,
    stop: StopRequest | None = None,
) -> Path:
    """Train until `config.run.kimg`; returns the run's folder.

    Args:
        config: the whole run.
        dataset: opened at the resolution of the networks.
        outdir: where the numbered run folder goes; it is created when everything else has been checked.
        name: the folder's name after its number.
        device: where the networks are.
        resume_from: a `.state` file or a folder with a packed state to continue, a network file or published snapshot to start from, or
            "auto": the newest complete state of the newest run of this name, which then goes on in its folder.
        say: receives lines for people, in the first process.
        stop: listens for signals already; None listens here.

    Raises:
        UserError: bad input; nothing has been written then, or everything written is whole.
        Stopped: SIGINT or SIGTERM came; the step was finished and saved. Its text says how to go on.
    """
    say = say if world().is_first else _silent
    with StopRequest() if stop is None else nullcontext(stop) as request:
        start = _find_start(outdir, name, resume_from, say)
        state = new_state(config, dataset.topology, device)
        _load(start, state, say)
        if state.images >= _goal(config):
            seen = f"{start.source}: has already seen {state.images / 1000:g} kimg"
            if start.folder is None:
                raise UserError(f"{seen}; give a larger --kimg than {config.run.kimg:g}.")
            say(f"{seen}; nothing is left to do.")
            return start.folder
        with closing(_open_batches(config, dataset, state.images, device)) as batches:
            first = next(batches)
            grid = build_grid(dataset, config) if world().is_first else None  # reads files: better to fail before the folder is there
            trainer, metrics = Trainer(config, dataset, state, device), SnapshotMetrics(dataset, config, device)
            made = str(start.folder or make_run_folder(outdir, name)) if world().is_first else ""
            folder = Path(text_of_first(made))
            say(f"Run folder: {folder}")
            recorder = None if grid is None else Recorder(folder, config, grid, start.source, state.images, say)
            try:
                _Run(config, trainer, metrics, folder, recorder, say).loop(first, batches, request)
            finally:
                if recorder is not None:
                    recorder.close()
    return folder


def _silent(line: str) -> None:
    """Only the first process talks to people."""


def _goal(config: TrainConfig) -> int:
    """Images at which the run ends."""
    return round(config.run.kimg * 1000)


def _find_start(outdir: Path, name: str, resume_from: Path | str | None, say: Say) -> Start:
    """Look for the files that a run begins with; the first process looks, and all take what it found."""
    if resume_from != AUTO:
        return Start(None if resume_from is None else Path(resume_from))
    folder = newest_run(outdir, name) if world().is_first else None
    source = None if folder is None else newest_state(folder, say)
    found = [Path(text) if text else None for text in text_of_first(f"{source or ''}\n{folder or ''}").split("\n")]
    if found[0] is not None:
        say(f"Continuing {found[0]}")
    elif found[1] is not None:
        say(f"{found[1]} has no complete state yet: beginning again there.")
    return Start(*found)


def _load(start: Start, state: TrainState, say: Say) -> None:
    if start.source is None:
        return
    if is_published(start.source):
        for line in resume_published(start.source, state):
            say(line)
    else:
        resume(start.source, state)


def _open_batches(config: TrainConfig, dataset: PortraitDataset, images: int, device: torch.device) -> BatchStream:
    return load_batches(
        dataset,
        seed=config.run.seed,
        start=images,
        size=config.run.batch,
        group=config.model.discriminator.group_size,
        rank=world().rank,
        ranks=world().size,
        workers=config.data.workers,
        pin=device.type == "cuda",
        max_broken=config.data.max_broken,
    )


class _Run:
    """A run with its clock."""

    def __init__(
        self, config: TrainConfig, trainer: Trainer, metrics: SnapshotMetrics, folder: Path, recorder: Recorder | None, say: Say
    ) -> None:
        self.config, self.trainer, self.metrics, self.recorder, self.say = config, trainer, metrics, recorder, say
        self.state: TrainState = trainer.state
        self.anomalies = Anomalies(config.run.max_skipped, trainer.dataset.original_name, None if recorder is None else folder, say)
        self.ticks = self._ticks_so_far()
        self.unsaved = False

    def loop(self, first: Batch, batches: BatchStream, stop: StopRequest) -> None:
        """Steps until the end, or until somebody asks to stop."""
        if self.recorder is not None:
            self.recorder.begin(self.state.average)
        self.clock = Clock(_goal(self.config), self.state.images)
        barrier()  # while the first process draws, the others wait here, not in the first step
        stop.begin()
        self._steps(first, batches, stop)
        if self.state.images < _goal(self.config):
            saved = None if self.recorder is None else self.recorder.saved
            raise Stopped(f"Stopped after {self.state.images / 1000:g} kimg; resume with --resume {saved}")

    def _steps(self, batch: Batch, batches: BatchStream, stop: StopRequest) -> None:
        goal = _goal(self.config)
        while True:
            self.trainer.step(batch)
            last = self.state.images >= goal or self._stopping(stop)
            ticks = self._ticks_so_far()
            if ticks > self.ticks or last:
                snap = self.config.run.snap
                due = snap is not None and ticks // snap > self.ticks // snap
                self.ticks = ticks
                self.tick(batches, save=last or due or self.unsaved, last=last)
            if last:
                return
            batch = next(batches)

    def _ticks_so_far(self) -> int:
        return int(self.state.images / (self.config.run.tick * 1000) + 1e-6)

    def _stopping(self, stop: StopRequest) -> bool:
        """Whether this was the last step, the same answer everywhere. Several processes wait for each other's hosts, but for no GPU."""
        if world().size == 1:
            return stop.asked
        return self.state.step % AGREE_EVERY == 0 and any_rank(stop.asked)

    def tick(self, batches: BatchStream, *, save: bool, last: bool) -> None:
        """Report, and save if `save` says so."""
        recorder = self.recorder
        figures = self.clock.tick(self.state.images) | self.trainer.phases.statistics.take() | self._counters()
        figures["data/broken"] = batches.broken.over_ranks()
        self.anomalies.judge(self.trainer.settle(), None if recorder is None else recorder.saved)
        figures["skipped_steps"] = self.anomalies.total
        self.say(progress_line(self.state.images, figures))
        if recorder is not None:
            recorder.write(self.state.images, figures)  # before the snapshot: a run that goes on from it has all figures up to there
        if save and self._save(last):
            stopped = last and self.state.images < _goal(self.config)  # whoever asked does not want to wait for metrics
            measured = {} if stopped else self.metrics.measure(self.state.average)
            if measured:
                self.say("  ".join(f"{name} {value:.4g}" for name, value in measured.items()))
            if recorder is not None:
                recorder.write(self.state.images, measured, recorder.draw(self.state))
        self.clock.resume()

    def _counters(self) -> dict[str, float]:
        """Counters that are one number."""
        return {name.replace(".", "/"): float(value) for name, value in self.state.counters.items() if value.numel() == 1}

    def _save(self, last: bool) -> bool:
        """Whether the first process wrote a snapshot; if it must stop because it cannot, all do.

        Raises:
            UserError: the run must stop.
        """
        saved, error = False, None
        if self.recorder is not None:
            try:
                saved = self.recorder.save(self.state, last=last)
            except UserError as caught:
                error = caught
        if any_rank(error is not None):
            raise error or UserError("training: the first process stops the run.")
        self.unsaved = not any_rank(saved)
        return not self.unsaved
