"""`next3d train` and `python train.py`: train a generator on a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from dnnlib.errors import ConfigError
from dnnlib.params import EXISTING_FILE, OUTPUT_DIR
from next3d.commands.network import choose_device
from next3d.config import PRESETS, ModelConfig
from training.config import METRICS, TrainConfig, default_config

_Section = TypeVar("_Section")
_Command = TypeVar("_Command", bound=Callable[..., Any])
POSITIVE = click.FloatRange(min=0, min_open=True)
NOT_NEGATIVE = click.FloatRange(min=0)
PROBABILITY = click.FloatRange(0, 1)
AT_LEAST_1 = click.IntRange(min=1)


class Snap(click.ParamType):
    """A number of ticks, or `none`."""

    name = "ticks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Text to a number; 0 stands for none."""
        return 0 if str(value).lower() == "none" else AT_LEAST_1.convert(value, param, ctx)


def option(name: str, **settings: Any) -> Callable[[_Command], _Command]:
    """An option with dashes that is also understood with underscores, as users of EG3D and Next3D type it."""
    spellings = {name, "--" + name[2:].replace("-", "_")}
    return click.option(*sorted(spellings), name[2:].replace("-", "_"), **settings)


def switch(name: str, text: str) -> Callable[[_Command], _Command]:
    """An option that takes true or false."""
    return option(name, type=bool, metavar="BOOL", help=text)


