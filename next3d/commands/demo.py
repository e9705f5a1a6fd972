"""`next3d demo`: data, training, figures and videos in one go, on any machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.params import OUTPUT_DIR, Real

if TYPE_CHECKING:
    import torch

    from training.metrics.figures import Measured

PRESET = "demo-64"
HELD_OUT = 500
MOTIONS = ("gaze", "jaw", "orbit")
VIDEO_SEEDS = tuple(range(8))
GUIDE = """
What to look at, in {out}:

  faces-before.png, faces-after.png
               the same 64 latents, heads and cameras before and after training; faces-real.png shows the portraits
               whose heads and cameras they borrow. They are blurry and small: this is a network of {parameters:.1f} million
               parameters after {kimg:g} thousand images on {device}. Look for skin, hair and background that differ from
               face to face, and for mouths that are open where the real ones are.
  jaw.mp4      only the jaw of the mesh moves. The mouth should open and show a dark inside; hair and background should
               stay where they are.
  gaze.mp4     only the eyeballs of the mesh turn. An iris is two pixels wide here, and after so short a training the eyes
               mostly stay dark slits that do not follow; the figures say so, too. Train longer to see them turn.
  orbit.mp4    only the camera moves. The head should look like one solid thing seen from several sides.
  figures.txt  the same in numbers, beside those of the untrained network and the bars that we set ourselves.

The mesh is beside every face in the videos. Next: {train}
"""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How much of everything."""

    out: Path
    """Folder for all results."""
    images: int = 3000
    """Portraits to train on; the held-out ones come on top."""
    held_out: int = HELD_OUT
    """Portraits for measuring."""
    kimg: float = 14.0
    """Length of the training."""
    frames: int = 96
    """Length of each video."""
    seed: int = 0
    """Key of every random number."""


@click.command()
@click.option("--out", type=OUTPUT_DIR, default="out", show_default=True, help="Where everything goes.")
@click.option("--images", type=click.IntRange(min=16), default=DemoConfig.images, show_default=True, help="Portraits to train on.")
@click.option("--kimg", type=Real(0, min_open=True), default=DemoConfig.kimg, show_default=True, help="Length of the training.")
@click.option("--frames", type=click.IntRange(min=1), default=DemoConfig.frames, show_default=True, help="Frames per video.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Key of every random number.")
@click.option("--quick", is_flag=True, help="A few minutes' pass to see that everything works; the faces will not be faces.")
def demo(out: Path, images: int, kimg: float, frames: int, seed: int, quick: bool) -> None:
    """Make portraits, train a small generator on them, measure it, and film heads that move.

    \b
    Example:
      next3d demo --out out
    """
    config = DemoConfig(out=out, images=images, kimg=kimg, frames=frames, seed=seed)
    if quick:
        config = replace(config, images=64, held_out=64, kimg=0.064, frames=8)
    run_demo(config, quick=quick)


def run_demo(config: DemoConfig, *, quick: bool = False) -> None:
    """All steps, each told in a line with the time it took."""
    from next3d.commands.network import choose_device

    device = choose_device("auto", None)
    start = time.perf_counter()
    with _step("1. Portraits with exact ground truth"):
        data = make_portraits(config)
    with _step("2. Training"):
        folder, parameters = train_network(config, data, device)
    network = max(folder.glob("network-*.safetensors"))
    with _step("3. Figures, before and after"):
        figures = measure(config, network, data, device, quick=quick)
    with _step("4. Videos"):
        film_motions(config, network, device)
    train = f"next3d train --outdir runs --cfg {PRESET} --data {data} --kimg 200 --resume {network.with_suffix('.state')}"
    click.echo(GUIDE.format(out=config.out, parameters=parameters / 1e6, kimg=config.kimg, device=device, train=train))
    barred = [figure for figure in figures if figure.met is not None]
    click.echo(
        "Bars: " + ", ".join(f"{figure.name} {figure.value:.3g} ({figure.bar}{'' if figure.met else ', missed'})" for figure in barred)
    )
    click.echo(f"Done in {(time.perf_counter() - start) / 60:.1f} minutes.")


