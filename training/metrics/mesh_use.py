"""Does the discriminator look at the mesh? It should find a photo with its own mesh truer than the same photo with another's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from next3d.discriminator import Discriminator
from next3d.head.topology import Topology
from next3d.render.mesh_image import render_mesh_image
from next3d.types import Camera, HeadMesh

Scorer = Callable[[Tensor, HeadMesh, Camera], Tensor]
"""Images [N, 3, H, H], meshes and cameras to scores [N]; larger means truer."""
BATCH = 20
"""Photos scored at once; what the discriminator computes over a group of samples, it computes over the same ones twice."""


def discriminator_scorer(discriminator: Discriminator, topology: Topology, raw_image: Callable[[Tensor], Tensor]) -> Scorer:
    """The scorer of a network; `raw_image` makes the raw image of a real one just as training does."""

    @torch.inference_mode()
    def score(images: Tensor, mesh: HeadMesh, camera: Camera) -> Tensor:
        guide = render_mesh_image(mesh, camera, topology, images.shape[-1])
        return discriminator(images, raw_image(images), guide, camera.to_label())[:, 0]

    return score


def mesh_preference(scorer: Scorer, images: Tensor, mesh: HeadMesh, camera: Camera) -> float:
    """Fraction of images [N, 3, H, H] scored higher with their own mesh than with another sample's under the same camera.

    Every mesh is handed on by half the set (a derangement that is the same every time); equal scores count one half.

    Raises:
        ValueError: fewer than two images: nothing to swap with.
    """
    count = len(images)
    if count < 2:
        raise ValueError(f"mesh preference: {count} image, expected at least 2")
    other = (torch.arange(count) + count // 2) % count
    wins = []
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        true = scorer(images[part], mesh[part], camera[part])
        swapped = scorer(images[part], mesh[other[part]], camera[part])
        wins.append((true > swapped).double() + 0.5 * (true == swapped).double())
    return float(torch.cat(wins).mean())
