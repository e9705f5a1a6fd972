"""The generator, left to right as in the paper's figure (Next3D, Fig. 2): latent, head and camera to an image.

z, c --mapping--> Styles --identity--> neural texture, static planes      once per face
texture, mesh --animate--> Planes                                         once per expression
Planes, camera --render--> image                                          once per view
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from next3d.config import GeneratorConfig, TriplaneConfig
from next3d.decoder import Decoder
from next3d.head.topology import Topology
from next3d.hull import start_from_hull
from next3d.planes.blend import blend_planes
from next3d.planes.mouth import FrontMouth, TriplaneMouth, build_mouth
from next3d.planes.rasterize import rasterize_planes
from next3d.planes.sample import texture_planes
from next3d.render.renderer import OWN_SCHEME, RayScheme, decode_points, render_rays
from next3d.stylegan2.layers import Noise
from next3d.stylegan2.mapping import MappingNetwork
from next3d.stylegan2.synthesis import SynthesisNetwork, style_rows
from next3d.superres import Superresolution
from next3d.types import Camera, GeneratorOutput, HeadMesh, Identity, Planes, Probe, Rasters, RaySampling, Styles


class TriplaneGenerator(nn.Module):
    """Static 3D heads (EG3D): a tri-plane per face, volume rendering, super-resolution. What every generator here is built on."""

    config: TriplaneConfig
    animatable: bool = False
    """Whether `animate` can pose its heads."""
    scheme: RayScheme = OWN_SCHEME

    def __init__(self, config: TriplaneConfig) -> None:
        super().__init__()
        self.config = config
        label_size = (config.label_size if config.mapping.pose_conditioning else 0) + config.mapping.expression_size
        self.static_rows = style_rows(config.plane_resolution)
        self.mapping_network = MappingNetwork(
            config.latent_size, label_size, config.style_size, layers=config.mapping.layers, lr_multiplier=config.mapping.lr_multiplier
        )
        self.build_planes()
        render = config.render
        self.decoder = Decoder(config.plane_channels, hidden=render.decoder_hidden, out_features=render.feature_channels)
        self.superres = Superresolution(
            config.superres, in_channels=render.feature_channels, image_resolution=config.image_resolution, style_size=config.style_size
        )

    def build_planes(self) -> None:
        """Make the networks that turn styles into planes."""
        config = self.config
        self.static = synthesis_network(config, resolution=config.plane_resolution, image_channels=3 * config.plane_channels)

    @property
    def texture_rows(self) -> int:
        """Style rows that a neural texture reads, after the static ones."""
        return 0

    def mapping(self, z: Tensor, c: Tensor, *, truncation: float = 1.0, cutoff: int | None = None) -> Styles:
        """Latents to styles.

        Args:
            z: [N, Z], standard normal.
            c: [N, 25] camera labels; ignored without pose conditioning. With expression conditioning [N, 25 + K] with expression and jaw;
                those are neutral where they are missing. Further columns are ignored.
            truncation: 1 leaves styles as they are, 0 gives the mean face.
            cutoff: truncate only this many rows (static rows first); None truncates all.
        """
        w = self.mapping_network(z, self._condition(c))  # [N, W]
        rows = w[:, None].expand(-1, self.static_rows + self.texture_rows, -1)
        rows = self.mapping_network.truncate(rows, truncation, cutoff)
        return Styles(static=rows[:, : self.static_rows], texture=rows[:, self.static_rows :])

    def _condition(self, c: Tensor) -> Tensor:
        """What the mapping is told of labels [N, 25 or more]."""
        mapping, size = self.config.mapping, self.config.label_size
        camera = c[:, :size] * mapping.label_scale
        if mapping.expression_size == 0:
            return camera
        expression = c[:, size : size + mapping.expression_size]
        expression = F.pad(expression, (0, mapping.expression_size - expression.shape[1]))
        return torch.cat([camera, expression], dim=1) if mapping.pose_conditioning else expression

    def set_resolution(self, resolution: int) -> None:
        """Render at this neural rendering resolution from now on; files say so, too."""
        if resolution != self.config.render.resolution:
            self.config = replace(self.config, render=replace(self.config.render, resolution=resolution))

    def identity(self, styles: Styles, *, noise: Noise = "const") -> Identity:
        """Static planes of a face."""
        static = self.static(styles.static, noise).unflatten(1, (3, -1))  # [N, 3, C, P, P]
        return Identity(texture=None, static=static, styles=styles)

    def still(self, identity: Identity) -> Planes:
        """The static planes alone, ready to be rendered: all there is of a head without a mesh."""
        return Planes(identity.static)

    def render(
        self,
        planes: Planes,
        camera: Camera,
        styles: Styles,
        *,
        resolution: int | None = None,
        sampling: RaySampling | None = None,
        noise: Noise = "const",
        probe: Probe | None = None,
    ) -> GeneratorOutput:
        """One view of the planes.

        Args:
            resolution: r, neural rendering resolution; None takes the configuration's.
            sampling: where random numbers come from; None samples mid-points.
            probe: receives "features", and of every ray "ray_weights" and "ray_depths" [N, r * r, S - 1], intervals from near to far.
        """
        resolution = resolution or self.config.render.resolution
        rays = self.scheme.rays(camera, resolution)  # [N, r * r, 3]
        sums = render_rays(planes, rays, self.decoder, self.config.render, sampling or RaySampling(), self.scheme)
        image_of: Callable[[Tensor], Tensor] = lambda rows: rows.transpose(1, 2).unflatten(2, (resolution, resolution))  # noqa: E731
        features = 2 * image_of(sums.features) - 1  # [N, C, r, r] in [-1, 1]
        image, first = self.superres(features, styles.static, noise)  # [N, 3, H, H], [N, 3, H / 2, H / 2]
        if probe is not None:
            probe("features", features)
            probe("ray_weights", sums.weights)
            probe("ray_depths", sums.middles)
        return GeneratorOutput(
            image=image,
            image_raw=self.raw_image(features, first),
            depth=image_of(sums.depth),
            weights=image_of(sums.weights.sum(2, keepdim=True)),
        )

    def raw_image(self, features: Tensor, first: Tensor) -> Tensor:
        """The raw image [N, 3, r, r] of rendered features [N, C, r, r]; `first` is what super-resolution's first block gives."""
        return features[:, :3]

    def density(self, planes: Planes, points: Tensor) -> Tensor:
        """Raw density [N, M, 1] at world points [N, M, 3]; softplus(density - 1) is density per world unit."""
        return decode_points(planes, points, self.decoder, self.config.render.box_warp, self.scheme.plane_axes).density[..., None]


