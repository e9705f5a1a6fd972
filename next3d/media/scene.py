"""A grid of generated heads in front of the camera: who they are, how they are posed, and what a frame of them looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from dnnlib.errors import CheckpointError, ConfigError, UserError
from next3d.generator import Generator
from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams
from next3d.media.images import Pixels, make_grid, resize, to_pixels
from next3d.media.mesh_preview import render_preview
from next3d.media.motions import MOTIONS, walk_position
from next3d.render.cameras import ORBIT_TARGET, orbit_camera
from next3d.synthetic.draws import torch_stream
from next3d.synthetic.sampling import keyed_params
from next3d.types import Camera, HeadMesh, Identity, Planes, Styles, TensorBundle

_Bundle = TypeVar("_Bundle", bound=TensorBundle)


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """What a video shows."""

    seeds: tuple[int, ...]
    """One face per seed."""
    columns: int
    """Tiles side by side."""
    rows: int
    """Tiles on top of each other."""
    motion: str
    """A name in `MOTIONS`."""
    frames: int = 120
    """Length; the motion fills it once, and loops."""
    size: int | None = None
    """Pixels per tile; None takes the network's."""
    truncation: float = 0.7
    """1 is the full variety of faces, 0 the mean face."""
    cutoff: int | None = None
    """Truncate only this many style rows; None truncates all."""
    head_seed: int = 0
    """Draws the heads' shapes, together with the face's seed."""
    batch: int = 8
    """Tiles that are rendered at once."""
    mesh: bool = False
    """Show the posed mesh beside every face."""

    def __post_init__(self) -> None:
        tiles = self.columns * self.rows
        if self.motion not in MOTIONS:
            raise ConfigError(f"unknown motion {self.motion!r}; choose one of {', '.join(MOTIONS)}.")
        if MOTIONS[self.motion].walks:
            if len(self.seeds) < 2 or tiles > len(self.seeds):
                raise ConfigError(
                    f"motion {self.motion}: {len(self.seeds)} seeds for {tiles} tiles; "
                    "needs at least two seeds and one per tile. Give more --seeds."
                )
        elif len(self.seeds) != tiles:
            raise ConfigError(
                f"{len(self.seeds)} seeds do not fill a grid of {self.columns}x{self.rows}; give {tiles} seeds or another --grid."
            )


def head_of(generator: Generator) -> HeadModel:
    """The head model that a network was trained with.

    Raises:
        UserError: it was trained on meshes alone, so nothing knows how its head moves, or this head model has changed since.
    """
    if not generator.config.head:
        raise UserError("this network was trained on a data set's own meshes and names no head model; it cannot be posed from here.")
    head = load_head(generator.config.head).to(device_of(generator))
    if not torch.equal(head.topology.faces.to("cpu"), generator.topology.faces.to("cpu")):
        raise CheckpointError(
            f"this network was trained with another version of the head model '{generator.config.head}': its triangles differ. "
            "Train it again, or use the program version that wrote it."
        )
    return head


def device_of(generator: Generator) -> torch.device:
    """Where the network's parameters are."""
    return next(generator.parameters()).device


def front_camera(count: int, device: torch.device, *, yaw: float = 0.0, pitch: float = 0.0) -> Camera:
    """`count` copies of the portrait camera; other angles in radians swing it around the head, looking at ORBIT_TARGET."""
    return orbit_camera(torch.full((count,), yaw, device=device), torch.full((count,), pitch, device=device), target=ORBIT_TARGET)


def seed_styles(generator: Generator, seeds: Sequence[int], *, truncation: float, cutoff: int | None = None) -> Styles:
    """Styles of the faces that belong to the seeds, for the frontal camera; a seed's face does not depend on its neighbours."""
    size = generator.config.latent_size
    z = torch.cat([torch.randn(1, size, generator=torch_stream(seed, 0, "latent")) for seed in seeds]).to(device_of(generator))
    label = front_camera(len(seeds), z.device).to_label()
    return generator.mapping(z, label, truncation=truncation, cutoff=cutoff)


