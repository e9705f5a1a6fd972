"""`next3d data check`: read a data set completely and report what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dnnlib.params import EXISTING_FILE
from next3d.commands.flame import flame_option

EXIT_BROKEN = 2


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--uv-mask", type=EXISTING_FILE, help="For mesh-only data: grey image in UV layout, white on face and eyes.")
@flame_option
@click.option("--show", type=click.IntRange(min=1), default=20, show_default=True, help="Print at most so many problems.")
def check(path: Path, uv_mask: Path | None, show: int) -> int:
    """Read every label, image and mesh of the data set PATH; exit code 2 if anything is wrong.

    \b
    Example:
      next3d data check data.zip
    """
    from tqdm import tqdm

    from training.check import check_dataset

    with tqdm(desc="check", unit="image", disable=not sys.stderr.isatty()) as bar:
        report = check_dataset(path, uv_mask=uv_mask, progress=lambda done, total: bar.update(done - bar.n))
    for problem in report.problems[:show]:
        click.echo(problem, err=True)
    if len(report.problems) > show:
        click.echo(f"… and {len(report.problems) - show} more; print them with --show {len(report.problems)}", err=True)
    click.echo(report.summary())
    return EXIT_BROKEN if report.problems else 0
