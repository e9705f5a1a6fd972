"""`next3d data portraits`: photos and films of people to a data set."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.errors import UserError
from dnnlib.machine import physical_cores
from dnnlib.params import EXISTING_FILE, EXISTING_PATH, Real
from next3d.commands.flame import flame_option
from next3d.commands.reading import counted_bar

if TYPE_CHECKING:
    from next3d.tracking.quality import QualityLimits

SHOWN = 10
"""Files that could not be read and are named on stderr."""


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--resolution", type=click.IntRange(64, 2048), default=512, show_default=True, help="Size of the crops, pixels.")
@click.option("--faces", type=click.Choice(["largest", "all"]), default="largest", show_default=True, help="Which faces of a photo.")
@click.option("--head", default="procedural", show_default=True, help="Head model: procedural, flame, or FLAME's folder or .pkl file.")
@click.option("--fps", type=Real(1, 240), default=None, help="Resample films to so many frames per second.  [default: their own]")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Use one of so many frames of films.")
@click.option("--matte", is_flag=True, help="Also write who is person and who is background.")
@click.option("--detector", type=EXISTING_FILE, default=None, help="A face landmarker of MediaPipe's task API (.task).")
@click.option("--min-size", type=Real(min=0), default=None, help="Reject faces whose crop has a side below this, photo pixels.")
@click.option("--max-yaw", type=Real(0, 180), default=None, help="Reject heads that are turned further, degrees.")
@click.option("--max-error", type=Real(min=0), default=None, help="Reject fits that are further off, percent of the distance of the eyes.")
@click.option(
    "--min-sharpness", type=Real(min=0), default=None, help="Reject faces that are more blurred; the report has everyone's figure."
)
@click.option("--import-heads", type=EXISTING_PATH, default=None, help="Folder of another tracker's parameter files, in place of a fit.")
@click.option("--import-format", type=click.Choice(["deca", "emoca", "vhap"]), help="With --import-heads: whose they are.  [default: deca]")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Processes here, or a Ray job.")
@click.option("--force", is_flag=True, help="Replace an existing data set.")
@flame_option
def portraits(
    source: Path,
    target: Path,
    resolution: int,
    faces: str,
    head: str,
    fps: float | None,
    every: int,
    matte: bool,
    detector: Path | None,
    min_size: float | None,
    max_yaw: float | None,
    max_error: float | None,
    min_sharpness: float | None,
    import_heads: Path | None,
    import_format: str | None,
    workers: int | None,
    engine: str,
    force: bool,
) -> None:
    """Crops, cameras, head parameters, gaze and landmarks of the people in IN: photos and films in a folder, a zip or a list.

    OUT is a folder, or a name ending in .zip. A job that was stopped goes on when the same command is given again.

    \b
    Examples:
      next3d data portraits photos faces --resolution 512
      next3d data portraits talk.mp4 talk.zip --resolution 256 --fps 25
      next3d data portraits photos faces.zip --faces all --matte --head flame
    """
    if import_format and not import_heads:
        raise UserError(
            f"--import-format {import_format}: says whose files --import-heads names; add that option too, or leave this one out."
        )
    from next3d.tracking.workers import prepare_workers

    if engine == "local":
        prepare_workers()  # before the imports below, which take as long
    from next3d.tracking.face_mesh import DetectorSettings
    from next3d.tracking.importers import FORMATS
    from next3d.tracking.job import JobSettings, track_dataset
    from next3d.tracking.settings import ImportSettings, TrackingSettings

    (kind,) = (name for name in FORMATS if name == (import_format or "deca"))
    settings = TrackingSettings(
        resolution=resolution,
        faces="all" if faces == "all" else "largest",
        head=head,
        detector=DetectorSettings(every=faces == "all", task=detector),
        limits=_limits(min_size, max_yaw, max_error, min_sharpness),
        matte=matte,
        fps=fps,
        every=every,
        imported=ImportSettings(folder=import_heads, kind=kind) if import_heads else None,
    )
    job = JobSettings(workers=workers or physical_cores(), engine=engine, force=force)
    start = time.perf_counter()
    with counted_bar("portraits") as progress:
        summary = track_dataset(source, target, settings, job, progress)
    for problem in summary.problems[:SHOWN]:
        click.echo(problem, err=True)
    if len(summary.problems) > SHOWN:
        click.echo(f"… and {len(summary.problems) - SHOWN} more; {target} names them all in tracking.jsonl and report.html.", err=True)
    click.echo(f"{target}: {summary.text()}; {time.perf_counter() - start:.0f} s.")


def _limits(min_size: float | None, max_yaw: float | None, max_error: float | None, min_sharpness: float | None) -> QualityLimits:
    """The usual limits with what was asked for changed; degrees and percent become radians and parts."""
    from next3d.tracking.quality import QualityLimits

    limits = QualityLimits()
    if min_size is not None:
        limits = replace(limits, smallest_crop=min_size, smallest_share=0.0)
    if max_yaw is not None:
        limits = replace(limits, largest_yaw=math.radians(max_yaw))
    if max_error is not None:
        limits = replace(limits, largest_error=max_error / 100)
    return limits if min_sharpness is None else replace(limits, least_sharpness=min_sharpness)