def seed_heads(head: HeadModel, seeds: Sequence[int], *, head_seed: int) -> HeadParams:
    """Random heads in random moments, one per seed, on the head model's device."""
    people = [keyed_params(head, head_seed, seed) for seed in seeds]
    columns = {field.name: torch.cat([getattr(person, field.name) for person in people]) for field in fields(HeadParams)}
    return HeadParams(**columns).to(head.neutral(1).shape.device)


def at_rest(head: HeadModel, params: HeadParams) -> HeadParams:
    """The same people with a relaxed face, looking straight ahead."""
    return replace(head.neutral(len(params.shape)), shape=params.shape)


class Scene:
    """Films a grid of heads; keeps what a motion leaves alone: identities once per face, planes once if the heads are still."""

    def __init__(self, generator: Generator, head: HeadModel, config: VideoConfig) -> None:
        self.generator, self.head, self.config = generator, head, config
        self.motion = MOTIONS[config.motion]
        self.styles = seed_styles(generator, config.seeds, truncation=config.truncation, cutoff=config.cutoff)
        self.rest = at_rest(head, seed_heads(head, config.seeds, head_seed=config.head_seed))
        self._identities: dict[int, Identity] = {}
        self._planes: dict[int, Planes] = {}

    @torch.no_grad()
    def frame(self, index: int) -> Tensor:
        """Frame `index` of the video [3, H, W], about [-1, 1]."""
        config = self.config
        t = index / config.frames
        tiles = config.columns * config.rows
        shown = [self._tiles(range(start, min(start + config.batch, tiles)), t) for start in range(0, tiles, config.batch)]
        return make_grid(torch.cat(shown), config.columns, rows=config.rows)

    def _tiles(self, part: range, t: float) -> Tensor:
        """Some tiles of the grid [N, 3, size, size or twice that]."""
        generator, size = self.generator, self.config.size or self.generator.config.image_resolution
        identity = self._identity(part, t)
        mesh = self._mesh(part, t)
        planes = self._planes.get(part.start)
        if planes is None:
            planes = generator.animate(identity, mesh)
            if self.motion.pose is None and not self.motion.walks:
                self._planes[part.start] = planes
        yaw, pitch = self.motion.angles(t) if self.motion.angles else (0.0, 0.0)
        camera = front_camera(len(part), planes.features.device, yaw=yaw, pitch=pitch)
        image = resize(generator.render(planes, camera, identity.styles).image, size)
        if not self.config.mesh:
            return image
        return torch.cat([image, render_preview(mesh, camera, self.head.topology, size)], dim=3)

    def _identity(self, part: range, t: float) -> Identity:
        if not self.motion.walks:
            if part.start not in self._identities:
                self._identities[part.start] = self.generator.identity(self.styles[part.start : part.stop])
            return self._identities[part.start]
        return self.generator.identity(self._walk(self.styles, part, t))

    def _mesh(self, part: range, t: float) -> HeadMesh:
        if self.motion.walks:
            return self.head(self._walk(self.rest, part, t))
        rest = self.rest[part.start : part.stop]
        return self.head(self.motion.pose(self.head, rest, t) if self.motion.pose else rest)

    def _walk(self, bundle: _Bundle, part: range, t: float) -> _Bundle:
        """Rows between those of the faces that the walk is leaving and reaching."""
        first, second, fractions = zip(*(walk_position(len(self.config.seeds), start, t) for start in part), strict=True)

        def between(rows: Tensor) -> Tensor:
            fraction = rows.new_tensor(fractions).reshape(-1, *[1] * (rows.ndim - 1))
            return torch.lerp(rows[list(first)], rows[list(second)], fraction)

        return bundle.map(between)


def film(generator: Generator, head: HeadModel, config: VideoConfig) -> Iterator[Pixels]:
    """The frames [H, W, 3] of a video, one at a time."""
    scene = Scene(generator, head, config)
    for index in range(config.frames):
        yield to_pixels(scene.frame(index))
