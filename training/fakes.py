"""What a training step sees of a batch, and the fakes that go with it. Every random number is keyed by the global sample index.

The fakes of a step are posed and seen like its real images, sample by sample: their rasters and mesh renderings are computed once and
serve both networks, and no sample depends on which others share its part of the batch. (The discriminator cannot profit from the
pairing: it sees one sample at a time, but for the standard deviation over a group.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.config import DiscriminatorConfig
from next3d.generator import Generator
from next3d.render.mesh_depth import render_face_depth
from next3d.render.mesh_image import render_mesh_image
from next3d.stylegan2.layers import Noise
from next3d.types import Camera, GeneratorOutput, HeadMesh, Planes, Rasters, RaySampling, Styles, TensorBundle
from training.config import LossConfig
from training.losses import resize_raw
from training.randomness import Draws


@dataclass(frozen=True)
class StepInput(TensorBundle):
    """A part of a batch on the training device, with everything that both networks' steps share."""

    image: Tensor
    """[N, 3, H, H] real images in [-1, 1]."""
    image_raw: Tensor
    """[N, 3, r, r] the same at the neural rendering resolution."""
    camera: Camera
    mesh: HeadMesh
    rasters: Rasters
    """The meshes in the plane views."""
    mesh_image: Tensor | None
    """[N, 3, H, H], what the discriminator sees of the meshes; None if it sees nothing of them."""
    other_mesh_image: Tensor | None
    """[N, 3, H, H], a mesh that the image does not show, seen by the image's camera; None without the mismatch term."""
    mesh_depth: Tensor | None
    """[N, 1, r, r], distance to the mesh along the rays; None without the surface term."""
    face: Tensor | None
    """[N, 1, r, r] in [0, 1], how much of a pixel is the mesh's face or eyes."""
    label: Tensor
    """[N, 25 + K], the cameras as labels, and what else the generator is conditioned on."""
    swapped: Tensor
    """[N, 25 + K], labels of other items of the data set, for the conditioning swap."""
    position: Tensor
    """[N] int64, global sample indices: keys of all randomness."""


@torch.no_grad()
def prepare(
    generator: Generator,
    discriminator: DiscriminatorConfig,
    image: Tensor,
    camera: Camera,
    mesh: HeadMesh,
    *,
    swapped: Tensor,
    position: Tensor,
    other_mesh: HeadMesh | None = None,
    surface: bool = False,
    extra: Tensor | None = None,
) -> StepInput:
    """Rasterise the meshes for both networks, once; arguments as the fields of `StepInput`, `other_mesh` asks for `other_mesh_image`,
    `surface` for `mesh_depth`, `extra` [N, K] is what the generator is conditioned on beside the camera."""
    mesh_image = other = None
    if discriminator.mesh_image:
        mesh_image = render_mesh_image(mesh, camera, generator.topology, image.shape[-1])
        if other_mesh is not None:
            other = render_mesh_image(other_mesh, camera, generator.topology, image.shape[-1])
    resolution = generator.config.render.resolution
    mesh_depth, face = render_face_depth(mesh, camera, generator.topology, resolution) if surface else (None, None)
    return StepInput(
        image=image,
        image_raw=resize_raw(image, resolution),
        camera=camera,
        mesh=mesh,
        rasters=generator.rasterize(mesh),
        mesh_image=mesh_image,
        other_mesh_image=other,
        mesh_depth=mesh_depth,
        face=face,
        label=camera.to_label() if extra is None else torch.cat([camera.to_label(), extra], dim=1),
        swapped=swapped,
        position=position,
    )


@dataclass(frozen=True)
class Fakes:
    """Generated counterparts of a `StepInput`."""

    output: GeneratorOutput
    planes: Planes
    latent: Tensor
    """[N, W], intermediate latents w, before a second one is mixed in: their running mean is what truncation pulls towards."""
    rays: Mapping[str, Tensor]
    """What `render` tells its probe: "features", "ray_weights" and "ray_depths"."""


@dataclass(frozen=True)
class FakeMaker:
    """Draws latents and generates fakes; `purpose` keeps the draws of the two networks' steps apart."""

    generator: Generator
    draws: Draws
    config: LossConfig
    purpose: str

    def __call__(self, step: StepInput, swap_probability: float) -> Fakes:
        """Generate one fake per real image, with its head and camera."""
        generator, position = self.generator, step.position
        noise = self._noise(position)
        styles = self._styles(step, swap_probability)
        identity = generator.identity(styles, noise=noise)
        planes = generator.animate(identity, step.mesh, rasters=step.rasters, noise=noise)
        rays: dict[str, Tensor] = {}
        output = generator.render(planes, step.camera, styles, sampling=self._sampling(position), noise=noise, probe=rays.__setitem__)
        return Fakes(output, planes, latent=styles.static[:, 0], rays=rays)  # mixing leaves the first row alone

    def _styles(self, step: StepInput, swap_probability: float) -> Styles:
        """Styles of fresh latents, conditioned on the sample's own camera or on another one."""
        position, size = step.position, self.generator.config.latent_size
        swap = self.draws.uniform(f"{self.purpose} swap", position, 1) < swap_probability
        condition = torch.where(swap, step.swapped, step.label)
        styles = self.generator.mapping(self.draws.normal(f"{self.purpose} z", position, size), condition)
        if self.config.style_mixing == 0:
            return styles
        second = self.generator.mapping(self.draws.normal(f"{self.purpose} second z", position, size), condition)
        mix = self.draws.uniform(f"{self.purpose} mix", position, 1, 1) < self.config.style_mixing
        crossing = self.draws.uniform(f"{self.purpose} crossing", position, 1, 1)
        return Styles(
            static=_mixed(styles.static, second.static, mix, crossing), texture=_mixed(styles.texture, second.texture, mix, crossing)
        )

    def _sampling(self, position: Tensor) -> RaySampling:
        """Jitter and importance draws of every ray."""
        render = self.generator.config.render
        rays = render.resolution**2
        jitter = self.draws.uniform(f"{self.purpose} jitter", position, rays, render.coarse_samples)
        if render.fine_samples == 0:
            return RaySampling(jitter=jitter)
        return RaySampling(jitter=jitter, importance=self.draws.uniform(f"{self.purpose} importance", position, rays, render.fine_samples))

    def _noise(self, position: Tensor) -> Noise:
        """Per-pixel noise: layers ask for it in a fixed order, and the request's number keys it."""
        if self.config.noise == "const":
            return "const"
        requests = iter(range(1 << 20))
        return lambda shape: self.draws.normal(f"{self.purpose} noise {next(requests)}", position, *shape[1:])


def _mixed(first: Tensor, second: Tensor, mix: Tensor, crossing: Tensor) -> Tensor:
    """Rows [N, L, W] of `second` from a random row on, where `mix` [N, 1, 1] says so; `crossing` [N, 1, 1] is in [0, 1)."""
    rows = torch.arange(first.shape[1], device=first.device)[None, :, None]
    start = 1 + (crossing * (first.shape[1] - 1)).long()
    return torch.where(mix & (rows >= start), second, first)
