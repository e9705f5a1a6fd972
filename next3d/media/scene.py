"""A grid of generated heads in front of the camera: who they are, and what a frame of them looks like while they perform."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dnnlib.errors import CheckpointError, ConfigError, UserError
from next3d.generator import Generator, TriplaneGenerator
from next3d.head import FLAME_VARIABLE, load_head
from next3d.head.model import HeadModel
from next3d.head.topology import triangle_set
from next3d.media.images import Pixels, make_grid, resize, to_pixels
from next3d.media.mesh_preview import render_preview
from next3d.media.performance import Performance, copies, front_camera, walk_rows
from next3d.synthetic.draws import torch_stream
from next3d.types import Camera, HeadMesh, Identity, Planes, Styles


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """What a video shows."""

    seeds: tuple[int, ...]
    """One face per seed."""
    columns: int
    """Tiles side by side."""
    rows: int
    """Tiles on top of each other."""
    size: int | None = None
    """Pixels per tile; None takes the network's."""
    truncation: float = 0.7
    """1 is the full variety of faces, 0 the mean face."""
    cutoff: int | None = None
    """Truncate only this many style rows; None truncates all."""
    batch: int = 8
    """Tiles that are rendered at once."""
    mesh: bool = False
    """Show the posed mesh beside every face."""


def head_of(generator: TriplaneGenerator) -> HeadModel:
    """The head model that a network was trained with; FLAME, if the user has it, for networks that only know FLAME's mesh.

    Raises:
        UserError: it has no mesh, or was trained on meshes alone, so nothing knows how its head moves; or the model has changed since.
    """
    if not isinstance(generator, Generator):
        raise UserError("this network names no head model, so nothing here knows how its head moves.")
    name = generator.config.head
    if not name and not os.environ.get(FLAME_VARIABLE):
        raise UserError("this network names no head model, so nothing here knows how its head moves.")
    head = load_head(name or "flame").to(device_of(generator))
    model, own = head.topology.faces, generator.topology.faces
    if name and not torch.equal(model, own):
        raise CheckpointError(
            f"this network was trained with another version of the head model '{name}': its triangles differ. "
            "Train it again, or use the program version that wrote it."
        )
    if not name and not torch.equal(triangle_set(model), triangle_set(own)):  # its own mesh file lists FLAME's triangles in another order
        raise UserError("this network names no head model, and its mesh is not FLAME's; nothing here knows how its head moves.")
    return head


def device_of(generator: TriplaneGenerator) -> torch.device:
    """Where the network's parameters are."""
    return next(generator.parameters()).device


def seed_styles(generator: TriplaneGenerator, seeds: Sequence[int], *, truncation: float, cutoff: int | None = None) -> Styles:
    """Styles of the faces that belong to the seeds, for the frontal camera; a seed's face does not depend on its neighbours."""
    size = generator.config.latent_size
    z = torch.cat([torch.randn(1, size, generator=torch_stream(seed, 0, "latent")) for seed in seeds]).to(device_of(generator))
    label = front_camera(len(seeds), z.device).to_label()
    return generator.mapping(z, label, truncation=truncation, cutoff=cutoff)


def pose_face(generator: TriplaneGenerator, identity: Identity, mesh: HeadMesh | None) -> Planes:
    """Planes of faces on their meshes, or, for networks that have no mesh, as they are."""
    if mesh is None:
        return generator.still(identity)
    if not isinstance(generator, Generator):
        raise TypeError("a network without a mesh cannot be posed")
    return generator.animate(identity, mesh)


def mesh_picture(
    generator: TriplaneGenerator, mesh: HeadMesh | None, camera: Camera, size: int, *, background: Tensor | float = 0.0
) -> Tensor:
    """The posed mesh itself [N, 3, size, size] in [-1, 1], on `background` in [0, 1].

    Raises:
        UserError: the network has none.
    """
    if mesh is None or not isinstance(generator, Generator):
        raise UserError("this network has no mesh to be shown; leave out --mesh.")
    return render_preview(mesh, camera, generator.topology, size, background=background)