class Generator(TriplaneGenerator):
    """Animatable 3D heads. Every stage is a method; `forward` runs them all.

    `noise` is the per-pixel noise of the synthesis networks: each layer's fixed map ("const"), none, or fresh draws from a generator.
    """

    config: GeneratorConfig
    animatable = True

    def __init__(self, config: GeneratorConfig, topology: Topology) -> None:
        super().__init__(config)
        self.topology = topology
        if config.hull_density:
            start_from_hull(self.texture, self.static, self.decoder, config.hull_density)

    def build_planes(self) -> None:
        """Make texture, static and mouth networks, in this order: it decides who gets which of the random initial weights."""
        config = self.config
        self.texture = synthesis_network(config, resolution=config.texture_resolution, image_channels=config.plane_channels)
        super().build_planes()
        self.mouth: FrontMouth | TriplaneMouth = self.build_mouth()

    def build_mouth(self) -> FrontMouth | TriplaneMouth:
        """The network that completes the mouth."""
        return build_mouth(self.config)

    @property
    def texture_rows(self) -> int:
        """Style rows that the neural texture reads, after the static ones."""
        return style_rows(self.config.texture_resolution)

    def identity(self, styles: Styles, *, noise: Noise = "const") -> Identity:
        """Neural texture and static planes of a face."""
        texture = self.texture(styles.texture, noise)  # [N, C, T, T]
        return replace(super().identity(styles, noise=noise), texture=texture)

    def rasterize(self, mesh: HeadMesh, *, differentiable: bool = False) -> Rasters:
        """Draw the posed mesh into the plane views; depends on the mesh alone."""
        config = self.config
        return rasterize_planes(
            mesh, self.topology, resolution=config.plane_resolution, box_warp=config.render.box_warp, differentiable=differentiable
        )

    def draw(self, texture: Tensor, rasters: Rasters) -> Tensor:
        """A texture [N, C, T, T] on the rasterised mesh: dynamic planes [N, 3, C, P, P]."""
        return texture_planes(texture, rasters)

    def animate(
        self,
        identity: Identity,
        mesh: HeadMesh,
        *,
        rasters: Rasters | None = None,
        noise: Noise = "const",
        probe: Probe | None = None,
    ) -> Planes:
        """Put the texture on the posed mesh, complete the mouth, add hair and shoulders.

        Args:
            rasters: what `rasterize(mesh)` returned, if it is known already.
            probe: receives "texture_planes", "mouth_crop", "mouth", ... and "planes".
        """
        rasters = self.rasterize(mesh) if rasters is None else rasters
        if identity.texture is None:
            raise ValueError("animate: this identity has no neural texture; it comes from a generator without a mesh")
        drawn = self.draw(identity.texture, rasters)  # [N, 3, C, P, P]
        dynamic = self.mouth(drawn, mesh.landmarks, identity.styles.static, noise, probe)
        planes = blend_planes(identity.static, dynamic, rasters)
        if probe is not None:
            probe("texture_planes", drawn)
            probe("planes", planes.features)
        return planes

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        mesh: HeadMesh,
        *,
        camera: Camera | None = None,
        truncation: float = 1.0,
        sampling: RaySampling | None = None,
        noise: Noise = "const",
    ) -> GeneratorOutput:
        """Latents [N, Z], labels [N, 25] and posed heads to images, seen by the labels' cameras unless `camera` is given."""
        styles = self.mapping(z, c, truncation=truncation)
        identity = self.identity(styles, noise=noise)
        planes = self.animate(identity, mesh, noise=noise)
        return self.render(planes, camera or Camera.from_label(c), styles, sampling=sampling, noise=noise)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Generator:
        super()._apply(fn, recurse)
        self.topology = self.topology.to(next(self.parameters()).device)
        return self


def synthesis_network(config: TriplaneConfig, *, resolution: int, image_channels: int) -> SynthesisNetwork:
    """A StyleGAN2 network with the widths that a generator's configuration gives."""
    return SynthesisNetwork(
        resolution=resolution,
        image_channels=image_channels,
        style_size=config.style_size,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
        clamp=config.clamp,
    )
