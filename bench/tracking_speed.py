"""How fast photos and films become data sets, and in how much memory: `python -m bench.tracking_speed [--quick] [--json FILE]`.

Runs `next3d data portraits` as a person would, on synthetic photos of 720 x 720 and on a film of 1280 x 720 made of one synthetic clip
that runs to and fro. Seconds are those of the whole command, start of its processes included; CPU seconds are those of all its processes.
Memory is the peak of the largest worker, and of the main process, over films of two lengths.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
from PIL import Image

from bench.report import Report
from dnnlib.machine import physical_cores
from next3d.head import load_head
from next3d.media.video import open_video
from next3d.synthetic.motion import clip_params
from next3d.synthetic.render import render_sample
from next3d.tracking.types import Pixels

PHOTO_BAR, FRAME_BAR = 4.0, 20.0
"""Per second on two cores."""
GROWTH_BAR = 48
"""MB between the shorter and the longer film that count as flat: points and head parameters of 1,000 frames, and what allocators do."""
_SIDE, _FRAME = 720, (720, 1280)
_SEED, _FPS = 7100, 25.0


@dataclass(frozen=True)
class Load:
    """How much is tracked."""

    photos: int
    rendered: int
    """Photos and frames of the clip that are rendered; more than these are the same again."""
    frames: int
    """Of the longer film; the shorter one has a quarter."""


FULL, QUICK = Load(photos=80, rendered=40, frames=1000), Load(photos=8, rendered=4, frames=64)


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    cpu: float
    """CPU seconds of all processes that it waited for, and its own."""
    worker: float
    """MB at most in the largest process that it started."""
    main: float
    """MB at most in the main process."""


def measure(arguments: list[str]) -> Cost:
    """Run `next3d` with these arguments and watch it.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    watched = psutil.Popen([sys.executable, "-m", "next3d", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    worker = main = cpu = 0.0
    ended: dict[int, float] = {}
    while watched.poll() is None:
        with suppress(psutil.Error):
            main = max(main, watched.memory_info().rss / 1e6)
            ended[watched.pid] = _cpu(watched)
            for child in watched.children(recursive=True):
                with suppress(psutil.Error):
                    ended[child.pid] = max(ended.get(child.pid, 0.0), _cpu(child))
                    worker = max(worker, child.memory_info().rss / 1e6)
        time.sleep(0.1)
    cpu = sum(ended.values())
    seconds = time.perf_counter() - start
    if watched.returncode:
        output = watched.stdout.read().decode(errors="replace") if watched.stdout else ""
        raise RuntimeError(f"next3d {' '.join(arguments)}: exit code {watched.returncode}: {output}")
    return Cost(seconds, cpu, worker, main)


def _cpu(process: psutil.Process) -> float:
    """Seconds of a process; what its children took is counted with them."""
    times = process.cpu_times()
    return times.user + times.system


def make_photos(folder: Path, load: Load) -> None:
    """Synthetic people on photos larger than their crops."""
    head = load_head()
    for index in range(load.photos):
        if index < load.rendered:
            portrait = Image.fromarray(render_sample(head, _SEED, index, 256).image)
            portrait.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(folder / f"{index:04d}.jpg", quality=92)
        else:
            (folder / f"{index:04d}.jpg").write_bytes((folder / f"{index % load.rendered:04d}.jpg").read_bytes())


def make_clip(load: Load) -> list[Pixels]:
    """Frames of one person who talks, inside a larger picture."""
    head = load_head()
    params = clip_params(head, _SEED, 0, load.rendered, _FPS)
    frames = []
    for index in range(load.rendered):
        portrait = render_sample(head, _SEED, 0, 256, params=params[index : index + 1], moment=index).image
        enlarged = np.asarray(Image.fromarray(portrait).resize((600, 600), Image.Resampling.LANCZOS))
        sides = ((60, 60), (340, 340), (0, 0))
        frames.append(np.pad(enlarged, sides, mode="edge"))
    return frames


def make_film(path: Path, clip: list[Pixels], count: int) -> None:
    """The clip to and fro."""
    round_trip = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
    with open_video(path, _FPS) as video:
        for frame in range(count):
            video.write(clip[round_trip[frame % len(round_trip)]])


@contextmanager
def work_folder(keep: Path | None) -> Iterator[Path]:
    """`keep`, or a folder that goes away."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def add_speed(report: Report, load: Load, folder: Path, workers: int) -> None:
    """All figures.

    Args:
        report: gets the rows.
        load: how much work.
        folder: for photos, films and results; what lies there already is used again.
        workers: processes.
    """
    photos, films = folder / f"photos-{load.photos}", [folder / f"film-{count}.mp4" for count in (load.frames // 4, load.frames)]
    if not photos.is_dir():
        photos.mkdir()
        make_photos(photos, load)
    if not all(film.is_file() for film in films):
        clip = make_clip(load)
        for film, count in zip(films, (load.frames // 4, load.frames), strict=True):
            make_film(film, clip, count)
    usual = ["--workers", str(workers), "--resolution", "512", "--force"]
    cost = measure(["data", "portraits", str(photos), str(folder / "photos-out"), *usual])
    note = f"{load.photos} photos of {_SIDE}², crops of 512², {workers} workers"
    report.add("photos_per_second", load.photos / cost.seconds, bar=f">= {PHOTO_BAR:g}", note=note)
    report.add("photo_cpu_s", cost.cpu / load.photos, note="CPU seconds per photo, start of the processes included")
    costs = [measure(["data", "portraits", str(film), str(folder / "film-out"), *usual]) for film in films]
    short, long = costs
    note = f"film of {load.frames} frames of {_FRAME[1]} x {_FRAME[0]}, crops of 512², {workers} workers"
    report.add("frames_per_second", load.frames / long.seconds, bar=f">= {FRAME_BAR:g}", note=note)
    report.add("frame_cpu_s", long.cpu / load.frames, note="CPU seconds per frame, start of the processes included")
    further = load.frames - load.frames // 4
    report.add("further_frame_cpu_s", (long.cpu - short.cpu) / further, note="the same without start: the longer film less the shorter")
    report.add("worker_peak_mb", long.worker, note=f"largest worker, {load.frames} frames")
    report.add("worker_growth_mb", long.worker - short.worker, bar=f"<= {GROWTH_BAR}", note=f"against {load.frames // 4} frames")
    report.add("main_peak_mb", long.main, note=f"main process, {load.frames} frames")
    report.add("main_growth_mb", long.main - short.main, bar=f"<= {GROWTH_BAR}", note=f"against {load.frames // 4} frames")


@click.command()
@click.option("--quick", is_flag=True, help="A sanity pass; figures mean little.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--keep", type=click.Path(path_type=Path), default=None, help="Keep photos, films and results in this folder.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=None, help="Also write the figures into this file.")
def main(quick: bool, workers: int | None, keep: Path | None, json_path: Path | None) -> None:
    """Photos and film frames per second, and memory."""
    report = Report("tracking_speed")
    with work_folder(keep) as folder:
        add_speed(report, QUICK if quick else FULL, folder, workers or physical_cores())
    report.finish(json_path)


if __name__ == "__main__":
    main()
