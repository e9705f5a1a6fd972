"""Everything that a run carries from step to step, and its files: `network-NNNNNN.safetensors` to use, `network-NNNNNN.state` to go on.

Random numbers are keyed by position, so no generator states are kept. A run cut anywhere and resumed from its state continues bit by
bit on the same kind of machine. `training.packed` has smaller states that travel; they lose a little.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dnnlib.errors import CheckpointError, ConfigError
from next3d.checkpoint import load_generator, load_tensors, load_weights, prefixed, read_metadata, save_generator, save_tensors
from next3d.config import to_json
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from next3d.head.topology import Topology
from next3d.official.build import build_generator
from training.config import OptimizerConfig, TrainConfig
from training.ema import averaged_copy
from training.packed import is_part, read_packed, write_packed
from training.phases import build_optimizer

STATE_FORMAT = "next3d-state"
STATE_VERSION = 1
STATE_SUFFIX = ".state"
_COUNTER = "counter."


@dataclass
class TrainState:
    """The moving parts of a run."""

    generator: Generator
    discriminator: Discriminator
    average: Generator
    """Running average of the generator."""
    optimizers: tuple[Adam, Adam]
    """Of the generator and the discriminator."""
    images: int = 0
    """Real images shown so far."""
    step: int = 0
    """Steps made so far."""
    counters: dict[str, Tensor] = field(default_factory=dict)
    """Named tensors that belong to the run and to no network, such as the strength of the augmentation. They are saved and resumed as they
    are; whoever owns one puts it here with `setdefault`, so that a resumed value stays."""

    def networks(self) -> dict[str, nn.Module]:
        """All networks, by the name under which they are saved."""
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}


def new_state(config: TrainConfig, topology: Topology, device: torch.device) -> TrainState:
    """Fresh networks, initialised from the run's seed alone: the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        generator = build_generator(config.model.generator, topology)
        discriminator = Discriminator(config.model.discriminator)
    assert isinstance(generator, Generator)  # a GeneratorConfig makes nothing else
    generator, discriminator = generator.to(device), discriminator.to(device)
    freeze(generator, config.generator_optimizer)
    freeze(discriminator, config.discriminator_optimizer)
    interval = config.loss.r1_interval if config.loss.gamma > 0 else None
    optimizers = (
        build_optimizer(generator, config.generator_optimizer),
        build_optimizer(discriminator, config.discriminator_optimizer, interval),
    )
    return TrainState(generator, discriminator, averaged_copy(generator), optimizers)


def freeze(network: nn.Module, config: OptimizerConfig) -> None:
    """Take no gradients for what is to stay as it is: a discriminator's first blocks, and parts that learn at rate 0.

    Raises:
        ConfigError: more blocks than there are.
    """
    if config.frozen_blocks:
        blocks = network.blocks() if isinstance(network, Discriminator) else []
        if config.frozen_blocks > len(blocks):
            raise ConfigError(f"--freezed={config.frozen_blocks}: the discriminator has {len(blocks)} blocks; give at most so many")
        for block in blocks[: config.frozen_blocks]:
            block.requires_grad_(False)
    still = {name for name, factor in config.multipliers if factor == 0}
    for name, part in network.named_children():
        if name in still:
            part.requires_grad_(False)


def save_network(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Write the averaged generator."""
    save_generator(path, state.average, metadata={"kimg": f"{state.images / 1000:g}", "preset": config.preset})


def save_state(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Write everything that resuming needs."""
    tensors: dict[str, Tensor] = {}
    for name, network in state.networks().items():
        tensors |= prefixed(f"{name}.", network.state_dict())
    for name, optimizer in zip(("generator", "discriminator"), state.optimizers, strict=True):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= prefixed(f"{name}_optimizer.{index}.", moments)
    tensors |= prefixed(_COUNTER, state.counters)
    described = {
        "format": STATE_FORMAT,
        "format_version": str(STATE_VERSION),
        "config": to_json(config),
        "images": str(state.images),
        "step": str(state.step),
    }
    save_tensors(path, tensors, described)


def resume(path: Path, state: TrainState) -> None:
    """Continue from a state file or a folder with a packed state, or start from the generator in a network file.

    Raises:
        CheckpointError: damaged, incomplete, or of another architecture.
    """
    if is_part(path):
        raise CheckpointError(f"{path}: is one part of a packed state; give the folder {path.parent}")
    if path.is_dir() or path.suffix == STATE_SUFFIX:
        _load_state(path, state)
        return
    loaded = load_generator(path).state_dict()
    load_weights(state.generator, loaded, path)
    load_weights(state.average, loaded, path)


def pack_state(source: Path, folder: Path, part_bytes: int) -> list[Path]:
    """Put a state file into a folder, in parts of at most `part_bytes` bytes; returns their paths (`training.packed`).

    Raises:
        UserError: not a state, parts too small, or the folder cannot be written to.
    """
    tensors, metadata = load_tensors(source, STATE_FORMAT, STATE_VERSION)
    _progress(metadata, source)
    return write_packed(folder, tensors, metadata, part_bytes)


def unpack_state(folder: Path, target: Path) -> int:
    """Make a state file of a packed state; returns the images that it has seen.

    Raises:
        UserError: the folder holds no complete state, or there is no room for the file.
    """
    tensors, texts = read_packed(folder)
    save_tensors(target, tensors, {"format": STATE_FORMAT, "format_version": str(STATE_VERSION), **texts})
    return _progress(texts, folder)[0]


def read_progress(path: Path) -> int:
    """Images that the run had seen when a state was written. The file's parts are checked for being there, not read.

    Raises:
        CheckpointError: not a state file, damaged, cut short, or newer than this version.
    """
    return _progress(read_metadata(path, STATE_FORMAT, STATE_VERSION), path)[0]


def _progress(metadata: Mapping[str, str], path: Path) -> tuple[int, int]:
    """Images and steps."""
    try:
        return int(metadata["images"]), int(metadata["step"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: does not say how far the run was; the file is damaged, resume from an older one") from error


def _load_state(path: Path, state: TrainState) -> None:
    """Read what `save_state` wrote, packed or not."""
    tensors, metadata = read_packed(path) if path.is_dir() else load_tensors(path, STATE_FORMAT, STATE_VERSION)
    for name, network in state.networks().items():
        load_weights(network, _take(tensors, f"{name}."), path)
    for name, optimizer in zip(("generator", "discriminator"), state.optimizers, strict=True):
        _load_optimizer(optimizer, _take(tensors, f"{name}_optimizer."), path)
    device = next(state.generator.parameters()).device
    for name, tensor in _take(tensors, _COUNTER).items():
        state.counters[name] = tensor.to(device)
    state.images, state.step = _progress(metadata, path)


def _load_optimizer(optimizer: Adam, tensors: dict[str, Tensor], path: Path) -> None:
    """Put moments back; rates and decays stay as the configuration of this run has them."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        moments.setdefault(int(index), {})[field] = tensor
    wanted = {"step", "exp_avg", "exp_avg_sq"}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {index: entry for index, entry in moments.items() if index >= len(parameters) or parameters[index].requires_grad}
    moving = {index for index, parameter in enumerate(parameters) if parameter.requires_grad}
    if moments and (set(moments) != moving or any(set(entry) != wanted for entry in moments.values())):
        raise CheckpointError(
            f"{path}: the optimiser's moments are incomplete: the file is damaged, or fewer parts stay as they are than when it was "
            "written; resume from an older one, or with the same --freezed, --g-lr-mul and --d-lr-mul"
        )
    described = copy.deepcopy(optimizer.state_dict())
    described["state"] = moments
    optimizer.load_state_dict(described)


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
