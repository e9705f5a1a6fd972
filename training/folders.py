"""Run folders: `00000-demo-64-data-gpus1-batch16-gamma1`, numbered as users of this field know them."""

from __future__ import annotations

import re
from pathlib import Path

from dnnlib.files import make_output_folder
from training.config import TrainConfig


def run_name(config: TrainConfig, description: str = "") -> str:
    """What a run's folder is called after its number."""
    data = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(config.data.path).absolute().stem)
    parts = [config.preset, data, "gpus1", f"batch{config.run.batch}", f"gamma{config.loss.gamma:g}"]
    return "-".join([*parts, description] if description else parts)


def make_run_folder(outdir: Path, name: str) -> Path:
    """Create the folder with the next free number.

    Raises:
        UserError: it cannot be created.
    """
    make_output_folder(outdir)
    numbers = [int(match[0]) for path in outdir.iterdir() if path.is_dir() and (match := re.match(r"\d+", path.name))]
    return make_output_folder(outdir / f"{max(numbers, default=-1) + 1:05d}-{name}")
