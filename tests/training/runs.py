"""Short runs for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training.config import TrainConfig, default_config
from training.dataset import open_dataset
from training.folders import run_name
from training.interrupt import StopRequest
from training.loop import train

CPU = torch.device("cpu")


def quick_config(data: Path, steps: int, **run: Any) -> TrainConfig:
    """`steps` steps of four images, a snapshot after every second one."""
    config = default_config("tiny", str(data))
    run = {"batch": 4, "kimg": steps * 0.004, "tick": 0.008, "snap": 1, **run}
    return replace(config, run=replace(config.run, **run), loss=replace(config.loss, density_points=16))


def go(
    config: TrainConfig,
    outdir: Path,
    resume: Path | str | None = None,
    say: Callable[[str], None] = print,
    stop: StopRequest | None = None,
) -> Path:
    """The command's way into the loop."""
    dataset = open_dataset(config.data.path, 32)
    return train(config, dataset, outdir, name=run_name(config), device=CPU, resume_from=resume, say=say, stop=stop)


def assert_equal_states(first: Path, second: Path) -> None:
    """Both runs have ended with the same networks, moments and counters, bit by bit."""
    ours, theirs = (load_file(max(folder.glob("*.state"))) for folder in (first, second))
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
