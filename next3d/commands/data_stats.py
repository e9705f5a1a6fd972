"""`next3d data stats`: what is in a data set."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dnnlib.files import atomic_write
from dnnlib.machine import physical_cores
from dnnlib.params import EXISTING_FILE, OutputFile
from next3d.commands.flame import flame_option
from next3d.commands.reading import counted_bar, say_broken


@click.command()
@click.argument("path")
@click.option("--uv-mask", type=EXISTING_FILE, help="For mesh-only data: grey image in UV layout, white on face and eyes.")
@flame_option
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--json", "file", type=OutputFile(".json"), help="Also write the figures into this file.")
def stats(path: str, uv_mask: Path | None, workers: int | None, file: Path | None) -> None:
    """Read the data set PATH and print its sizes, cameras, heads and brightness.

    \b
    Example:
      next3d data stats data.zip --json data.json
    """
    from training.stats import dataset_stats

    with counted_bar("stats") as progress:
        found = dataset_stats(path, uv_mask=uv_mask, workers=workers or physical_cores(), progress=progress)
    say_broken(found.broken)
    click.echo(found.table())
    if file is not None:
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
