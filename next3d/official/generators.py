"""Generators that behave as the released ones: same weights, same images (`docs/official.md`)."""

from __future__ import annotations

from torch import Tensor

from next3d.config import TriplaneConfig
from next3d.generator import Generator, TriplaneGenerator
from next3d.official.mouth import PixelMouth
from next3d.official.rasters import rasterize_views, texture_planes
from next3d.official.rays import ReleasedEG3DRays, ReleasedRays
from next3d.types import HeadMesh, Probe, Rasters


class _SharedRaw(TriplaneGenerator):
    """Released super-resolution of factor two adds its first output into the raw image where that was not resized before."""

    def raw_image(self, features: Tensor, first: Tensor) -> Tensor:
        """The sum if both share their pixels, else the rendering."""
        resized = features.shape[-1] != self.superres.input_resolution
        return features[:, :3] if resized or first.shape != features[:, :3].shape else first


class ReleasedEG3D(_SharedRaw):
    """EG3D as released."""

    config: TriplaneConfig
    scheme = ReleasedEG3DRays()


class ReleasedNext3D(_SharedRaw, Generator):
    """Next3D as released. Its planes are front, side, top, but are read as front, top, side."""

    scheme = ReleasedRays()

    def build_mouth(self) -> PixelMouth:
        """The network that completes the mouth."""
        return PixelMouth(self.config)

    def rasterize(self, mesh: HeadMesh, *, differentiable: bool = False, probe: Probe | None = None) -> Rasters:
        """Draw the posed mesh into the plane views; `probe` receives what `rasterize_views` tells."""
        return rasterize_views(mesh, self.topology, resolution=self.config.plane_resolution, differentiable=differentiable, probe=probe)

    def draw(self, texture: Tensor, rasters: Rasters) -> Tensor:
        """A texture [N, C, T, T] on the rasterised mesh: planes [N, 3, C, P, P]."""
        return texture_planes(texture, rasters)