class Scene:
    """Films a grid of heads; keeps what a performance leaves alone: identities once per face, planes once if the heads are still.

    Where one mesh leads all faces, the grid may have one tile more than there are faces: the first tile then shows the mesh.
    """

    def __init__(self, generator: TriplaneGenerator, performance: Performance, config: VideoConfig) -> None:
        """Raises ConfigError where seeds and grid do not go together."""
        self.generator, self.performance, self.config = generator, performance, config
        self.shows_leader = performance.leads and len(config.seeds) == config.columns * config.rows - 1
        self.faces = config.columns * config.rows - self.shows_leader
        _check_grid(config, self.faces, walks=performance.walks)
        self.styles = seed_styles(generator, config.seeds, truncation=config.truncation, cutoff=config.cutoff)
        self._identities: dict[int, Identity] = {}
        self._planes: dict[int, Planes] = {}

    @torch.no_grad()
    def frame(self, index: int) -> Tensor:
        """Frame `index` of the video [3, H, W], about [-1, 1]."""
        config = self.config
        camera = self.performance.camera(index).to(device_of(self.generator))
        shown = [self._leader(index, camera)] if self.shows_leader else []
        for start in range(0, self.faces, config.batch):
            shown.append(self._tiles(range(start, min(start + config.batch, self.faces)), index, camera))
        return make_grid(torch.cat(shown), config.columns, rows=config.rows)

    @property
    def _size(self) -> int:
        return self.config.size or self.generator.config.image_resolution

    def _tiles(self, part: range, index: int, camera: Camera) -> Tensor:
        """Some tiles of the grid [N, 3, size, size or twice that]."""
        identity = self._identity(part, index)
        mesh = self._mesh(part, index)
        planes = self._planes.get(part.start)
        if planes is None:
            planes = pose_face(self.generator, identity, mesh)
            if self.performance.still and not self.performance.walks:
                self._planes[part.start] = planes
        cameras = copies(camera, len(part))
        image = resize(self.generator.render(planes, cameras, identity.styles).image, self._size)
        return torch.cat([image, mesh_picture(self.generator, mesh, cameras, self._size)], dim=3) if self.config.mesh else image

    def _leader(self, index: int, camera: Camera) -> Tensor:
        """The tile of the mesh that leads all faces, as wide as the others."""
        preview = mesh_picture(self.generator, self._mesh(range(1), index), camera, self._size)
        return F.pad(preview, (0, self._size), value=-1.0) if self.config.mesh else preview

    def _identity(self, part: range, index: int) -> Identity:
        if not self.performance.walks:
            if part.start not in self._identities:
                self._identities[part.start] = self.generator.identity(self.styles[part.start : part.stop])
            return self._identities[part.start]
        t = index / self.performance.frames
        return self.generator.identity(walk_rows(self.styles, part, len(self.config.seeds), t))

    def _mesh(self, part: range, index: int) -> HeadMesh | None:
        mesh = self.performance.mesh(index, part)
        return None if mesh is None else mesh.to(device_of(self.generator))


def _check_grid(config: VideoConfig, tiles: int, *, walks: bool) -> None:
    """Make sure that there is a seed for every tile, and for a walk somewhere to go."""
    seeds = len(config.seeds)
    if walks and (seeds < 2 or tiles > seeds):
        raise ConfigError(
            f"motion interpolate: {seeds} seeds for {tiles} tiles; needs at least two seeds and one per tile. Give more --seeds."
        )
    if not walks and seeds != tiles:
        raise ConfigError(f"{seeds} seeds do not fill a grid of {config.columns}x{config.rows}; give {tiles} seeds or another --grid.")


def film(generator: TriplaneGenerator, performance: Performance, config: VideoConfig) -> Iterator[Pixels]:
    """The frames [H, W, 3] of a video, made one at a time when they are asked for.

    Raises:
        ConfigError: at once, where seeds and grid do not go together.
    """
    scene = Scene(generator, performance, config)
    return (to_pixels(scene.frame(index)) for index in range(performance.frames))
