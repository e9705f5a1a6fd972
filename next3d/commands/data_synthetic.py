"""`next3d data synthetic`: portraits of people who do not exist, with exact ground truth."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from dnnlib.machine import physical_cores
from next3d.synthetic.generate import MAX_RESOLUTION, MIN_RESOLUTION, SyntheticConfig, write_dataset
from next3d.synthetic.writer import check_target


@click.command()
@click.option("--num", type=click.IntRange(min=1), required=True, help="Number of portraits.")
@click.option(
    "--resolution", type=click.IntRange(MIN_RESOLUTION, MAX_RESOLUTION), default=64, show_default=True, help="Image size, pixels."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A name ending in .zip, or a folder.")
@click.option("--per-identity", type=click.IntRange(min=1), default=1, show_default=True, help="Consecutive images of one person.")
@click.option("--truth", is_flag=True, help="Also write normals and 478 landmarks.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--force", is_flag=True, help="Replace an existing data set.")
def synthetic(num: int, resolution: int, seed: int, out: Path, per_identity: int, truth: bool, workers: int | None, force: bool) -> None:
    """Render portraits with camera, head parameters, landmarks, segmentation and depth.

    \b
    Examples:
      next3d data synthetic --num 4000 --resolution 64 --seed 0 --out data.zip
      next3d data synthetic --num 50 --resolution 256 --seed 1 --out portraits
      next3d data synthetic --num 60 --per-identity 6 --truth --resolution 256 --out people
    """
    check_target(out, force=force)
    config = SyntheticConfig(count=num, resolution=resolution, seed=seed, per_identity=per_identity, further_truth=truth)
    start = time.perf_counter()
    write_dataset(config, out, workers=workers or physical_cores(), force=force, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - start
    click.echo(f"{out}: {num} portraits of {resolution} x {resolution} pixels, {seconds:.0f} s ({num / seconds:.1f} per second).")
