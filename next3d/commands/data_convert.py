"""`next3d data convert`: a data set in another container, resolution or image format."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from dnnlib.machine import physical_cores
from next3d.commands.flame import flame_option
from next3d.commands.reading import counted_bar, say_broken


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--resolution", type=click.IntRange(min=4), help="Smaller images, pixels.  [as they are]")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["keep", "png", "jpg", "webp"]),
    default="keep",
    show_default=True,
    help="Image files; jpg and webp lose a little.",
)
@flame_option
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--force", is_flag=True, help="Replace an existing data set.")
def convert(source: str, target: Path, resolution: int | None, image_format: str, workers: int | None, force: bool) -> None:
    """Copy the data set IN (folder, zip or shards, ours or as published) to OUT: a name ending in .zip, or a folder.

    \b
    Examples:
      next3d data convert data.zip folder
      next3d data convert ffhq ffhq-256.zip --resolution 256 --format jpg
    """
    from training.check import useful_workers
    from training.convert import ConvertConfig, ImageFormat, convert_dataset
    from training.dataset import open_dataset

    config = ConvertConfig(source=source, resolution=resolution, image_format=cast(ImageFormat, image_format))
    count = useful_workers(len(open_dataset(source)), workers or physical_cores())
    with counted_bar("convert") as progress:
        report = convert_dataset(config, target, workers=count, force=force, progress=progress)
    say_broken(report.broken)
    for note in report.notes:
        click.echo(note)
    click.echo(f"{target}: {report.count} images of {report.resolution}², {len(report.broken)} left out because they cannot be read.")
