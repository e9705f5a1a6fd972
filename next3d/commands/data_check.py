"""`next3d data check`: read a data set completely and report what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.machine import physical_cores
from dnnlib.params import EXISTING_FILE
from next3d.commands.flame import flame_option
from next3d.commands.reading import SHOWN, counted_bar

EXIT_BROKEN = 2


@click.command()
@click.argument("path")
@click.option("--uv-mask", type=EXISTING_FILE, help="For mesh-only data: grey image in UV layout, white on face and eyes.")
@flame_option
@click.option("--show", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="Print at most so many problems.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
def check(path: str, uv_mask: Path | None, show: int, workers: int | None) -> int:
    """Read every label, image and mesh of the data set PATH, and the checksums of shards; exit code 2 if anything is wrong.

    \b
    Example:
      next3d data check data.zip
    """
    from training.check import check_dataset

    with counted_bar("check") as progress:
        report = check_dataset(path, uv_mask=uv_mask, workers=workers or physical_cores(), progress=progress)
    for problem in report.problems[:show]:
        click.echo(problem, err=True)
    if len(report.problems) > show:
        click.echo(f"… and {len(report.problems) - show} more; print them with --show {len(report.problems)}", err=True)
    click.echo(report.summary())
    return EXIT_BROKEN if report.problems else 0
