"""The networks of a finished run, ready to be measured."""

from __future__ import annotations

from pathlib import Path

import torch

from dnnlib.errors import CheckpointError, ConfigError
from next3d.checkpoint import load_tensors, load_weights
from next3d.config import from_json
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from training.config import TrainConfig
from training.state import STATE_FORMAT, STATE_VERSION


def untrained_like(generator: Generator, seed: int = 0) -> Generator:
    """A generator of the same configuration and topology with fresh weights, in evaluation mode on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(generator)(generator.config, generator.topology.to("cpu"))
    return fresh.to(next(generator.parameters()).device).eval().requires_grad_(False)


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
