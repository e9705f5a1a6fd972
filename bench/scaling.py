"""What a second process brings: `python -m bench.scaling [--quick] [--json FILE]`.

Three processes with one thread each stay alive and take turns: one that trains alone, and two that train together. Each has the same
images per step, as each GPU would. Beside it stand the share of time that goes into communication (the same steps with gradients that
stay where they are), the loader alone, and memory over epochs.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import psutil
import torch

import training.phases
from bench.data_loader import loader_rate
from bench.report import Report
from next3d.config import PRESETS
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from torch_utils.distributed import barrier, join, world
from torch_utils.replica import Replica, accumulate
from training.config import default_config
from training.dataset import PortraitDataset, open_dataset
from training.launch import shared_out
from training.loader import load_batches
from training.state import new_state
from training.trainer import Trainer

EPOCHS = 10
GROWTH_BAR = 32
"""MB that count as flat."""


@dataclass(frozen=True)
class Task:
    """What the processes train."""

    preset: str
    data: str
    share: int
    """Images per step and process."""
    least_steps: int = 16
    """An epoch has at least so many steps, so that each holds R1, which takes most memory."""

    def dataset(self) -> PortraitDataset:
        """The images, at the size of the networks."""
        return open_dataset(self.data, default_config(self.preset, self.data).model.generator.image_resolution)


@dataclass(frozen=True)
class Taken:
    """Time per step."""

    seconds: float
    """On the clock."""
    processor: float
    """Of one core, in all threads of the process: what other programs do does not count."""


class Worker:
    """What one process does when it is asked."""

    def __init__(self, task: Task) -> None:
        me, dataset = world(), task.dataset()
        config = default_config(task.preset, task.data)
        config = shared_out(replace(config, run=replace(config.run, batch=task.share * me.size)), me.size)
        self.trainer = Trainer(config, dataset, new_state(config, dataset.topology, torch.device("cpu")), torch.device("cpu"))
        group = config.model.discriminator.group_size
        self.batches = load_batches(dataset, seed=0, start=0, size=config.run.batch, group=group, rank=me.rank, ranks=me.size)
        self.epoch = max(task.least_steps, len(dataset) // config.run.batch)

    def steps(self, count: int) -> Taken:
        """So many steps, all ranks beginning and ending together."""
        barrier()
        start, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            self.trainer.step(next(self.batches))
        barrier()
        return Taken((time.perf_counter() - start) / count, (time.process_time() - processor) / count)

    def silent_steps(self, count: int) -> Taken:
        """The same with gradients that stay on their rank."""
        with patch.object(training.phases, "accumulate", _kept):
            return self.steps(count)

    def memory(self, epochs: int) -> float:
        """MB that this process gains: the least at the end of an epoch, in the second half of the epochs against the first half, without
        the very first epoch. Single ends go up and down by what the allocator keeps."""
        marks = []
        for _ in range(epochs):
            self.steps(self.epoch)
            self.trainer.settle()
            self.trainer.phases.statistics.take()
            marks.append(psutil.Process().memory_full_info().uss / 1e6)
        middle = (1 + epochs) // 2
        return min(marks[middle:]) - min(marks[1:middle] or marks[:middle])


@contextmanager
def _kept(*replicas: Replica, last: bool) -> Iterator[None]:
    """What `accumulate` does for every part but the last."""
    with accumulate(*replicas, last=False):
        yield


def serve(rank: int, size: int, port: int, task: Task, pipe: Connection) -> None:
    """A process: joins its group, makes a trainer, and answers until it is told None."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in values.items()})
    torch.set_num_threads(1)
    with join(torch.device("cpu")):
        worker = Worker(task)
        pipe.send("ready")
        while (request := pipe.recv()) is not None:
            name, argument = request
            pipe.send(getattr(worker, name)(argument))


class Group:
    """Processes that train together."""

    def __init__(self, size: int, task: Task) -> None:
        os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # DistributedDataParallel warns of what is meant
        context = multiprocessing.get_context("spawn")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.pipes: list[Connection] = []
        self.processes: list[SpawnProcess] = []
        for rank in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, size, port, task, theirs))
            process.start()
            theirs.close()
            self.pipes.append(mine)
            self.processes.append(process)
        for pipe in self.pipes:
            pipe.recv()

    def ask(self, name: str, argument: int) -> list[Any]:
        """Call a method of every worker at once; their answers."""
        for pipe in self.pipes:
            pipe.send((name, argument))
        return [pipe.recv() for pipe in self.pipes]

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if process.is_alive():
                pipe.send(None)
            process.join(30)
            process.kill()


