"""Our network files: safetensors with a JSON configuration in the metadata. Loading executes nothing from the file.

A file holds a generator (weights under `generator.`) and the topology that it draws (under `topology.`).
`docs/formats.md` lists the fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import atomic_write
from next3d.config import GeneratorConfig, from_json, to_json
from next3d.generator import Generator
from next3d.head.topology import Topology

FORMAT = "next3d-network"
FORMAT_VERSION = 1
_REGION = "regions."


def save_generator(path: Path | str, generator: Generator, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a generator with its configuration and topology; `metadata` adds texts such as "kimg" or "source"."""
    tensors = prefixed("generator.", generator.state_dict()) | prefixed("topology.", topology_tensors(generator.topology))
    described = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "config": to_json(generator.config), **(metadata or {})}
    save_tensors(path, tensors, described)


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> Generator:
    """Read a generator in evaluation mode.

    Raises:
        CheckpointError: not such a file, damaged, newer than this version, or of another architecture.
    """
    tensors, metadata = load_tensors(path, FORMAT, FORMAT_VERSION)
    try:
        config = from_json(GeneratorConfig, metadata.get("config", ""))
    except ConfigError as error:
        raise CheckpointError(f"{path}: its configuration cannot be read: {error}. Was it written by another version?") from error
    topology = topology_from_tensors(_without_prefix(tensors, "topology."), path)
    generator = Generator(config, topology)
    load_weights(generator, _without_prefix(tensors, "generator."), path)
    return generator.to(device).eval().requires_grad_(False)


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
    return found | prefixed(_REGION, topology.regions)


def topology_from_tensors(tensors: Mapping[str, Tensor], path: Path | str) -> Topology:
    """What `topology_tensors` returned, as a topology."""
    regions = _without_prefix(tensors, _REGION)
    plain = {name: value for name, value in tensors.items() if not name.startswith(_REGION)}
    try:
        return Topology(**plain, regions=regions)
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
        save_file(contiguous, temporary, metadata=dict(metadata))
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
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); expected a checkpoint of this project") from error
    if metadata.get("format") != kind:
        raise CheckpointError(f"{path}: format {metadata.get('format')!r}, expected {kind!r}")
    found = metadata.get("format_version", "")
    if not found.isdigit() or int(found) > version:
        raise CheckpointError(f"{path}: format version {found or 'missing'}, this program reads up to {version}; update it")
    return tensors, metadata
