"""Our network files: safetensors with a JSON configuration in the metadata. Loading executes nothing from the file.

A file holds a generator (weights under `generator.`) and the topology that it draws (under `topology.`), or a discriminator.
Published snapshots are read, too (`next3d.official`).
`docs/formats.md` lists the fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dnnlib.errors import CheckpointError, ConfigError, WriteError
from dnnlib.files import atomic_write
from next3d.config import DiscriminatorConfig, GeneratorConfig, from_json, read_generator_config, to_json
from next3d.discriminator import Discriminator
from next3d.generator import Generator, TriplaneGenerator
from next3d.head.topology import Topology
from next3d.official.build import build_generator
from next3d.official.published import Published, is_published
from next3d.shipped import shipped_network

FORMAT = "next3d-network"
DISCRIMINATOR_FORMAT = "next3d-discriminator"
FORMAT_VERSION = 1
_REGION = "regions."
_EYE_POINTS = "eye_points."

_Config = TypeVar("_Config")


def save_generator(
    path: Path | str, generator: TriplaneGenerator, *, metadata: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write a generator with its configuration and topology.

    Args:
        path: the file.
        generator: any of ours.
        metadata: adds texts such as "kimg" or "source".
        half: store weights in float16, half as large; they are float32 again when they are loaded.

    Raises:
        CheckpointError: a weight is too large for float16.
    """
    tensors = prefixed("generator.", _halved(generator.state_dict(), path) if half else generator.state_dict())
    if isinstance(generator, Generator):
        tensors |= prefixed("topology.", topology_tensors(generator.topology))
    save_tensors(path, tensors, _described(FORMAT, to_json(generator.config), metadata))


def _halved(tensors: Mapping[str, Tensor], path: Path | str) -> dict[str, Tensor]:
    """Floating-point tensors as float16."""
    halved = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    if large := [name for name, value in halved.items() if not value.isfinite().all()]:
        raise CheckpointError(f"{path}: {large[0]} has values that float16 does not reach; write it in full precision")
    return halved


def read_network_metadata(path: Path | str) -> dict[str, str]:
    """The texts in a generator's file of ours; raises CheckpointError as `load_generator`."""
    return read_metadata(path, FORMAT, FORMAT_VERSION)


def load_generator(path: Path | str | None = None, device: torch.device | str = "cpu") -> TriplaneGenerator:
    """Read a generator in evaluation mode, float32: a file of ours, or a published snapshot (its running average).

    Without a path it is the network that comes with the package (`next3d.shipped`).

    Raises:
        CheckpointError: not such a file, damaged, newer than this version, or of another architecture.
    """
    path = shipped_network() if path is None else path
    if is_published(path):
        return Published.open(path).generator().to(device)
    tensors, metadata = load_tensors(path, FORMAT, FORMAT_VERSION)
    config = _config_in(read_generator_config, metadata, path)
    found = _without_prefix(tensors, "topology.")
    topology = topology_from_tensors(found, path) if isinstance(config, GeneratorConfig) else None
    generator = build_generator(config, topology)
    load_weights(generator, _without_prefix(tensors, "generator."), path)
    return generator.to(device).eval().requires_grad_(False)


def load_animatable(path: Path | str | None = None, device: torch.device | str = "cpu") -> Generator:
    """`load_generator` for networks that a mesh moves; raises CheckpointError for others, too."""
    generator = load_generator(path, device)
    if not isinstance(generator, Generator):
        raise CheckpointError(f"{path}: is a network without a mesh (EG3D); expected one whose heads can be posed")
    return generator


def save_converted(path: Path | str, module: TriplaneGenerator | Discriminator, metadata: Mapping[str, str]) -> None:
    """Write a network that came from elsewhere; `metadata` says from where."""
    if isinstance(module, Discriminator):
        save_discriminator(path, module, metadata=metadata)
    else:
        save_generator(path, module, metadata=metadata)