def measure_steps(alone: Group, pair: Group, *, turns: int, steps: int) -> dict[str, Taken]:
    """Median times per step of both, in turns, and of both together without communication; of ranks, the slower one's."""
    taken: dict[str, list[Taken]] = {"alone": [], "pair": [], "silent": []}
    for turn in range(1 + turns):
        answers = {"alone": alone.ask("steps", steps), "pair": pair.ask("steps", steps), "silent": pair.ask("silent_steps", steps)}
        if turn:
            for name, ranks in answers.items():
                taken[name].append(Taken(max(one.seconds for one in ranks), max(one.processor for one in ranks)))
    return {
        name: Taken(statistics.median(one.seconds for one in all_), statistics.median(one.processor for one in all_))
        for name, all_ in taken.items()
    }


def run(task: Task, *, turns: int, steps: int, epochs: int) -> Report:
    """All figures."""
    report, note = Report("scaling"), f"{task.preset}, {task.share} images per process and step, one thread each"
    with ExitStack() as stack:
        alone, pair = Group(1, task), None
        stack.callback(alone.close)
        pair = Group(2, task)
        stack.callback(pair.close)
        times = measure_steps(alone, pair, turns=turns, steps=steps)
        growth = {"one": max(alone.ask("memory", epochs)), "two": max(pair.ask("memory", epochs))}
    rates = {"one_process": task.share / times["alone"].seconds, "two_processes": 2 * task.share / times["pair"].seconds}
    for name, rate in rates.items():
        report.add(f"{name}_images_per_second", rate, note=note)
    report.add("speedup", rates["two_processes"] / rates["one_process"], bar="> 1.6", note=f"medians of {turns} turns of {steps} steps")
    processor = 2 * times["alone"].processor / times["pair"].processor
    report.add("speedup_of_processor_time", processor, note="the same from each process's time on its core: other programs leave it alone")
    busy = 1 - times["silent"].seconds / times["pair"].seconds
    report.add("communication_fraction", busy, note="of two processes' time: what steps gain whose gradients are not averaged")
    dataset = task.dataset()
    loader = loader_rate(dataset, workers=0)
    ratio = loader.first / rates["one_process"]
    report.add("loader_images_per_second", loader.first, note="alone, no loader processes, every image decoded")
    report.add("loader_to_step_ratio", ratio, bar="> 20", note="how many times faster than one process trains")
    for name, megabytes in growth.items():
        report.add(
            f"memory_growth_{name}_mb",
            megabytes,
            bar=f"< {GROWTH_BAR}",
            note=f"{name} process(es), {epochs} epochs, second half against first",
        )
    return report


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), default="demo-64", show_default=True, help="Which networks.")
@click.option("--data", type=click.Path(exists=True), help="Train on this data set instead of fresh synthetic portraits.")
@click.option("--images", type=click.IntRange(min=16), default=48, show_default=True, help="Fresh portraits: an epoch.")
@click.option("--share", type=click.IntRange(min=4), default=8, show_default=True, help="Images per step and process.")
@click.option("--turns", type=click.IntRange(min=1), default=6, show_default=True, help="How often the two take turns.")
@click.option("--quick", is_flag=True, help="One turn of one step, 16 portraits, two epochs.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(preset: str, data: str | None, images: int, share: int, turns: int, quick: bool, json_path: Path | None) -> None:
    """Compare one process with two, and the loader with both."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = str(Path(folder) / "data.zip")
            size = default_config(preset, data).model.generator.image_resolution
            write_dataset(SyntheticConfig(count=16 if quick else images, resolution=size), Path(data))
        task = Task(preset, data, share, least_steps=1 if quick else 16)
        report = run(task, turns=1, steps=1, epochs=2) if quick else run(task, turns=turns, steps=4, epochs=EPOCHS)
    report.finish(json_path)


if __name__ == "__main__":
    main()