@contextmanager
def _step(title: str) -> Iterator[None]:
    click.echo(f"\n{title}")
    start = time.perf_counter()
    yield
    click.echo(f"   {time.perf_counter() - start:.0f} s")


def make_portraits(config: DemoConfig) -> Path:
    """The data set; one that an earlier demo left is used again."""
    from dnnlib.machine import physical_cores
    from next3d.config import preset
    from next3d.synthetic.generate import SyntheticConfig, write_dataset

    count = config.images + config.held_out
    path = config.out / f"portraits-{count}-seed{config.seed}.zip"
    if path.exists():
        click.echo(f"   {path} is there already and is used again")
        return path
    resolution = preset(PRESET).generator.image_resolution
    write_dataset(SyntheticConfig(count=count, resolution=resolution, seed=config.seed), path, workers=physical_cores(), progress=True)
    return path


def train_network(config: DemoConfig, data: Path, device: torch.device) -> tuple[Path, int]:
    """Train, and put the grids where they are found; returns the run's folder and the generator's number of parameters."""
    import shutil

    from dnnlib.files import atomic_write
    from next3d.checkpoint import load_animatable
    from training.config import default_config
    from training.dataset import open_dataset
    from training.folders import run_name
    from training.interrupt import Stopped
    from training.loop import train

    settings = default_config(PRESET, str(data))
    settings = replace(
        settings,
        data=replace(settings.data, holdout=config.held_out),
        run=replace(settings.run, seed=config.seed, kimg=config.kimg, snap=None),
    )
    dataset = open_dataset(data).without_last(config.held_out)
    runs, name = config.out / "runs", run_name(settings, "demo")
    try:
        folder = train(settings, dataset, runs, name=name, device=device, say=lambda line: click.echo(f"   {line}"))
    except Stopped as stopped:
        click.echo(f"   {stopped}")
        raise  # the demo is not done: it ends as interrupted
    pictures = {"reals.png": "real", "fakes_init.png": "before", max(folder.glob("fakes[0-9]*.png")).name: "after"}
    for source, name in pictures.items():
        with atomic_write(config.out / f"faces-{name}.png") as temporary:
            shutil.copyfile(folder / source, temporary)
    network = load_animatable(max(folder.glob("network-*.safetensors")))
    return folder, sum(parameter.numel() for parameter in network.parameters())


def measure(config: DemoConfig, network: Path, data: Path, device: torch.device, *, quick: bool) -> list[Measured]:
    """Print the figures of the trained and the untrained network, and keep them in `figures.txt`."""
    from dnnlib.files import atomic_write
    from next3d.checkpoint import load_animatable
    from training.dataset import open_dataset
    from training.metrics.evaluate import QUICK, EvaluationSettings, evaluate
    from training.metrics.figures import figure_table
    from training.metrics.networks import load_discriminator, untrained_like

    trained = load_animatable(network, device)
    discriminator = load_discriminator(network.with_suffix(".state"), device)
    figures = evaluate(
        trained, untrained_like(trained), discriminator, open_dataset(data), QUICK if quick else EvaluationSettings(images=config.held_out)
    )
    table = figure_table(figures)
    click.echo("\n" + table)
    with atomic_write(config.out / "figures.txt") as temporary:
        temporary.write_text(table + "\n", encoding="utf-8")
    return figures


def film_motions(config: DemoConfig, network: Path, device: torch.device) -> None:
    """One video per motion: four columns of faces, the mesh beside each."""
    from tqdm import tqdm

    from next3d.checkpoint import load_animatable
    from next3d.media.performance import HeadPerformance
    from next3d.media.scene import VideoConfig, film, head_of
    from next3d.media.video import open_video

    generator = load_animatable(network, device)
    head = head_of(generator)
    video = VideoConfig(seeds=VIDEO_SEEDS, columns=4, rows=2, size=192, mesh=True)
    for motion in MOTIONS:
        performance = HeadPerformance(head, motion, VIDEO_SEEDS, frames=config.frames)
        with open_video(config.out / f"{motion}.mp4", 24) as stream:
            for frame in tqdm(film(generator, performance, video), total=config.frames, desc=f"   {motion}", unit="frame"):
                stream.write(frame)