def save_discriminator(path: Path | str, discriminator: Discriminator, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a discriminator with its configuration."""
    tensors = prefixed("discriminator.", discriminator.state_dict())
    save_tensors(path, tensors, _described(DISCRIMINATOR_FORMAT, to_json(discriminator.config), metadata))


def load_discriminator(path: Path | str, device: torch.device | str = "cpu") -> Discriminator:
    """Read what `save_discriminator` wrote, in evaluation mode; raises CheckpointError as `load_generator`."""
    tensors, metadata = load_tensors(path, DISCRIMINATOR_FORMAT, FORMAT_VERSION)
    discriminator = Discriminator(_config_in(partial(from_json, DiscriminatorConfig), metadata, path))
    load_weights(discriminator, _without_prefix(tensors, "discriminator."), path)
    return discriminator.to(device).eval().requires_grad_(False)


def _described(kind: str, config: str, metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {"format": kind, "format_version": str(FORMAT_VERSION), "config": config, **(metadata or {})}


def _config_in(read: Callable[[str], _Config], metadata: Mapping[str, str], path: Path | str) -> _Config:
    """The configuration in a file's metadata."""
    try:
        return read(metadata.get("config", ""))
    except ConfigError as error:
        raise CheckpointError(f"{path}: its configuration cannot be read: {error}. Was it written by another version?") from error


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Copy tensors into a module; every name and shape must fit.

    Raises:
        CheckpointError: names the first tensor that does not.
    """
    own = module.state_dict()
    if missing := sorted(own.keys() - tensors.keys()):
        raise CheckpointError(f"{path}: tensor {missing[0]!r} is missing ({len(missing)} in all): the file is of another architecture")
    if extra := sorted(tensors.keys() - own.keys()):
        raise CheckpointError(f"{path}: tensor {extra[0]!r} is unknown ({len(extra)} in all): the file is of another architecture")
    for name, value in tensors.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                f"{path}: tensor {name!r} has shape {list(value.shape)}, expected {list(own[name].shape)}: "
                "the file is of another architecture; use the configuration that it was trained with"
            )
    module.load_state_dict(dict(tensors))


def topology_tensors(topology: Topology) -> dict[str, Tensor]:
    """A topology as flat tensors."""
    found = {f.name: value for f in fields(topology) if isinstance(value := getattr(topology, f.name), Tensor)}
    return found | prefixed(_REGION, topology.regions) | prefixed(_EYE_POINTS, topology.eye_points)


def topology_from_tensors(tensors: Mapping[str, Tensor], path: Path | str) -> Topology:
    """What `topology_tensors` returned, as a topology."""
    regions, eye_points = _without_prefix(tensors, _REGION), _without_prefix(tensors, _EYE_POINTS)
    plain = {name: value for name, value in tensors.items() if not name.startswith((_REGION, _EYE_POINTS))}
    try:
        return Topology(**plain, regions=regions, eye_points=eye_points)
    except TypeError as error:
        raise CheckpointError(f"{path}: its topology is incomplete ({error}): the file is damaged or of another version") from error


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under longer names."""
    return {prefix + name: value for name, value in tensors.items()}


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically. Tensors that share memory are stored once per name."""
    contiguous = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=dict(metadata))
        except SafetensorError as error:  # also what the operating system says, such as a full disk
            raise WriteError(f"{path}: cannot be written ({error}); check the path, its permissions and the space left.") from error
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read; networks are made to be shared
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the texts of a safetensors header in order: the library writes them in a random one, and equal networks give equal files."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))  # the format allows trailing spaces


def load_tensors(path: Path | str, kind: str, version: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors and the metadata of a file of format `kind`, not newer than `version`.

    Raises:
        CheckpointError: missing, damaged, of another format, or newer.
    """
    return _read(path, kind, version, tensors=True)


def read_metadata(path: Path | str, kind: str, version: int) -> dict[str, str]:
    """The metadata of a file that `load_tensors` would read; checks that the file has the length that it should have.

    Raises:
        CheckpointError: as `load_tensors`.
    """
    return _read(path, kind, version, tensors=False)[1]


def _read(path: Path | str, kind: str, version: int, *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); expected a checkpoint of this project") from error
    if metadata.get("format") != kind:
        other = metadata.get("format")
        raise CheckpointError(f"{path}: is a file of format {other!r}, expected {kind!r}; give the file that `--help` asks for")
    written = metadata.get("format_version", "")
    if not written.isdigit() or int(written) > version:
        raise CheckpointError(f"{path}: format version {written or 'missing'}, this program reads up to {version}; update it")
    return found, metadata