@click.command()
@option("--outdir", type=OUTPUT_DIR, required=True, help="Where the numbered run folder goes.")
@option("--cfg", required=True, metavar="PRESET", help=f"Networks and defaults: {', '.join(PRESETS)}.")
@option("--data", type=click.Path(), required=True, help="Data set: a folder or a zip, ours or as published.")
@option("--gpus", type=AT_LEAST_1, default=1, show_default=True, help="Number of GPUs; without a GPU, 1 is the CPU.")
@option("--batch", type=AT_LEAST_1, help="Samples per step, over all GPUs.  [preset]")
@option("--batch-gpu", type=AT_LEAST_1, help="Samples at once; gradients add up over the rest.  [the whole batch]")
@option("--gamma", type=NOT_NEGATIVE, help="Weight of R1.  [1]")
@option("--kimg", type=POSITIVE, help="Length of the run, thousands of images.  [preset]")
@option("--tick", type=POSITIVE, help="A line of progress every so many kimg.  [preset]")
@option("--snap", type=Snap(), help="A snapshot every so many ticks, or none.  [preset]")
@option("--seed", type=click.IntRange(min=0), help="Key of every random number.  [0]")
@option("--resume", type=EXISTING_FILE, help="Continue a .state file, or start from a network (.safetensors).")
@option("--desc", default="", help="Text for the end of the run folder's name.")
@option("--metrics", help=f"Metrics with every snapshot, separated by commas ({', '.join(METRICS)}), or none.  [none]")
@option("--glr", type=POSITIVE, help="Generator's learning rate.  [0.0025]")
@option("--dlr", type=POSITIVE, help="Discriminator's learning rate.  [0.002]")
@option("--mbstd-group", type=AT_LEAST_1, help="Samples per group of the minibatch standard deviation.  [preset]")
@switch("--gen-pose-cond", "Condition the generator on the camera.  [true]")
@option("--gpc-reg-prob", type=PROBABILITY, help="Probability of conditioning it on another sample's camera, after the fade.  [0.5]")
@option("--gpc-reg-fade-kimg", type=NOT_NEGATIVE, help="That probability falls from 1 over this time.  [preset]")
@option("--blur-fade-kimg", type=NOT_NEGATIVE, help="Images are blurred at the start; the blur fades over this time.  [preset]")
@option("--density-reg", type=NOT_NEGATIVE, help="Weight of the density regularisation.  [0.25]")
@option("--density-reg-every", type=AT_LEAST_1, help="Steps from one density regularisation to the next.  [4]")
@option("--density-reg-p-dist", type=NOT_NEGATIVE, help="Distance over which density shall not change, world units.  [0.004]")
@option("--style-mixing-prob", type=PROBABILITY, help="Probability of styles from two latents.  [0]")
@switch("--mesh-image", "Show the discriminator a rendering of the mesh.  [true]")
@option("--mismatch-weight", type=NOT_NEGATIVE, help="Weight of real images with another sample's mesh as fakes.  [preset]")
@switch("--share-fakes", "Train both networks on one pass over the fakes: faster.  [preset]")
@option("--uv-mask", type=EXISTING_FILE, help="For mesh-only data: grey image in UV layout, white on face and eyes.")
@option("--holdout", type=click.IntRange(min=0), help="Leave the last images out of training, for measuring.  [0]")
@option("--workers", type=click.IntRange(min=0), help="Loader processes; 0 keeps decoded images in memory.  [3 on a GPU, else 0]")
@option("--threads", type=AT_LEAST_1, help="CPU threads.  [physical cores]")
@click.option("-n", "--dry-run", "--dry_run", "dry_run", is_flag=True, help="Print the configuration and what it costs; write nothing.")
def train(
    outdir: Path,
    cfg: str,
    data: str,
    gpus: int,
    batch: int | None,
    batch_gpu: int | None,
    gamma: float | None,
    kimg: float | None,
    tick: float | None,
    snap: int | None,
    seed: int | None,
    resume: Path | None,
    desc: str,
    metrics: str | None,
    glr: float | None,
    dlr: float | None,
    mbstd_group: int | None,
    gen_pose_cond: bool | None,
    gpc_reg_prob: float | None,
    gpc_reg_fade_kimg: float | None,
    blur_fade_kimg: float | None,
    density_reg: float | None,
    density_reg_every: int | None,
    density_reg_p_dist: float | None,
    style_mixing_prob: float | None,
    mesh_image: bool | None,
    mismatch_weight: float | None,
    share_fakes: bool | None,
    uv_mask: Path | None,
    holdout: int | None,
    workers: int | None,
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
    base = default_config(cfg, data)
    model = _model(base.model, mbstd_group, gen_pose_cond, mesh_image)
    loss = _changed(
        base.loss,
        gamma=gamma,
        density_weight=density_reg,
        density_interval=density_reg_every,
        density_distance=density_reg_p_dist,
        style_mixing=style_mixing_prob,
        mismatch_weight=mismatch_weight,
        share_fakes=share_fakes,
    )
    schedule = _changed(base.schedule, swap_probability=gpc_reg_prob, swap_fade_kimg=gpc_reg_fade_kimg, blur_fade_kimg=blur_fade_kimg)
    run = _changed(base.run, seed=seed, kimg=kimg, batch=batch, batch_gpu=batch_gpu, tick=tick, metrics=_names(metrics))
    run = run if snap is None else replace(run, snap=snap or None)
    device = choose_device("auto", threads)
    source = _changed(
        base.data,
        holdout=holdout,
        uv_mask=None if uv_mask is None else str(uv_mask),
        workers=3 if workers is None and device.type == "cuda" else workers,
    )
    config = replace(
        base,
        model=model,
        loss=loss,
        schedule=schedule,
        run=run,
        data=source,
        generator_optimizer=_changed(base.generator_optimizer, lr=glr),
        discriminator_optimizer=_changed(base.discriminator_optimizer, lr=dlr),
    )
    _launch(config, outdir, desc, resume, dry_run=dry_run, device=str(device))


def _launch(config: TrainConfig, outdir: Path, description: str, resume: Path | None, *, dry_run: bool, device: str) -> None:
    """Open the data set, print what will be done, and do it."""
    import torch

    from training.dataset import open_dataset
    from training.folders import run_name
    from training.loop import train as run_training
    from training.summary import describe

    dataset = open_dataset(config.data.path, config.model.generator.image_resolution, uv_mask=config.data.uv_mask)
    dataset = dataset.without_last(config.data.holdout)
    generator = replace(config.model.generator, head=dataset.head_name)
    config = replace(config, model=replace(config.model, generator=generator))
    if dry_run:
        click.echo(describe(config, dataset, device))
        return
    click.echo(f"Data set: {len(dataset)} images of {dataset.stored_resolution}² in {dataset.path}; device: {device}")
    run_training(
        config, dataset, outdir, name=run_name(config, description), device=torch.device(device), resume_from=resume, say=click.echo
    )


def _model(model: ModelConfig, mbstd_group: int | None, gen_pose_cond: bool | None, mesh_image: bool | None) -> ModelConfig:
    """The preset's networks with the changes that flags ask for."""
    mapping = _changed(model.generator.mapping, pose_conditioning=gen_pose_cond)
    return replace(
        model,
        generator=replace(model.generator, mapping=mapping),
        discriminator=_changed(model.discriminator, group_size=mbstd_group, mesh_image=mesh_image),
    )


def _changed(section: _Section, **given: Any) -> _Section:
    """A section of the configuration with the values that were given; None was not."""
    return replace(section, **{name: value for name, value in given.items() if value is not None})  # type: ignore[type-var]


def _names(text: str | None) -> tuple[str, ...] | None:
    """`a,b` to (a, b); `none` to ()."""
    if text is None:
        return None
    return () if text.lower() == "none" else tuple(name.strip() for name in text.split(",") if name.strip())
