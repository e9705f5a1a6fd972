"""`next3d videos`, `python gen_videos.py`: generated heads that move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.errors import UserError
from dnnlib.params import EXISTING_FOLDER, GRID, OUTPUT_DIR, OutputFile, Real
from dnnlib.progress import progress_bar
from next3d.commands.flame import flame_option
from next3d.commands.network import (
    HeadFiles,
    head_files,
    head_options,
    network_options,
    open_head,
    open_network,
    read_head,
    topology_of,
)

if TYPE_CHECKING:
    from next3d.generator import TriplaneGenerator
    from next3d.media.performance import Performance

MIN_TILE = 256
"""Tiles of small networks are enlarged to this, so that a video can be watched."""
DEFAULT_MOTION = "orbit"
DEFAULT_FRAMES = 120
VIDEO_FILE = OutputFile(".mp4")


@click.command()
@network_options
@head_options
@flame_option
@click.option("--grid", type=GRID, help="Tiles, columns x rows: 2x2.  [default: the seeds side by side]")
@click.option("--motion", help="gaze, expression, jaw, blink, talk, turn, orbit or interpolate.  [default: orbit]")
@click.option(
    "--drive",
    "--drive-root",
    "--drive_root",
    type=EXISTING_FOLDER,
    help="Tracked film, or folder of meshes and cameras, frame by frame, in place of --motion.",
)
@click.option("--fixed-camera", is_flag=True, help="With --drive: the portrait camera instead of the folder's.")
@click.option("--out", type=VIDEO_FILE, help="The video, an .mp4 file.")
@click.option("--outdir", type=OUTPUT_DIR, help="In place of --out: the video's folder ...")
@click.option("--fname", help="... and its name in there.  [default: MOTION.mp4, drive.mp4]")
@click.option(
    "--frames", type=click.IntRange(min=1), help="Length; a motion fills it once and loops.  [default: 120, or all frames of --drive]"
)
@click.option("--fps", type=Real(1, 240), default=30, show_default=True, help="Frames per second.")
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
    obj_path: Path | None,
    lms_path: Path | None,
    lms_cond: bool | None,
    grid: tuple[int, int] | None,
    motion: str | None,
    drive: Path | None,
    fixed_camera: bool,
    out: Path | None,
    outdir: Path | None,
    fname: str | None,
    frames: int | None,
    fps: float,
    size: int | None,
    mesh: bool,
    batch: int,
) -> None:
    """Write a video of generated heads that move.

    gaze, expression, jaw, blink and talk move the head under a fixed camera; turn and orbit swing the camera around a still head;
    interpolate turns each face into the next. --obj-path gives the pose of a still head, --drive that of every frame.

    \b
    Examples:
      python gen_videos.py --network network-000010.safetensors --seeds 0-3 --grid 2x2 --motion gaze --out gaze.mp4
      python gen_videos.py --network network-000010.safetensors --seeds 0-7 --grid 1x1 --motion interpolate --frames 240 --out walk.mp4
      python gen_videos.py --network next3d.pkl --seeds 0-3 --grid 2x2 --obj-path demo.obj --lms-path demo_kpt2d.txt --out demo.mp4
      python gen_videos.py --network next3d.pkl --seeds 166 --grid 2x1 --drive obama --out obama.mp4
    """
    from next3d.media.motions import find_motion
    from next3d.media.scene import VideoConfig, film
    from next3d.media.video import open_video

    files = head_files(obj_path, lms_path, lms_cond)
    _check_choice(drive, motion, files, fixed_camera)
    motion = motion or DEFAULT_MOTION
    find_motion(motion)  # before the network is loaded, which takes time
    title = motion if drive is None else "drive"
    out = _video_file(out, outdir, fname or f"{title}.mp4")
    generator = open_network(network, device, threads)
    if drive is not None:
        performance = _driven(network, generator, drive, lms_cond=lms_cond, fixed_camera=fixed_camera, limit=frames)
    else:
        performance = _moved(network, generator, files, motion, seeds, frames=frames or DEFAULT_FRAMES, head_seed=head_seed)
    columns, rows = grid or (len(seeds), 1)
    config = VideoConfig(
        seeds=tuple(seeds),
        columns=columns,
        rows=rows,
        size=size or max(generator.config.image_resolution, MIN_TILE),
        truncation=trunc,
        cutoff=trunc_cutoff,
        batch=batch,
        mesh=mesh,
    )
    pictures = film(generator, performance, config)
    with progress_bar(performance.frames, title, unit="frame") as bar, open_video(out, fps) as video:
        for frame in pictures:
            video.write(frame)
            bar.update()
    click.echo(f"{out}: {performance.frames} frames, {performance.frames / fps:g} s")


def _check_choice(drive: Path | None, motion: str | None, files: HeadFiles | None, fixed_camera: bool) -> None:
    """Heads are moved by one thing only.

    Raises:
        UserError: options that exclude each other.
    """
    if drive is None and fixed_camera:
        raise UserError("--fixed-camera: is for --drive; motions have cameras of their own.")
    if drive is not None and motion is not None:
        raise UserError(f"--motion {motion}: the heads already follow the folder of --drive; leave out one of the two.")
    if drive is not None and files is not None:
        raise UserError("--obj-path: the heads already follow the folder of --drive; leave out one of the two.")


def _video_file(out: Path | None, outdir: Path | None, name: str) -> Path:
    """`--out`, or `name` in the folder `--outdir`."""
    if out is not None and outdir is None:
        return out
    if out is None and outdir is not None:
        return VIDEO_FILE.convert(outdir / name, None, None)
    raise UserError("--out: give either --out FILE.mp4, or --outdir FOLDER with --fname NAME.mp4.")


def _driven(
    network: Path, generator: TriplaneGenerator, folder: Path, *, lms_cond: bool | None, fixed_camera: bool, limit: int | None
) -> Performance:
    """All heads follow a driving folder."""
    from training.driving import open_driving

    landmarks = lms_cond is not False
    topology = topology_of(network, generator, own_landmarks=not landmarks, advice="leave out --lms-cond, and the folder's files say it")
    return open_driving(folder, topology, landmarks=landmarks, labelled_cameras=not fixed_camera, limit=limit)


def _moved(
    network: Path, generator: TriplaneGenerator, files: HeadFiles | None, motion: str, seeds: Sequence[int], *, frames: int, head_seed: int
) -> Performance:
    """A motion of the head that is given, of none for networks without a mesh, or of the network's head model."""
    from next3d.media.performance import HeadPerformance, StillPerformance

    if files is not None:
        return StillPerformance(read_head(files, network, generator), motion, frames=frames)
    if not generator.animatable:
        return StillPerformance(None, motion, frames=frames)
    head = open_head(network, generator, "pose it with --obj-path FILE.obj or --drive FOLDER")
    return HeadPerformance(head, motion, seeds, frames=frames, head_seed=head_seed)
