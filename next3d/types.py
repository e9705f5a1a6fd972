"""The things that travel through the model, each with its shapes, frame and range said once.

World frame: right-handed, x right, y up, z towards the viewer; the face looks along +z and the model
lives in the cube [-1/2, 1/2]^3 * box_warp. Cameras use OpenCV axes (x right, y down, z forward).
N is the batch, C channels, P plane resolution, T texture resolution, R rays, S samples per ray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from next3d.config import LABEL_SIZE

Probe = Callable[[str, Tensor], None]
"""Receives named intermediates of a stage, for tests and pictures."""

_Bundle = TypeVar("_Bundle", bound="TensorBundle")


@dataclass(frozen=True)
class TensorBundle:
    """Base of dataclasses whose fields are tensors (or bundles of them) that share the batch dimension."""

    def map(self: _Bundle, function: Callable[[Tensor], Tensor]) -> _Bundle:
        """A new bundle with `function` applied to every tensor."""
        changed: dict[str, Tensor | TensorBundle] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = function(value)
            elif isinstance(value, TensorBundle):
                changed[field.name] = value.map(function)
        return replace(self, **changed)

    def to(self: _Bundle, device: torch.device | str) -> _Bundle:
        """A copy on `device`."""
        return self.map(lambda tensor: tensor.to(device))

    def __getitem__(self: _Bundle, index: slice | Tensor) -> _Bundle:
        """A selection along the batch dimension; `index` is a slice or an index tensor."""
        return self.map(lambda tensor: tensor[index])


@dataclass(frozen=True)
class Camera(TensorBundle):
    """Pinhole cameras."""

    cam2world: Tensor
    """[N, 4, 4], OpenCV axes: columns are right, down, forward, position."""
    intrinsics: Tensor
    """[N, 3, 3], normalised by the image size: focal 4.2647 and centre 0.5 for portraits."""

    @classmethod
    def from_label(cls, label: Tensor) -> Camera:
        """Read labels [N, 25] (further columns are ignored)."""
        if label.ndim != 2 or label.shape[1] < LABEL_SIZE:
            raise ValueError(f"camera label: shape {tuple(label.shape)}, expected [N, {LABEL_SIZE}]")
        return cls(label[:, :16].reshape(-1, 4, 4), label[:, 16:25].reshape(-1, 3, 3))

    def to_label(self) -> Tensor:
        """Labels [N, 25]."""
        return torch.cat([self.cam2world.flatten(1), self.intrinsics.flatten(1)], dim=1)


@dataclass(frozen=True)
class HeadMesh(TensorBundle):
    """A posed head. The topology (triangles, UVs) belongs to the head model, not to the mesh."""

    vertices: Tensor
    """[N, V, 3], world units."""
    landmarks: Tensor
    """[N, 68, 3], world units, usual order (mouth 48-67)."""


@dataclass(frozen=True)
class Styles(TensorBundle):
    """Intermediate latents, one row per synthesis layer."""

    static: Tensor
    """[N, L, W]: static tri-plane, mouth, blending and super-resolution."""
    texture: Tensor
    """[N, K, W]: neural texture."""


@dataclass(frozen=True)
class Identity(TensorBundle):
    """What depends on the person alone; computed once per face."""

    texture: Tensor | None
    """[N, C, T, T], neural texture in UV space; row 0 is v = 1. None where the generator has no mesh to put it on."""
    static: Tensor
    """[N, 3, C, P, P], static tri-plane in the order of PLANE_AXES."""
    styles: Styles


@dataclass(frozen=True)
class Rasters(TensorBundle):
    """The posed mesh drawn into the plane views; rows and columns follow PLANE_AXES.

    Views (front, top, left, right) are in the order of `next3d.planes.rasterize.VIEWS`; coverage is per plane.
    """

    uv: Tensor
    """[N, 4, P, P, 2], u and v in [0, 1]; (0, 0) outside the mesh."""
    visible: Tensor
    """[N, 4, 1, P, P] in [0, 1]: the UV mask of face and eyes where the mesh shows them; the mouth hole is open."""
    coverage: Tensor
    """[N, 3, 1, P, P] in [0, 1], per plane: what belongs to the dynamic planes; the front's mouth hole is filled."""


@dataclass(frozen=True)
class Planes(TensorBundle):
    """Blended tri-plane, ready to be rendered."""

    features: Tensor
    """[N, 3, C, P, P], in the order of PLANE_AXES."""


@dataclass(frozen=True)
class Rays(TensorBundle):
    """World-space rays, row by row from the top-left pixel centre."""

    origins: Tensor
    """[N, R, 3]."""
    directions: Tensor
    """[N, R, 3], unit length."""


@dataclass(frozen=True)
class RaySampling:
    """Where the volume renderer's random numbers come from.

    With nothing set, samples sit in the middle of their strata: deterministic, for videos and metrics.
    """

    generator: torch.Generator | None = None
    """Draw jitter and importance samples from this generator (training)."""
    jitter: Tensor | None = None
    """[N, R, S] in [0, 1): explicit position of every coarse sample in its stratum; overrides `generator`."""
    importance: Tensor | None = None
    """[N, R, F] in [0, 1): explicit uniform draws for the fine samples; overrides `generator`."""


@dataclass(frozen=True)
class GeneratorOutput(TensorBundle):
    """One rendered view."""

    image: Tensor
    """[N, 3, H, H], about [-1, 1]."""
    image_raw: Tensor
    """[N, 3, r, r], about [-1, 1]: the first three rendered feature channels."""
    depth: Tensor
    """[N, 1, r, r], world units along the ray."""
    weights: Tensor
    """[N, 1, r, r] in [0, 1]: how opaque the ray is."""
