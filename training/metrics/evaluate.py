"""How good a network is: the figures that `bench.demo` and `next3d demo` print, for a trained generator beside an untrained one.

Real images to compare with are the data set's last ones, which training leaves out; everything fitted to real images uses the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams
from next3d.types import Camera
from training.batch import Batch
from training.dataset import PortraitDataset
from training.losses import resize_raw
from training.metrics.controls import Control, controls
from training.metrics.figures import Measured
from training.metrics.mesh_use import discriminator_scorer, mesh_preference
from training.metrics.regressor import Reader, reader_quality
from training.metrics.response import control_change, read_back
from training.metrics.scenes import Sampler, Scenes, generator_sampler, random_people
from training.metrics.swd import SwdReference, SwdSettings, blurred, distance, mean_image_with_noise, named_levels, prepare
from training.randomness import Draws

SWD_MEAN_SHARE = 0.45
"""Largest mean distance to real images, as a share of the untrained generator's."""
SWD_FINEST_SHARE = 0.60
"""The same at the finest level."""
JAW_CHANGE = 0.05
"""Least change in mouth and chin while the jaw moves over its range, in fractions of the value range."""
JAW_RATIO = 5.0
"""Least ratio of that change to that of the other head pixels."""
JAW_SPEARMAN = 0.8
"""Least correlation between commanded and read jaw opening."""
JAW_BARS = (JAW_CHANGE, JAW_RATIO, JAW_SPEARMAN)
MESH_PREFERENCE = 0.70
"""Least share of real images that the discriminator prefers with their own mesh."""

Say = Callable[[str], None]
"""Receives a line before each step that takes a while."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How many images each figure is made of."""

    images: int = 500
    """Held-out reals, and fakes to compare with them."""
    response: int = 48
    """People whose jaw (gaze, lids) is moved from end to end."""
    readings: int = 192
    """Generated images from which each control is read back."""
    fitting: int = 2000
    """Real images to which readers are fitted."""
    swd: SwdSettings = field(default_factory=SwdSettings)
    seed: int = 0


QUICK = EvaluationSettings(images=60, response=8, readings=32, fitting=200, swd=SwdSettings(projections=64))
"""A sanity pass: the figures are rough."""


@dataclass(frozen=True)
class RealImages:
    """What an evaluation reads from a data set."""

    head: HeadModel
    held_out: Batch
    """The last images, which training leaves out."""
    others: Batch
    """As many images from the rest, for comparison and to lend heads and cameras to fakes."""
    fitting: Batch
    """Images from the rest to which readers are fitted; `others` are among them."""


def read_reals(dataset: PortraitDataset, settings: EvaluationSettings) -> RealImages:
    """Read the images of an evaluation.

    Raises:
        DatasetError: too few images, or heads that are meshes: a jaw cannot be moved in those.
    """
    count, rest = settings.images, len(dataset) - settings.images
    if rest < count:
        raise DatasetError(
            f"{dataset.path}: {len(dataset)} images, but the evaluation needs {count} held-out ones and as many others; "
            "make a larger data set."
        )
    order = Draws(settings.seed).permutation("metrics: rows", 0, rest).tolist()
    held_out = dataset.read(range(rest, rest + count))
    if not isinstance(held_out.head, HeadParams):
        raise DatasetError(
            f"{dataset.path}: its heads are meshes, but moving a jaw needs head parameters; evaluate on a data set that has heads.npz."
        )
    fitting = dataset.read(order[: max(count, settings.fitting)])
    return RealImages(load_head(dataset.head_name), held_out, fitting[:count], fitting)


def evaluate(
    trained: Generator,
    untrained: Generator,
    discriminator: Discriminator | None,
    dataset: PortraitDataset,
    settings: EvaluationSettings | None = None,
    say: Say = lambda line: None,
) -> list[Measured]:
    """All figures of a network.

    Args:
        trained: the averaged generator.
        untrained: one of the same configuration before training.
        discriminator: the one it was trained with; None leaves its figure out.
        dataset: its last `settings.images` must not have been seen in training.
        settings: sizes.
        say: told what is going on.

    Raises:
        DatasetError: the data set is too small, or has no head parameters.
    """
    settings = settings or EvaluationSettings()
    say(f"Reading {settings.images} held-out real images and {max(settings.images, settings.fitting)} others")
    reals = read_reals(dataset, settings)
    samplers = tuple(generator_sampler(generator, reals.head) for generator in (trained, untrained))
    latent_size = trained.config.latent_size
    say(f"Comparing {settings.images} generated images with the held-out ones, before and after training")
    figures = distance_figures(reals, samplers, latent_size, settings)
    params, camera = parameters(reals.held_out)
    scenes = random_people(params, camera, latent_size, seed=settings.seed + 1)
    for name, control in controls(reals.head).items():
        say(f"Moving the {name}")
        figures += response_figures(reals, samplers, scenes, control, settings)
    if discriminator is not None and discriminator.config.mesh_image:
        say("Swapping meshes before the discriminator")
        raw_image = partial(resize_raw, resolution=trained.config.render.resolution)
        figures.append(preference_figure(reals, discriminator, raw_image, dataset))
    return figures


