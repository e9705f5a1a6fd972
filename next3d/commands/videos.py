"""`next3d videos`, `python gen_videos.py`: generated heads that move."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from dnnlib.params import GRID, OutputFile
from dnnlib.progress import progress_bar
from next3d.commands.network import network_options, open_network

MIN_TILE = 256
"""Tiles of small networks are enlarged to this, so that a video can be watched."""


@click.command()
@network_options
@click.option("--grid", type=GRID, help="Tiles, columns x rows: 2x2.  [default: the seeds side by side]")
@click.option("--motion", default="orbit", show_default=True, help="gaze, expression, jaw, blink, orbit or interpolate.")
@click.option("--out", type=OutputFile(".mp4"), required=True, help="The video, an .mp4 file.")
@click.option("--frames", type=click.IntRange(min=1), default=120, show_default=True, help="Length; the motion fills it once and loops.")
@click.option("--fps", type=click.FloatRange(1, 240), default=30, show_default=True, help="Frames per second.")
@click.option("--size", type=click.IntRange(16, 4096), help="Pixels per tile.  [default: the network's, at least 256]")
@click.option("--mesh", is_flag=True, help="Show the posed mesh beside every face.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Tiles rendered at once.")
def videos(
    network: Path,
    seeds: list[int],
    trunc: float,
    trunc_cutoff: int | None,
    head_seed: int,
    device: str,
    threads: int | None,
    grid: tuple[int, int] | None,
    motion: str,
    out: Path,
    frames: int,
    fps: float,
    size: int | None,
    mesh: bool,
    batch: int,
) -> None:
    """Write a video of generated heads that move.

    gaze, expression, jaw and blink move the head under a fixed camera; orbit swings the camera around a still head;
    interpolate turns each face into the next.

    \b
    Examples:
      python gen_videos.py --network network-000010.safetensors --seeds 0-3 --grid 2x2 --motion gaze --out gaze.mp4
      python gen_videos.py --network network-000010.safetensors --seeds 0-7 --grid 1x1 --motion interpolate --frames 240 --out walk.mp4
    """
    from next3d.media.scene import VideoConfig, film
    from next3d.media.video import open_video

    columns, rows = grid or (len(seeds), 1)
    config = VideoConfig(
        seeds=tuple(seeds),
        columns=columns,
        rows=rows,
        motion=motion,
        frames=frames,
        size=size,
        truncation=trunc,
        cutoff=trunc_cutoff,
        head_seed=head_seed,
        batch=batch,
        mesh=mesh,
    )
    generator, head = open_network(network, device, threads)
    if size is None:
        config = replace(config, size=max(generator.config.image_resolution, MIN_TILE))
    with progress_bar(frames, motion, unit="frame") as bar, open_video(out, fps) as video:
        for frame in film(generator, head, config):
            video.write(frame)
            bar.update()
    click.echo(f"{out}: {frames} frames, {frames / fps:g} s")
