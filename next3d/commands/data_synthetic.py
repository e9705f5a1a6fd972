"""`next3d data synthetic`: portraits of people who do not exist, with exact ground truth."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from dnnlib.machine import physical_cores
from dnnlib.params import Real
from next3d.media.portrait_files import check_target
from next3d.synthetic.generate import MAX_RESOLUTION, MIN_RESOLUTION, SyntheticConfig, write_dataset
from next3d.synthetic.sampling import PORTRAIT_CAMERAS, WIDE_CAMERAS, CameraRange

_CUT = 2.5
"""Standard deviations at which angles are cut off."""


@click.command()
@click.option("--num", type=click.IntRange(min=1), required=True, help="Number of portraits.")
@click.option(
    "--resolution", type=click.IntRange(MIN_RESOLUTION, MAX_RESOLUTION), default=64, show_default=True, help="Image size, pixels."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A name ending in .zip, or a folder.")
@click.option("--per-identity", type=click.IntRange(min=1), default=1, show_default=True, help="Consecutive images of one person.")
@click.option("--truth", is_flag=True, help="Also write normals and 478 landmarks.")
@click.option("--wide", is_flag=True, help="Cameras from profile to profile, tilted, nearer and further; the options below refine it.")
@click.option("--yaw-std", type=Real(0, 90), default=None, help="Degrees; cut off at 2.5 times that. [default: 17.2]")
@click.option("--pitch-std", type=Real(0, 60), default=None, help="Degrees; cut off at 2.5 times that. [default: 8.6]")
@click.option("--roll", type=Real(0, 180), default=None, help="Largest turn of the camera about its line of sight, degrees.")
@click.option("--distance", type=Real(0, 50), default=None, help="Cameras nearer or further by up to this, percent.")
@click.option("--focal", type=Real(0, 50), default=None, help="Focal lengths shorter or longer by up to this, percent.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--force", is_flag=True, help="Replace an existing data set.")
def synthetic(
    num: int,
    resolution: int,
    seed: int,
    out: Path,
    per_identity: int,
    truth: bool,
    wide: bool,
    yaw_std: float | None,
    pitch_std: float | None,
    roll: float | None,
    distance: float | None,
    focal: float | None,
    workers: int | None,
    force: bool,
) -> None:
    """Render portraits with camera, head parameters, landmarks, segmentation and depth.

    \b
    Examples:
      next3d data synthetic --num 4000 --resolution 64 --seed 0 --out data.zip
      next3d data synthetic --num 50 --resolution 256 --seed 1 --out portraits
      next3d data synthetic --num 60 --per-identity 6 --truth --resolution 256 --out people
      next3d data synthetic --num 500 --resolution 256 --wide --out all-around
      next3d data synthetic --num 500 --resolution 256 --roll 15 --distance 15 --out jitter
    """
    check_target(out, force=force)
    cameras = _cameras(WIDE_CAMERAS if wide else PORTRAIT_CAMERAS, yaw_std, pitch_std, roll, distance, focal)
    config = SyntheticConfig(count=num, resolution=resolution, seed=seed, per_identity=per_identity, further_truth=truth, cameras=cameras)
    start = time.perf_counter()
    write_dataset(config, out, workers=workers or physical_cores(), force=force, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - start
    click.echo(f"{out}: {num} portraits of {resolution} x {resolution} pixels, {seconds:.0f} s ({num / seconds:.1f} per second).")


def _cameras(
    cameras: CameraRange, yaw_std: float | None, pitch_std: float | None, roll: float | None, distance: float | None, focal: float | None
) -> CameraRange:
    """A range with what was asked for changed; degrees and percent become radians and parts."""
    if yaw_std is not None or pitch_std is not None:
        yaw = cameras.yaw_std if yaw_std is None else math.radians(yaw_std)
        pitch = cameras.pitch_std if pitch_std is None else math.radians(pitch_std)
        limits = min(_CUT * yaw, math.pi), min(_CUT * pitch, math.radians(80))
        cameras = replace(cameras, even=False, yaw_std=yaw, pitch_std=pitch, yaw_limit=limits[0], pitch_limit=limits[1])
    if roll is not None:
        cameras = replace(cameras, roll=math.radians(roll))
    if distance is not None:
        cameras = replace(cameras, distance=distance / 100)
    return cameras if focal is None else replace(cameras, focal=focal / 100)
