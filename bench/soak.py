"""Does a run survive being killed? Trains a tiny network again and again, kills it at random instants and lets it go on.

    python -m bench.soak [--quick] [--kills N] [--seed N] [--json FILE] [--folder FOLDER]

Every life of a run is a process that executes `next3d train … --resume auto`, forked from this one after its imports, so that a life costs
a second and not six; SIGKILL ends it. A third of the kills fall into the start-up, a third between two steps' ticks, a third into the
writing of snapshots; the instants are keyed by the seed. After every kill all files under final names are read in full. A run that
reaches its goal is compared with one that was never killed, tensor by tensor and tick by tick, and a new one begins until there were
enough kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

import training.journal
import training.loop
from bench.report import Report
from next3d.commands.main import run_command
from next3d.commands.train import train
from next3d.synthetic.generate import SyntheticConfig, write_dataset

TICKS = 10
"""Length of a run; every tick is two steps and ends with a snapshot."""
PHASES = ("start", "steps", "saving")
PATIENCE = 120.0
"""Seconds after which a life that neither ends nor reaches its instant counts as stuck."""


@dataclass
class Soak:
    """A soak's folder, and what was found so far."""

    folder: Path
    random: random.Random
    found: Counter[str] = field(default_factory=Counter)
    start_seconds: float = 1.0
    """From the fork to the first step's end, as measured on the run that is not killed."""
    tick_seconds: float = 1.0
    """From one tick to the next."""

    def arguments(self, runs: Path) -> list[str]:
        """Of the train command."""
        goal = f"{TICKS * 0.008:.3f}"
        fixed = f"--cfg tiny --batch 4 --tick 0.008 --snap 1 --kimg {goal} --threads 1 --keep 2 --resume auto".split()
        return ["--outdir", str(runs), "--data", str(self.folder / "data.zip"), *fixed]

    def uncut(self) -> Path:
        """A run that nobody disturbs; sets the times."""
        runs, began = self.folder / "uncut", time.monotonic()
        life = Life(self.arguments(runs), self.folder / "log.txt")
        while life.ticks() == 0:
            life.check(began)
        self.start_seconds = time.monotonic() - began
        if life.wait() != 0:
            raise SystemExit(f"the undisturbed run failed:\n{life.log.read_text()}")
        self.tick_seconds = (time.monotonic() - began - self.start_seconds) / (TICKS - 1)
        return runs

    def kill_one(self, runs: Path) -> bool:
        """One life and its end; True if the run reached its goal before."""
        phase = self.random.choice(PHASES)
        left = set(runs.glob("*/.network-*"))
        life = Life(self.arguments(runs), self.folder / "log.txt")
        if phase == "start":
            life.sleep(self.random.uniform(0, self.start_seconds))
        else:
            life.until_ticks(self.random.randint(1, 2))
            if phase == "saving":
                life.until(lambda: not left.issuperset(runs.glob("*/.network-*")))
                life.sleep(self.random.uniform(0, 0.004))
            else:
                life.sleep(self.random.uniform(0, self.tick_seconds))
        ended = life.kill()
        if ended is not None and ended != 0:
            raise SystemExit(f"a life ended by itself with {ended}:\n{life.log.read_text()}")
        if ended is None:
            self.found["kills"] += 1
            self.found["kills_during_start_up"] += life.ticks() == 0
            self.found["kills_while_a_snapshot_was_written"] += not left.issuperset(runs.glob("*/.network-*"))
        return ended == 0

    def inspect(self, runs: Path) -> None:
        """Read every file that has its final name."""
        for path in sorted(runs.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                self.found["files_read"] += 1
                if (problem := unreadable(path)) is not None:
                    self.found["unreadable_files"] += 1
                    print(f"{path}: {problem}", file=sys.stderr)

    def compare(self, runs: Path, reference: Path) -> None:
        """Count what differs between a finished run and the one that was not disturbed."""
        (mine,), (theirs,) = runs.iterdir(), reference.iterdir()
        for name in ("network-000000.safetensors", "network-000000.state"):
            ours, other = load_file(mine / name), load_file(theirs / name)
            self.found["tensors_compared"] += len(other)
            self.found["tensors_that_differ"] += sum(name not in ours or not torch.equal(ours[name], other[name]) for name in other)
        ours_at, other_at = losses(mine), losses(theirs)
        self.found["ticks_compared"] += len(other_at)
        self.found["ticks_whose_losses_differ"] += sum(ours_at.get(images) != figures for images, figures in other_at.items())
        self.found["finished_runs"] += 1


class Life:
    """One process that trains."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log, self.began = log, time.monotonic()
        log.write_text("")
        self.code: int | None = None
        self.process = os.fork()
        if self.process == 0:
            _live(arguments, log)

    def ticks(self) -> int:
        """Ticks that it has told of."""
        return sum(line.startswith("kimg ") for line in self.log.read_text().splitlines())

    def check(self, began: float) -> bool:
        """Whether it still lives; rests a moment."""
        if time.monotonic() - began > PATIENCE:
            self.kill()
            raise SystemExit(f"a life is stuck:\n{self.log.read_text()}")
        time.sleep(0.0003)
        if self.code is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if process else None
        return self.code is None

    def until(self, condition: Callable[[], bool]) -> None:
        """Until it is so, or the life has ended."""
        while not condition() and self.check(self.began):
            pass

    def until_ticks(self, count: int) -> None:
        """Until it has told of so many ticks."""
        self.until(lambda: self.ticks() >= count)

    def sleep(self, seconds: float) -> None:
        """So long, or until the life has ended."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def wait(self) -> int:
        """Its exit code, when it has ended by itself."""
        self.until(lambda: False)
        assert self.code is not None
        return self.code

    def kill(self) -> int | None:
        """SIGKILL; its exit code if it had ended by itself before."""
        if self.code is None:
            os.kill(self.process, signal.SIGKILL)
            _, status = os.waitpid(self.process, 0)
            code = os.waitstatus_to_exitcode(status)
            return None if code == -signal.SIGKILL else code
        return self.code


def _live(arguments: list[str], log: Path) -> None:
    """What the forked process does; never returns."""
    code = 1
    try:
        with open(log, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        code = run_command(train, arguments, name="next3d train")
    finally:
        os._exit(code)


def unreadable(path: Path) -> str | None:
    """What is wrong with a file; None if it can be read to its end."""
    try:
        if path.suffix in (".safetensors", ".state"):
            load_file(path)
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                json.loads(line)
    except Exception as error:  # whatever it is, it is the finding
        return str(error) or type(error).__name__
    return None


def losses(folder: Path) -> dict[int, dict[str, float]]:
    """Images → losses and logits of every tick."""
    records = [json.loads(line) for line in (folder / training.journal.STATS).read_text().splitlines()]
    kinds = ("loss/", "logits/")
    return {record["images"]: {name: value for name, value in record.items() if name.startswith(kinds)} for record in records}


def soak(folder: Path, *, kills: int, seed: int) -> Report:
    """All of it."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # bit by bit is promised for the CPU
    torch.set_num_threads(1)
    began = time.monotonic()
    write_dataset(SyntheticConfig(count=12, resolution=32, seed=0), folder / "data.zip", workers=1, progress=False)
    test = Soak(folder, random.Random(seed))
    reference = test.uncut()
    number = 0
    while test.found["kills"] < kills or number > test.found["finished_runs"]:
        number = max(number, test.found["finished_runs"] + 1)
        runs = folder / f"run{number}"
        if test.found["kills"] < kills:
            finished = test.kill_one(runs)
        else:
            finished = Life(test.arguments(runs), folder / "log.txt").wait() == 0
        if runs.exists():
            test.inspect(runs)
        if finished:
            test.compare(runs, reference)
    report = Report("soak")
    for name in ("kills", "kills_during_start_up", "kills_while_a_snapshot_was_written", "finished_runs", "files_read"):
        report.add(name, test.found[name])
    for name in ("unreadable_files", "tensors_that_differ", "ticks_whose_losses_differ"):
        report.add(name, test.found[name], bar="0")
    report.add("tensors_compared", test.found["tensors_compared"])
    report.add("ticks_compared", test.found["ticks_compared"])
    report.add("minutes", (time.monotonic() - began) / 60)
    return report


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six kills")
    parser.add_argument("--kills", type=int, default=40, help="how often a process is killed")
    parser.add_argument("--seed", type=int, default=0, help="key of the instants")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--folder", type=Path, help="where runs go, and stay; a temporary folder otherwise")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report = soak(folder, kills=6 if arguments.quick else arguments.kills, seed=arguments.seed)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    report.finish(arguments.json)
    failed = sum(f.value for f in report.figures if f.bar == "0")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