def parameters(batch: Batch) -> tuple[HeadParams, Camera]:
    """Head parameters and cameras of a batch."""
    if not isinstance(batch.head, HeadParams):
        raise TypeError(f"expected head parameters, got {type(batch.head).__name__}")
    return batch.head, batch.camera


def distance_figures(reals: RealImages, samplers: tuple[Sampler, ...], latent_size: int, settings: EvaluationSettings) -> list[Measured]:
    """Sliced Wasserstein distances to the held-out images, of both generators (trained, untrained) and of sets that anyone could make."""
    reference = prepare(reals.held_out.image, settings.swd)
    scenes = random_people(*parameters(reals.others), latent_size, seed=settings.seed)
    after, before = (_distance(sampler(scenes), reference) for sampler in samplers)
    others = reals.others.image
    compared = {
        "noise": ("mean image + noise", _distance(mean_image_with_noise(others, settings.seed), reference)),
        "blurred": ("reals blurred to 8²", _distance(blurred(others), reference)),
        "real": ("real against real: the floor", _distance(others, reference)),
    }
    to_beat = min(compared["noise"][1]["mean"], compared["blurred"][1]["mean"])
    count = f"SWD x 1e3 of {settings.images} images to as many held-out reals"
    figures = [Measured("swd_mean", after["mean"], before["mean"], at_most=to_beat, note=f"{count}; bar: the better of noise and blur")]
    figures += [Measured(f"swd_{level}", after[level], before[level], note=f"level {level}²") for level in after if level != "mean"]
    shares = {level: after[level] / before[level] for level in after}
    finest = next(level for level in shares if level != "mean")
    figures.append(Measured("swd_mean_share", shares["mean"], at_most=SWD_MEAN_SHARE, note="trained / untrained, mean of the levels"))
    figures.append(Measured("swd_finest_share", shares[finest], at_most=SWD_FINEST_SHARE, note="trained / untrained, finest level"))
    for name, (note, levels) in compared.items():
        figures += [Measured(f"swd_{name}_{level}", value, note=note if level == "mean" else "") for level, value in levels.items()]
    return figures


def _distance(images: Tensor, reference: SwdReference) -> Mapping[str, float]:
    """Mean and levels, by name."""
    return named_levels(distance(prepare(images, reference.settings), reference))


def response_figures(
    reals: RealImages, samplers: tuple[Sampler, ...], scenes: Scenes, control: Control, settings: EvaluationSettings
) -> list[Measured]:
    """What moving one control does to the picture, and whether it can be read back. Bars exist for the jaw."""
    name, head = control.name, reals.head
    few, many = scenes[: settings.response], scenes[: settings.readings]
    after, before = (control_change(sampler, few, head, control) for sampler in samplers)
    reader = Reader.fit(control, head, reals.fitting.image, *parameters(reals.fitting))
    quality = reader_quality(reader, reals.held_out.image, *parameters(reals.held_out))
    read_after, read_before = (read_back(sampler, many, reader, settings.seed) for sampler in samplers)
    change, ratio, correlation = JAW_BARS if name == "jaw" else (None, None, None)
    where = {"jaw": "mouth and chin", "gaze": "the eyes", "blink": "the eyes"}[name]
    moved = f"change of the value range in {where}, {control.low:.2f} to {control.high:.2f}, {len(few)} people"
    ceiling = "ceiling: truth and reading of held-out reals"
    return [
        Measured(f"{name}_change", after.inside, before.inside, change, note=moved),
        Measured(f"{name}_elsewhere", after.elsewhere, before.elsewhere, note="in the other head pixels"),
        Measured(f"{name}_ratio", after.ratio, before.ratio, ratio, note="the first over the second"),
        Measured(f"{name}_spearman", read_after, read_before, correlation, note=f"command and reading, {len(many)} generated images"),
        Measured(f"{name}_reader_even_spearman", quality.spearman_even, note=f"{ceiling}, {quality.even_count} spread evenly"),
        Measured(f"{name}_reader_spearman", quality.spearman, note=f"{ceiling}, all {len(reals.held_out)}"),
        Measured(f"{name}_reader_error", quality.error, note=f"mean absolute error there, range {control.high - control.low:.2f}"),
    ]


def preference_figure(
    reals: RealImages, discriminator: Discriminator, raw_image: Callable[[Tensor], Tensor], dataset: PortraitDataset
) -> Measured:
    """Whether the discriminator finds a real image with its own mesh truer than with another's."""
    device = next(discriminator.parameters()).device
    batch = reals.held_out.to(device)
    scorer = discriminator_scorer(discriminator, dataset.topology.to(device), raw_image)
    with torch.inference_mode():
        share = mesh_preference(scorer, batch.image, dataset.head_mesh(batch), batch.camera)
    note = f"share of {len(batch)} held-out reals scored higher with their own mesh than with another's"
    return Measured("mesh_preference", share, at_least=MESH_PREFERENCE, note=note)
