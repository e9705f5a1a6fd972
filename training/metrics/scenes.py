"""What one generated picture is made of, and the function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from next3d.generator import Generator, TriplaneGenerator
from next3d.head.model import HeadParams
from next3d.types import Camera, HeadMesh, Identity, TensorBundle
from training.batch import HeadRow
from training.conditions import expression_and_jaw
from training.metrics.controls import Control
from training.randomness import Draws

BATCH = 16
"""Images generated at once, by default."""


@dataclass(frozen=True)
class Scenes(TensorBundle):
    """N heads of N people under N cameras."""

    z: Tensor
    """[N, Z], who it is."""
    params: HeadRow
    """What the head does: parameters of a head model, or a mesh that stands still."""
    camera: Camera
    """From where; its label also conditions the generator, as in training, unless `known_by` is given."""
    known_by: Camera | None = None
    """The camera whose label conditions the generator instead: with one and the same for all views of a person, styles and face are
    computed once, as for videos."""

    def __len__(self) -> int:
        return len(self.z)

    @property
    def moving(self) -> HeadParams:
        """Heads that can be commanded; TypeError for meshes."""
        if not isinstance(self.params, HeadParams):
            raise TypeError(f"expected head parameters, got {type(self.params).__name__}")
        return self.params

    def commanded(self, control: Control, value: Tensor) -> Scenes:
        """The same people and cameras with a control at `value` [N]."""
        return replace(self, params=control.set(self.moving, value.to(self.moving.pose)))


Pose = Callable[[Any], HeadMesh]
"""Heads, as a data set's parameters or meshes, to meshes in world units."""
Sampler = Callable[[Scenes], Tensor]
"""Scenes to images [N, 3, H, H] in [-1, 1]."""


def in_many_poses(scenes: Scenes, heads: Sequence[HeadParams]) -> Scenes:
    """Each of N people with its own of K times N heads: the first person with K of them, then the second one. N * K scenes."""
    person = torch.arange(len(scenes) * len(heads)) // len(heads)
    parts = zip(*(vars(head).values() for head in heads), strict=True)
    return replace(scenes[person], params=HeadParams(*(torch.stack(part, dim=1).flatten(0, 1) for part in parts)))


def random_people(params: HeadRow, camera: Camera, latent_size: int, seed: int = 0, first: int = 0) -> Scenes:
    """Scenes of N given heads and cameras, each with a person of its own: the numbers `first` to `first + N - 1` of the seed."""
    index = torch.arange(first, first + len(camera.cam2world))
    return Scenes(Draws(seed).normal("metrics: z", index, latent_size), params, camera)


def generator_sampler(generator: TriplaneGenerator, pose: Pose, truncation: float = 1.0, batch: int = BATCH) -> Sampler:
    """The sampler of a network: constant noise, rays sampled in the middle of their strata, pixels of 8 bits as photos have them.

    Heads are posed on the CPU, where scenes and images are; the network may be elsewhere. Scenes of one batch that have the same latent and
    the same label share what the network computes once per face.

    Args:
        generator: any of ours; one without a mesh (EG3D) ignores the scenes' heads.
        pose: what turns the scenes' heads into meshes: a head model, or the data set that they come from.
        truncation: 1 is the full variety, 0 the mean face.
        batch: images generated at once.
    """
    device = next(generator.parameters()).device

    @torch.inference_mode()
    def sample(scenes: Scenes) -> Tensor:
        images = []
        for start in range(0, len(scenes), batch):
            part = scenes[start : start + batch]
            identity = faces_of(generator, part, truncation)
            if isinstance(generator, Generator):
                planes = generator.animate(identity, pose(part.params).to(device))
            else:
                planes = generator.still(identity)
            images.append(quantise(generator.render(planes, part.camera.to(device), identity.styles).image).cpu())
        return torch.cat(images)

    return sample


def faces_of(generator: TriplaneGenerator, scenes: Scenes, truncation: float = 1.0) -> Identity:
    """What the network computes once per face, for each of the scenes; equal faces are computed once."""
    device = next(generator.parameters()).device
    size = scenes.z.shape[1]
    rows = torch.cat([scenes.z, condition(scenes, generator)], dim=1)
    different, index = rows.unique(dim=0, return_inverse=True)
    chosen = rows if len(different) == len(rows) else different
    styles = generator.mapping(chosen[:, :size].to(device), chosen[:, size:].to(device), truncation=truncation)
    identity = generator.identity(styles)
    return identity if chosen is rows else identity[index.to(device)]


def condition(scenes: Scenes, generator: TriplaneGenerator) -> Tensor:
    """What a network is told of scenes, as in training: camera labels [N, 25], with expression and jaw where it was trained with them.

    Scenes that are `known_by` another camera are told of by that one's label alone, and the expression that is told is neutral.
    """
    if scenes.known_by is not None:
        return scenes.known_by.to_label()
    label = scenes.camera.to_label()
    if generator.config.mapping.expression_size == 0 or not isinstance(scenes.params, HeadParams):
        return label
    return torch.cat([label, expression_and_jaw(scenes.params)], dim=1)


def quantise(images: Tensor) -> Tensor:
    """Clamp to [-1, 1] and round to the 256 values that an 8-bit image can have."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
