"""`next3d data synthetic-video`: videos of people who do not exist, with exact ground truth for every frame."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from dnnlib.errors import UserError
from dnnlib.machine import physical_cores
from dnnlib.params import Real
from next3d.media.portrait_files import check_target
from next3d.media.video import open_video
from next3d.synthetic.clips import ClipConfig, frame_name
from next3d.synthetic.generate import MAX_RESOLUTION, MIN_RESOLUTION, write_dataset
from training.storage import FolderStorage, ZipStorage


@click.command()
@click.option("--num", type=click.IntRange(min=1), required=True, help="Number of clips, each of another person.")
@click.option("--seconds", type=Real(min=0, min_open=True), default=4.0, show_default=True, help="Length of a clip.")
@click.option("--fps", type=Real(1, 240), default=25.0, show_default=True, help="Frames per second.")
@click.option(
    "--resolution", type=click.IntRange(MIN_RESOLUTION, MAX_RESOLUTION), default=128, show_default=True, help="Image size, pixels."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A name ending in .zip, or a folder.")
@click.option("--mp4", is_flag=True, help="Also write each clip as a video beside the data set.")
@click.option("--truth", is_flag=True, help="Also write normals and 478 landmarks.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--force", is_flag=True, help="Replace an existing data set, and videos.")
def synthetic_video(
    num: int,
    seconds: float,
    fps: float,
    resolution: int,
    seed: int,
    out: Path,
    mp4: bool,
    truth: bool,
    workers: int | None,
    force: bool,
) -> None:
    """Render people who talk, blink and look around; every frame with camera, head parameters, landmarks, segmentation and depth.

    \b
    Examples:
      next3d data synthetic-video --num 4 --seconds 6 --resolution 256 --out clips --mp4
      next3d data synthetic-video --num 100 --resolution 64 --out clips.zip
    """
    frames = max(1, round(seconds * fps))
    config = ClipConfig(clips=num, frames=frames, fps=fps, resolution=resolution, seed=seed, further_truth=truth)
    check_target(out, force=force)
    videos = [out.with_name(f"{out.stem}-clip{clip:05d}.mp4") for clip in range(num)] if mp4 else []
    for video in videos:
        if video.exists() and not force:
            raise UserError(f"{video}: already exists; choose another name or replace it with --force.")
    start = time.perf_counter()
    write_dataset(config, out, workers=workers or physical_cores(), force=force, progress=sys.stderr.isatty())
    taken = time.perf_counter() - start
    for clip, video in enumerate(videos):
        _film(out, config, clip, video)
    rate = f"{taken:.0f} s ({num * frames / taken:.1f} frames per second)"
    click.echo(f"{out}: {num} clips of {frames} frames of {resolution} x {resolution} pixels, {rate}.")


def _film(data: Path, config: ClipConfig, clip: int, video: Path) -> None:
    """One clip's frames, read back, as a video."""
    storage = FolderStorage(data) if data.is_dir() else ZipStorage(data)
    with open_video(video, config.fps) as writer:
        for frame in range(config.frames):
            content = storage.read(f"images/{frame_name(clip, frame)}")
            writer.write(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
