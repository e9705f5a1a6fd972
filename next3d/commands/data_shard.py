"""`next3d data shard`: a data set as tar files, for training from large disks and object storage."""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.machine import physical_cores
from dnnlib.params import Real
from next3d.commands.flame import flame_option
from next3d.commands.reading import counted_bar, say_broken


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--shard-mb", type=Real(min=0, min_open=True), default=256, show_default=True, help="Size of a shard, MB.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Key of the shuffle.")
@click.option("--keep-last", type=click.IntRange(min=0), default=0, show_default=True, help="Leave the last images last, for --holdout.")
@flame_option
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes; by default one per physical core.")
@click.option("--force", is_flag=True, help="Replace an existing data set.")
def shard(source: str, target: Path, shard_mb: float, seed: int, keep_last: int, workers: int | None, force: bool) -> None:
    """Shuffle the data set IN and write it into the folder OUT, as tar files that WebDataset reads, too.

    \b
    Examples:
      next3d data shard ffhq ffhq-shards
      next3d data shard data.zip shards --shard-mb 64 --keep-last 500
    """
    from training.check import useful_workers
    from training.dataset import open_dataset
    from training.shard_writer import ShardConfig, write_shards

    config = ShardConfig(source=source, seed=seed, shard_bytes=max(1, round(shard_mb * 1e6)), keep_last=keep_last)
    count = useful_workers(len(open_dataset(source)), workers or physical_cores())
    with counted_bar("shard") as progress:
        report = write_shards(config, target, workers=count, force=force, progress=progress)
    say_broken(report.broken)
    size = f"{report.shards} shard{'s' if report.shards > 1 else ''}, {report.size / 1e6:.1f} MB"
    click.echo(f"{target}: {report.samples} images in {size}; {len(report.broken)} left out because they cannot be read.")
