"""Released networks from their tensors and constructor arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dnnlib.errors import CheckpointError
from next3d.config import GeneratorConfig, TriplaneConfig
from next3d.discriminator import Discriminator
from next3d.generator import Generator, TriplaneGenerator
from next3d.head.obj import MASK_SIZE, mesh_guide_colors
from next3d.head.topology import Topology
from next3d.official.generators import ReleasedEG3D, ReleasedNext3D
from next3d.official.settings import decoder_multiplier, discriminator_config, explained, generator_config, kind_of
from torch_utils.ops.upfirdn2d import BINOMIAL

FOLDERS = {
    "backbone.mapping.": "mapping_network.",
    "backbone.synthesis.": "static.",
    "texture_backbone.synthesis.": "texture.",
    "mouth_backbone.synthesis.": "mouth.complete.",
    "neural_blending.synthesis.": "mouth.blend.",
    "superresolution.": "superres.",
    "decoder.": "decoder.",
}
"""Parts of a released generator and where they are in ours; inside of them the names are the same."""
TOPOLOGY_NAMES = ("faces", "raw_uvcoords", "uvfaces")
DERIVED_NAMES = ("dense_faces", "uvcoords", "face_uvcoords", "dataset_label_std")
"""Buffers of released networks that follow from others, or that only training used."""
FILTER_NAME = "resample_filter"
OWN_ONLY = "mapping.w_avg"
"""The label embedding of a discriminator is never truncated: ours keeps a mean that nobody reads, released ones do not."""


@dataclass(frozen=True)
class Converted:
    """A released network as one of ours."""

    module: TriplaneGenerator | Discriminator
    """In evaluation mode, without gradients."""
    taken: int
    """Numbers that were taken over."""
    left: Mapping[str, int]
    """Parameters and noise maps that the original owns and never uses: how many numbers, by part of the network."""


def build_generator(config: TriplaneConfig, topology: Topology | None) -> TriplaneGenerator:
    """A fresh generator of the kind that the configuration names.

    Raises:
        CheckpointError: the kind needs a mesh and there is none.
    """
    if not isinstance(config, GeneratorConfig):
        return ReleasedEG3D(config)
    if topology is None:
        raise CheckpointError("the network draws a mesh, but its file holds no topology; the file is damaged")
    return ReleasedNext3D(config, topology) if config.kind == "released-next3d" else Generator(config, topology)


def load_official_state(
    arrays: Mapping[str, np.ndarray[Any, Any] | Tensor], config: Mapping[str, Any], *, uv_mask: Tensor | None = None
) -> TriplaneGenerator | Discriminator:
    """A released generator or discriminator from its state dict.

    Args:
        arrays: tensors under their official names.
        config: arguments of the official constructor.
        uv_mask: [1, 1, M, M] in [0, 1], what the neural texture is responsible for; it is no part of a state dict. None: all of it.

    Raises:
        CheckpointError: tensors or arguments do not make a network that is known.
    """
    tensors = {name: torch.as_tensor(value) for name, value in arrays.items()}
    return convert_network(tensors, config, uv_mask=uv_mask).module


def convert_network(
    tensors: Mapping[str, Tensor], arguments: Mapping[str, Any], *, uv_mask: Tensor | None = None, resolution: int | None = None
) -> Converted:
    """As `load_official_state`, with a report; `resolution` is the neural rendering resolution."""
    kind = kind_of(tensors)
    module: TriplaneGenerator | Discriminator
    topology = _topology(tensors, uv_mask) if kind == "released-next3d" else None
    with explained(), torch.device("meta"):  # arguments could ask for any amount of memory; none is taken before all shapes fit
        if kind is None:
            module = Discriminator(discriminator_config(tensors, arguments))
        else:
            module = build_generator(generator_config(kind, tensors, arguments, resolution), topology)
    renamed = own_weights(tensors, arguments)
    _fill(module, renamed)
    taken = sum(value.numel() for value in module.state_dict().values())
    return Converted(module.eval().requires_grad_(False), taken, _left_over(module, renamed))


def own_weights(tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """What was learned or drawn, under our names and as our layers use it.

    Raises:
        CheckpointError: numbers that are not finite, or resampling that our layers do not have.
    """
    _check_filters(tensors)
    weights = {own_name(name): value for name, value in tensors.items() if is_weight(name)}
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"tensor {official_name(name)!r} holds numbers that are not finite; the file is damaged")
    multiplier = decoder_multiplier(arguments) if "decoder.net.0.weight" in weights else 1.0
    if multiplier == 1:
        return weights
    # Our layers have no learning-rate multiplier here: it goes into the weights.
    return {name: value * multiplier if name.startswith("decoder.") else value for name, value in weights.items()}


def own_name(name: str) -> str:
    """Our name of a released tensor; names without counterpart stay as they are."""
    for theirs, ours in FOLDERS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def official_name(name: str) -> str:
    """The released name of one of our tensors: undoes `own_name`."""
    for theirs, ours in FOLDERS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def is_weight(name: str) -> bool:
    """Whether a released tensor is something that was learned or drawn, not the mesh or a fixed filter."""
    return name not in TOPOLOGY_NAMES + DERIVED_NAMES and not name.endswith(FILTER_NAME)


def _fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give memory to a module, and copy weights into it, if all that it needs are there and fit."""
    for name, value in module.state_dict().items():
        if name == OWN_ONLY:
            continue
        if name not in weights:
            raise CheckpointError(f"the tensor {official_name(name)!r} is missing; the file is incomplete or of another architecture")
        given = weights[name]
        if given.shape != value.shape or given.is_complex():
            kind = str(given.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"tensor {official_name(name)!r} has shape {list(given.shape)} ({kind}), "
                f"expected {list(value.shape)} real numbers by its arguments"
            )
    for name, value in module.to_empty(device="cpu").state_dict().items():
        value.copy_(weights[name]) if name in weights else value.zero_()


