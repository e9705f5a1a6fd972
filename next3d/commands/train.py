"""`next3d train` and `python train.py`: train a generator on a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from dnnlib.params import OUTPUT_DIR
from next3d.commands.flame import flame_option
from next3d.commands.processes import ARGUMENTS, Place, RepeatableCommand, find_place, told_to_launcher
from next3d.commands.recipe import recipe_options
from next3d.commands.settings import AT_LEAST_1, CHANGES, POSITIVE, Names, ResumePoint, Ticks, option, setting
from next3d.config import PRESETS
from training.config import TrainConfig, default_config, with_changes
from training.interrupt import Stopped, StopRequest


@click.command(cls=RepeatableCommand)
@option("--outdir", type=OUTPUT_DIR, required=True, help="Where the numbered run folder goes.")
@option("--cfg", required=True, metavar="PRESET", help=f"Networks and defaults: {', '.join(PRESETS)}.")
@option("--data", type=click.Path(), required=True, help="Data set: a folder, a zip, or the URL of shards.")
@option("--gpus", type=AT_LEAST_1, default=1, show_default=True, help="Processes here, one for each GPU, or on the CPU.")
@setting("--batch", "run.batch", type=AT_LEAST_1, help="Samples per step, over all GPUs.  [preset]")
@setting("--batch-gpu", "run.batch_gpu", type=AT_LEAST_1, help="Samples at once on each GPU; gradients add up over the rest.  [all]")
@setting("--kimg", "run.kimg", type=POSITIVE, help="Length of the run, thousands of images.  [preset]")
@setting("--tick", "run.tick", type=POSITIVE, help="A line of progress every so many kimg.  [preset]")
@setting("--snap", "run.snap", type=Ticks(), help="A snapshot every so many ticks, or none but the last.  [preset]")
@setting("--keep", "run.keep", type=AT_LEAST_1, help="Resume states that stay, the newest; networks always stay.  [all]")
@setting("--max-skipped", "run.max_skipped", type=click.IntRange(min=0), help="Steps of 1000 that may be skipped for NaN.  [20]")
@setting("--wandb", "run.wandb", metavar="PROJECT", help="Also send figures and pictures to Weights & Biases.  [off]")
@setting("--seed", "run.seed", type=click.IntRange(min=0), help="Key of every random number.  [0]")
@option("--resume", type=ResumePoint(), help="Continue a .state, a folder with a packed one, or auto: the newest; or start from a network.")
@option("--desc", default="", help="Text for the end of the run folder's name.")
@setting("--metrics", "run.metrics", type=Names(), help="Metrics with every snapshot, as 'next3d metrics' knows them, or none.  [none]")
@setting("--metrics-images", "run.metrics_images", type=click.IntRange(min=4), help="Images that these metrics compare.  [500]")
@setting("--detector-path", "run.detector_path", type=click.Path(exists=True, dir_okay=False), help="FID's network.  [from the cache]")
@recipe_options
@setting("--uv-mask", "data.uv_mask", type=click.Path(exists=True, dir_okay=False), help="For mesh-only data: white on face and eyes.")
@flame_option
@setting("--holdout", "data.holdout", type=click.IntRange(min=0), help="Leave the last images out of training, for measuring.  [0]")
@setting("--workers", "data.workers", type=click.IntRange(min=0), help="Loader processes; 0 keeps images in memory.  [3 on a GPU, else 0]")
@setting("--max-broken", "data.max_broken", type=click.IntRange(min=0), help="Damaged samples to leave out before giving up.  [100]")
@setting("--data-cache", "data.cache", type=click.Path(file_okay=False), help="Where shards from URLs are kept.  [~/.cache/next3d/shards]")
@setting("--data-cache-gb", "data.cache_gb", type=POSITIVE, help="Their limit, GB.  [64]")
@option("--threads", type=AT_LEAST_1, help="CPU threads.  [physical cores]")
@click.option("-n", "--dry-run", "--dry_run", "dry_run", is_flag=True, help="Print the configuration and what it costs; write nothing.")
@click.pass_context
def train(
    context: click.Context,
    outdir: Path,
    cfg: str,
    data: str,
    gpus: int,
    resume: Path | str | None,
    desc: str,
    threads: int | None,
    dry_run: bool,
) -> None:
    """Train a generator on the CPU, on GPUs, or, with torchrun, on many machines.

    \b
    Examples:
      python train.py --outdir runs --cfg demo-64 --data data.zip --gpus 1 --batch 16 --gamma 1 --kimg 10
      python train.py --outdir runs --cfg demo-64 --data data.zip --kimg 20 --resume runs/00000-…/network-000010.state
      python train.py --outdir runs --cfg demo-128 --data data.zip --kimg 500 --resume states/demo-128
      python train.py --outdir runs --cfg official-512 --data ffhq --gpus 8 --batch 32 --gamma 4 --resume auto
      python train.py --outdir runs --cfg official-512 --data ffhq --gpus 1 --batch 8 --batch-gpu 4 --gamma 4 --dry-run
    """
    given = context.get_parameter_source("gpus") is ParameterSource.COMMANDLINE
    with _stoppable() as stop, told_to_launcher():
        place = find_place(gpus, given=given, threads=threads)
        changes = {"data.workers": 3 if place.device.type == "cuda" else 0, **context.meta.get(CHANGES, {})}
        config = with_changes(default_config(cfg, data), changes)
        again = ["train", *context.meta[ARGUMENTS]]
        _launch(config, outdir, desc, resume, dry_run=dry_run, place=place, stop=stop, again=again)


@contextmanager
def _stoppable() -> Iterator[StopRequest]:
    """Listen for SIGINT and SIGTERM before torch is imported. A run that was asked to stop, and did, has done well: exit code 0."""
    launched = "RANK" in os.environ
    try:
        with StopRequest(echo=1.0 if launched else 0.0) as stop:
            yield stop
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            click.echo(str(stopped))


def _launch(
    config: TrainConfig,
    outdir: Path,
    description: str,
    resume: Path | str | None,
    *,
    dry_run: bool,
    place: Place,
    stop: StopRequest,
    again: list[str],
) -> None:
    """Open the data set, print what will be done, and do it, here or in the processes that `again` starts."""
    from torch_utils.distributed import join
    from training.conditions import fitted
    from training.dataset import open_configured
    from training.folders import run_name
    from training.launch import own_command, shared_out, start_and_watch
    from training.loop import train as run_training
    from training.summary import describe

    config = shared_out(config, place.ranks)
    dataset = open_configured(config.data, config.model.generator.image_resolution)
    config = fitted(config, dataset)
    if dry_run:
        click.echo(describe(config, dataset, place.device, place.ranks))
        return
    if place.launches:
        stop.begin()
        start_and_watch(own_command(again), place.ranks, lambda: stop.asked)
        return
    if place.rank == 0:
        where = str(place.device) if place.ranks == 1 else f"{place.ranks} processes on {place.device.type}"
        click.echo(f"Data set: {len(dataset)} images of {dataset.stored_resolution}² in {dataset.path}; device: {where}")
    name = run_name(config, description, place.ranks)
    with join(place.device):
        run_training(config, dataset, outdir, name=name, device=place.device, resume_from=resume, say=click.echo, stop=stop)
