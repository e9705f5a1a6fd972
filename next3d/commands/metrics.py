"""`next3d metrics`: how good a network is, in figures with intervals and floors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dnnlib.errors import UserError
from dnnlib.params import EXISTING_FILE, OutputFile, Real
from next3d.commands.flame import flame_option
from next3d.commands.processes import ARGUMENTS, Place, RepeatableCommand, find_place, told_to_launcher
from training.metrics import catalog

if TYPE_CHECKING:
    from training.metrics.context import MetricSettings
    from training.metrics.figures import Figure

DEFAULT_METRICS = "swd"
COUNT = click.IntRange(min=4)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is measured, and where it goes."""

    network: Path
    data: str
    """Folder, zip, or URL of shards."""
    uv_mask: Path | None
    metrics: list[catalog.Metric]
    skip: bool
    """Leave out metrics whose needs are not met."""
    truncation: float
    out: Path | None


@click.command(cls=RepeatableCommand)
@click.option("--network", type=EXISTING_FILE, required=True, help="Generator: a .safetensors file, or a published .pkl.")
@click.option("--data", type=click.Path(), required=True, help="Real images: a folder, a zip, or the URL of shards.")
@click.option("--metrics", "names", help=f"Of {', '.join(catalog.METRICS)}; separated by commas.  [default: {DEFAULT_METRICS}]")
@click.option(
    "--suite", type=click.Choice(catalog.SUITE_NAMES), help="All metrics of a kind; those that lack something are left out and named."
)
@click.option("--images", type=COUNT, default=50000, show_default=True, help="Generated images that are compared with real ones.")
@click.option("--reals", type=COUNT, help="Real images.  [default: as many; all for 50000 and more]")
@click.option("--people", type=COUNT, default=500, show_default=True, help="Generated people of each avatar metric.")
@click.option("--holdout", type=COUNT, default=500, show_default=True, help="The data set's last images, for the regressors' errors.")
@click.option("--fitting", type=COUNT, default=2000, show_default=True, help="Other images, to which regressors are fitted.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Key of every random number.")
@click.option("--trunc", type=Real(0, 2), default=1.0, show_default=True, help="1: full variety of faces, 0: the mean face.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Images at once.")
@click.option("--detector-path", type=EXISTING_FILE, help="Weights of FID's InceptionV3.  [default: the cache]")
@click.option("--face-recognition", type=EXISTING_FILE, help="Weights of a face-recognition network.  [default: a regressor]")
@click.option("--download", is_flag=True, help="Fetch published weights that are not in the cache.")
@click.option("--intervals/--no-intervals", default=True, show_default=True, help="Confidence intervals and floors that take time.")
@click.option("--uv-mask", type=EXISTING_FILE, help="For mesh-only data: a grey image in UV layout, white on face and eyes.")
@flame_option
@click.option("--out", type=OutputFile(".jsonl"), help="Write the figures here, one line of JSON each.")
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Processes here, one for each GPU, or on the CPU.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: physical cores]")
@click.pass_context
def metrics(
    context: click.Context,
    network: Path,
    data: str,
    names: str | None,
    suite: str | None,
    images: int,
    reals: int | None,
    people: int,
    holdout: int,
    fitting: int,
    seed: int,
    trunc: float,
    batch: int,
    detector_path: Path | None,
    face_recognition: Path | None,
    download: bool,
    intervals: bool,
    uv_mask: Path | None,
    out: Path | None,
    gpus: int,
    threads: int | None,
) -> None:
    """Measure a network against real images.

    \b
    Examples:
      next3d metrics --network network-000010.safetensors --data data.zip --metrics swd --images 500 --out figures.jsonl
      next3d metrics --network network-000010.safetensors --data data.zip --suite avatar --out figures.jsonl
      next3d metrics --network next3d.pkl --data ffhq --metrics fid,kid,pr --detector-path pt_inception-2015-12-05-6726825d.pth --gpus 8
    """
    given = context.get_parameter_source("gpus") is ParameterSource.COMMANDLINE
    with told_to_launcher():
        place = find_place(gpus, given=given, threads=threads)
        task = Task(
            network=network,
            data=data,
            uv_mask=uv_mask,
            metrics=_chosen(names, suite),
            skip=suite is not None,
            truncation=trunc,
            out=out,
        )
        from training.metrics.context import MetricSettings

        settings = MetricSettings(
            images=images,
            reals=reals,
            people=people,
            holdout=holdout,
            fitting=fitting,
            seed=seed,
            batch=batch,
            detector=detector_path,
            download=download,
            face_recognition=face_recognition,
            intervals=intervals,
        )
        _run(task, settings, place, ["metrics", *context.meta[ARGUMENTS]])


def _chosen(names: str | None, suite: str | None) -> list[catalog.Metric]:
    """The metrics that `--metrics` or `--suite` ask for.

    Raises:
        UserError: both are given, or a name does not exist.
    """
    if names is not None and suite is not None:
        raise UserError("--metrics and --suite: give one of them; --suite takes all metrics of a kind.")
    if suite is not None:
        return catalog.suite(suite)
    return catalog.choose([name.strip() for name in (names or DEFAULT_METRICS).split(",") if name.strip()])


def _run(task: Task, settings: MetricSettings, place: Place, again: list[str]) -> None:
    """Measure here, or in the processes that `again` starts."""
    from torch_utils.distributed import join
    from training.launch import own_command, start_and_watch

    if place.launches:
        start_and_watch(own_command(again), place.ranks, lambda: False)
        return
    with join(place.device):
        figures = measure_network(task, settings, place)
    if place.rank == 0:
        from training.metrics.figures import figures_table

        click.echo(figures_table(figures))
        if task.out is not None:
            click.echo(f"{len(figures)} figures in {task.out}")


def measure_network(task: Task, settings: MetricSettings, place: Place) -> list[Figure]:
    """All figures; the first process writes those that are there whenever a metric is done."""
    from next3d.checkpoint import load_generator
    from training.dataset import open_dataset
    from training.metrics.networks import network_context

    first = place.rank == 0
    generator = load_generator(task.network, place.device)
    dataset = open_dataset(task.data, generator.config.image_resolution, uv_mask=task.uv_mask)
    say = (lambda line: click.echo(line if line.endswith(".") else f"{line} ...", err=True)) if first else (lambda line: None)
    context = network_context(generator, dataset, settings, truncation=task.truncation, say=say)
    keep = (lambda figures: _write(figures, task)) if first else (lambda figures: None)
    return catalog.measure(task.metrics, context, skip=task.skip, found=keep)


def _write(figures: Sequence[Figure], task: Task) -> None:
    """One line of JSON per figure."""
    from dnnlib.files import atomic_write

    if task.out is None:
        return
    about = {"network": task.network.name, "data": PurePath(task.data).name}
    with atomic_write(task.out) as temporary:
        temporary.write_text("".join(figure.to_json(about) + "\n" for figure in figures), encoding="utf-8")