def _left_over(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Numbers that have no place in a module, by part of the original."""
    own = module.state_dict()
    left: dict[str, int] = {}
    for name, given in weights.items():
        if name in own:
            continue
        network, _, rest = official_name(name).partition(".")
        part = network if network == "superresolution" else f"{network}.{rest.partition('.')[0]}"
        left[part] = left.get(part, 0) + given.numel()
    return left


def _check_filters(tensors: Mapping[str, Tensor]) -> None:
    """All resampling must use the binomial filter, the only one that our layers have."""
    line = torch.tensor(BINOMIAL)
    expected = torch.outer(line, line) / line.sum() ** 2
    for name, value in tensors.items():
        if name.endswith(FILTER_NAME) and not (value.shape == expected.shape and torch.allclose(value.float(), expected, atol=1e-5)):
            raise CheckpointError(f"{name!r} is not the binomial filter [1, 3, 3, 1]; networks with another one cannot be used here")


def _topology(tensors: Mapping[str, Tensor], uv_mask: Tensor | None) -> Topology:
    """Triangles and UVs of the mesh that a released generator draws."""
    for name in TOPOLOGY_NAMES:
        if name not in tensors or tensors[name].ndim != 3 or len(tensors[name]) != 1:
            raise CheckpointError(f"the tensor {name!r} of the mesh is missing or not a batch of one; the file is damaged")
    faces, uvs, uv_faces = (tensors[name][0] for name in TOPOLOGY_NAMES)
    if len(faces) == 0 or faces.dtype == torch.bool or uv_faces.dtype == torch.bool:
        raise CheckpointError("'faces' holds no triangles; the file is damaged")
    if uvs.shape[1] != 2 or not torch.isfinite(uvs).all():
        raise CheckpointError(f"'raw_uvcoords' has shape {list(uvs.shape)}, expected finite pairs; the file is damaged")
    for name, index, count in (("faces", faces, 3 * len(faces)), ("uvfaces", uv_faces, len(uvs))):
        if index.shape != (len(faces), 3) or index.is_floating_point() or not ((index >= 0) & (index < count)).all():
            raise CheckpointError(f"{name!r} does not hold the corners of {len(faces)} triangles; the file is damaged")
    faces, uvs, uv_faces = faces.long(), uvs.float(), uv_faces.long()
    colors = mesh_guide_colors(_flat_vertices(faces, uvs, uv_faces), faces)
    return Topology(faces=faces, uvs=uvs, uv_faces=uv_faces, uv_mask=_mask(uv_mask), guide_colors=colors)


def _mask(given: Tensor | None) -> Tensor:
    """The UV mask [1, M, M]; None is responsible for all."""
    if given is None:
        return torch.ones(1, MASK_SIZE, MASK_SIZE)
    square = given.ndim >= 2 and given.numel() > 0 and given.shape[-1] ** 2 == given.numel()
    if not square or not given.is_floating_point() or not ((given >= 0) & (given <= 1)).all():
        raise CheckpointError(f"its UV mask has shape {list(given.shape)}, expected one square picture of numbers in [0, 1]")
    return given.float().reshape(1, *given.shape[-2:])


def _flat_vertices(faces: Tensor, uvs: Tensor, uv_faces: Tensor) -> Tensor:
    """The mesh spread out in UV space [V, 3]: released files hold no vertices, but guide colours only need places."""
    flat = torch.zeros(int(faces.max()) + 1, 3)
    flat[faces.flatten(), :2] = uvs[uv_faces.flatten()]
    return flat
