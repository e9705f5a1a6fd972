"""`next3d train` and `python train.py`: train a generator on a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from dnnlib.errors import ConfigError
from dnnlib.params import EXISTING_FILE, OUTPUT_DIR
from next3d.commands.flame import flame_option
from next3d.commands.network import choose_device
from next3d.config import PRESETS
from training.config import METRICS, TrainConfig, default_config, with_changes
from training.interrupt import Stopped, StopRequest

_Command = TypeVar("_Command", bound=Callable[..., Any])
POSITIVE = click.FloatRange(min=0, min_open=True)
NOT_NEGATIVE = click.FloatRange(min=0)
PROBABILITY = click.FloatRange(0, 1)
AT_LEAST_1 = click.IntRange(min=1)
KINDS = click.Choice(["next3d", "released-next3d"])
NONE = "none"
AUTO = "auto"
CHANGES = "next3d.train.changes"
"""Where click's context keeps what the flags change."""


class Ticks(click.ParamType):
    """A number of ticks, or `none`."""

    name = "ticks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Text to a number; `none` stays."""
        return NONE if str(value).lower() == NONE else AT_LEAST_1.convert(value, param, ctx)


class Names(click.ParamType):
    """Names separated by commas, or `none`."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """`a,b` to (a, b), `none` to ()."""
        return () if str(value).lower() == NONE else tuple(name.strip() for name in str(value).split(",") if name.strip())


class ResumePoint(click.ParamType):
    """A file that exists, or `auto`."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """`auto` stays, everything else must be a file."""
        return AUTO if str(value).lower() == AUTO else EXISTING_FILE.convert(value, param, ctx)


def option(name: str, **settings: Any) -> Callable[[_Command], _Command]:
    """An option with dashes that is also understood with underscores, as users of EG3D and Next3D type it."""
    spellings = {name, "--" + name[2:].replace("-", "_")}
    return click.option(*sorted(spellings), name[2:].replace("-", "_"), **settings)


def setting(name: str, field: str, **settings: Any) -> Callable[[_Command], _Command]:
    """An option that changes one field of `TrainConfig`, written as `loss.gamma`; without it the preset decides."""

    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            context.meta.setdefault(CHANGES, {})[field] = None if value == NONE else value

    return option(name, callback=remember, expose_value=False, **settings)


@click.command()
@option("--outdir", type=OUTPUT_DIR, required=True, help="Where the numbered run folder goes.")
@option("--cfg", required=True, metavar="PRESET", help=f"Networks and defaults: {', '.join(PRESETS)}.")
@option("--data", type=click.Path(), required=True, help="Data set: a folder, a zip, or the URL of shards.")
@option("--gpus", type=AT_LEAST_1, default=1, show_default=True, help="Number of GPUs; without a GPU, 1 is the CPU.")
@setting("--batch", "run.batch", type=AT_LEAST_1, help="Samples per step, over all GPUs.  [preset]")
@setting("--batch-gpu", "run.batch_gpu", type=AT_LEAST_1, help="Samples at once; gradients add up over the rest.  [the whole batch]")
@setting("--gamma", "loss.gamma", type=NOT_NEGATIVE, help="Weight of R1.  [1]")
@setting("--kimg", "run.kimg", type=POSITIVE, help="Length of the run, thousands of images.  [preset]")
@setting("--tick", "run.tick", type=POSITIVE, help="A line of progress every so many kimg.  [preset]")
@setting("--snap", "run.snap", type=Ticks(), help="A snapshot every so many ticks, or none but the last.  [preset]")
@setting("--keep", "run.keep", type=AT_LEAST_1, help="Resume states that stay, the newest; networks always stay.  [all]")
@setting("--max-skipped", "run.max_skipped", type=click.IntRange(min=0), help="Steps of 1000 that may be skipped for NaN.  [20]")
@setting("--wandb", "run.wandb", metavar="PROJECT", help="Also send figures and pictures to Weights & Biases.  [off]")
@setting("--seed", "run.seed", type=click.IntRange(min=0), help="Key of every random number.  [0]")
@option("--resume", type=ResumePoint(), help="Continue a .state, or auto: the newest; start from a .safetensors or a published .pkl.")
@option("--desc", default="", help="Text for the end of the run folder's name.")
@setting("--metrics", "run.metrics", type=Names(), help=f"Metrics with every snapshot: {', '.join(METRICS)}, or none.  [none]")
@setting("--glr", "generator_optimizer.lr", type=POSITIVE, help="Generator's learning rate.  [0.0025]")
@setting("--dlr", "discriminator_optimizer.lr", type=POSITIVE, help="Discriminator's learning rate.  [0.002]")
@setting("--mbstd-group", "model.discriminator.group_size", type=AT_LEAST_1, help="Group of the minibatch standard deviation.  [preset]")
@setting("--gen-pose-cond", "model.generator.mapping.pose_conditioning", type=bool, help="Condition the generator on the camera.  [true]")
@setting("--gpc-reg-prob", "schedule.swap_probability", type=PROBABILITY, help="… on another camera: probability after the fade.  [0.5]")
@setting("--gpc-reg-fade-kimg", "schedule.swap_fade_kimg", type=NOT_NEGATIVE, help="It falls from 1 over this time.  [preset]")
@setting("--blur-fade-kimg", "schedule.blur_fade_kimg", type=NOT_NEGATIVE, help="Images start blurred; this long it fades.  [preset]")
@setting("--density-reg", "loss.density_weight", type=NOT_NEGATIVE, help="Weight of the density regularisation.  [0.25]")
@setting("--density-reg-every", "loss.density_interval", type=AT_LEAST_1, help="Steps from one density regularisation to the next.  [4]")
@setting("--density-reg-p-dist", "loss.density_distance", type=NOT_NEGATIVE, help="Distance between its points, world units.  [0.004]")
@setting("--style-mixing-prob", "loss.style_mixing", type=PROBABILITY, help="Probability of styles from two latents.  [0]")
@setting("--kind", "model.generator.kind", type=KINDS, help="Conventions: ours, or those of published weights to go on from.  [next3d]")
@setting("--mesh-image", "model.discriminator.mesh_image", type=bool, help="Show the discriminator a rendering of the mesh.  [true]")
@setting("--mismatch-weight", "loss.mismatch_weight", type=NOT_NEGATIVE, help="Weight of reals with others' meshes as fakes.  [preset]")
@setting("--share-fakes", "loss.share_fakes", type=bool, help="Train both networks on one pass over the fakes: faster.  [preset]")
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
    """Train a generator on the CPU or a GPU.

    \b
    Examples:
      python train.py --outdir runs --cfg demo-64 --data data.zip --gpus 1 --batch 16 --gamma 1 --kimg 10
      python train.py --outdir runs --cfg demo-64 --data data.zip --kimg 20 --resume runs/00000-…/network-000010.state
      python train.py --outdir runs --cfg official-512 --data ffhq --gpus 1 --batch 8 --batch-gpu 4 --gamma 4 --dry-run
    """
    if gpus > 1:
        raise ConfigError(f"--gpus={gpus}: training on several GPUs is not supported yet; give --gpus 1.")
    with _stoppable() as stop:
        device = choose_device("auto", threads)
        changes = {"data.workers": 3 if device.type == "cuda" else 0, **context.meta.get(CHANGES, {})}
        config = with_changes(default_config(cfg, data), changes)
        _launch(config, outdir, desc, resume, dry_run=dry_run, device=str(device), stop=stop)


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
    config: TrainConfig, outdir: Path, description: str, resume: Path | str | None, *, dry_run: bool, device: str, stop: StopRequest
) -> None:
    """Open the data set, print what will be done, and do it."""
    import torch

    from training.dataset import open_dataset
    from training.remote import FileCache, default_cache
    from training.folders import run_name
    from training.loop import train as run_training
    from training.summary import describe

    cache = FileCache(Path(config.data.cache) if config.data.cache else default_cache(), config.data.cache_gb)
    dataset = open_dataset(config.data.path, config.model.generator.image_resolution, uv_mask=config.data.uv_mask, cache=cache)
    dataset = dataset.without_last(config.data.holdout)
    generator = replace(config.model.generator, head=dataset.head_name)
    config = replace(config, model=replace(config.model, generator=generator))
    if dry_run:
        click.echo(describe(config, dataset, device))
        return
    click.echo(f"Data set: {len(dataset)} images of {dataset.stored_resolution}² in {dataset.path}; device: {device}")
    name = run_name(config, description)
    run_training(config, dataset, outdir, name=name, device=torch.device(device), resume_from=resume, say=click.echo, stop=stop)
