"""The networks of a finished run, ready to be measured."""

from __future__ import annotations

from pathlib import Path

import torch

from dnnlib.errors import CheckpointError, ConfigError, DatasetError
from next3d.checkpoint import load_tensors, load_weights
from next3d.config import from_json
from next3d.discriminator import Discriminator
from next3d.generator import Generator, TriplaneGenerator
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.metrics.context import Context, MetricSettings, Say
from training.metrics.scenes import generator_sampler
from training.state import STATE_FORMAT, STATE_VERSION


def untrained_like(generator: Generator, seed: int = 0) -> Generator:
    """A generator of the same configuration and topology with fresh weights, in evaluation mode on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(generator)(generator.config, generator.topology.to("cpu"))
    return fresh.to(next(generator.parameters()).device).eval().requires_grad_(False)


def network_context(
    generator: TriplaneGenerator,
    dataset: PortraitDataset,
    settings: MetricSettings,
    *,
    truncation: float = 1.0,
    say: Say = lambda line: None,
) -> Context:
    """Everything that metrics of a network share; detectors and regressors compute where the network is.

    Args:
        generator: in evaluation mode; without a mesh (EG3D), metrics that move heads are not possible.
        dataset: opened at the network's resolution.
        settings: sizes and files.
        truncation: 1 is the full variety of faces, which published figures mean.
        say: told what is going on.

    Raises:
        DatasetError: its heads are not those that the network was trained on.
    """
    if isinstance(generator, Generator):
        check_heads(generator, dataset)
    sampler = generator_sampler(generator, dataset.pose, truncation, settings.batch)
    device = next(generator.parameters()).device
    return Context(sampler, generator.config.latent_size, dataset, settings, device, generator, say, truncation=truncation)


def check_heads(generator: Generator, dataset: PortraitDataset) -> None:
    """Make sure that a network's texture fits the data set's meshes.

    Raises:
        DatasetError: they are of different topologies.
    """
    wanted, found = generator.topology.guide_colors, dataset.topology.guide_colors
    if len(wanted) != len(found):
        names = [name or "no head model" for name in (dataset.head_name, generator.config.head)]
        raise DatasetError(
            f"{dataset.path}: its heads have {len(found)} vertices ({names[0]}), those of the network {len(wanted)} ({names[1]}); "
            "measure on data with the heads that the network was trained on."
        )


def load_discriminator(path: Path | str, device: torch.device | str = "cpu") -> Discriminator:
    """The discriminator in a state file, in evaluation mode.

    Raises:
        CheckpointError: not a state file, damaged, newer, or of another architecture.
    """
    tensors, metadata = load_tensors(path, STATE_FORMAT, STATE_VERSION)
    try:
        config = from_json(TrainConfig, metadata.get("config", ""))
    except ConfigError as error:
        raise CheckpointError(f"{path}: its configuration cannot be read: {error}. Was it written by another version?") from error
    discriminator = Discriminator(config.model.discriminator)
    prefix = "discriminator."
    load_weights(discriminator, {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}, path)
    return discriminator.to(device).eval().requires_grad_(False)
