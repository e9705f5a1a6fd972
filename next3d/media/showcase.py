"""The pictures with which a network introduces itself: faces, controls, a turntable, geometry, and two short animations.

Every picture is drawn from seeds alone: the same network, seeds and settings give the same pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dnnlib.errors import UserError
from next3d.generator import Generator
from next3d.head.model import HeadModel, HeadParams
from next3d.media.animation import check_animations, save_animation
from next3d.media.controls import EYE_CONTROLS, MOUTH_CONTROLS, Control
from next3d.media.images import Pixels, save_jpeg, to_pixels
from next3d.media.mesh_preview import render_preview, render_surface
from next3d.media.performance import HeadPerformance, at_rest, front_camera, seed_heads
from next3d.media.samples import depth_picture, face_surface, surface_level
from next3d.media.scene import VideoConfig, device_of, film, seed_styles
from next3d.media.sheet import background_color, draw_sheet, split_row, stack_sheets
from next3d.synthetic.sampling import CameraRange, keyed_camera
from next3d.types import Camera, Identity, Styles, TensorBundle

NEAR_FRONT = CameraRange(yaw_std=0.2, pitch_std=0.08, yaw_limit=0.45, pitch_limit=0.2)
"""Where the cameras of the grid of faces stand."""
SURFACE_YAWS = (math.radians(-35), math.radians(70))
"""From where surfaces are looked at."""
DEPTH_LIMITS = (2.35, 2.85)
"""From before the nose to behind the ears, world units from the camera."""
BEHIND_HEAD = 0.03
"""Surfaces end so far behind the head mesh, world units: networks paint the background on a wall at the back of their cube."""
GEOMETRY_LABELS = ("image", "depth", "surface", "from the side", "head mesh")


@dataclass(frozen=True, kw_only=True)
class ShowcaseConfig:
    """What the pictures show."""

    seeds: tuple[int, ...]
    """The faces of the grid; the first of them are the people of the other pictures."""
    truncation: float = 0.7
    """1 is the full variety of faces, 0 the mean face."""
    cutoff: int | None = None
    """Truncate only this many style rows; None truncates all."""
    head_seed: int = 0
    """Draws the heads that the faces sit on, and their cameras, together with the faces' seeds."""
    columns: int = 8
    """Faces side by side in the grid."""
    people: int = 3
    """In the other pictures."""
    tile: int = 128
    """Pixels per face in the grid, the controls and the still turntable."""
    geometry_tile: int = 180
    """Pixels per tile of the geometry."""
    turn_tile: int = 192
    """Pixels per face that turns."""
    talk_tile: int = 256
    """Pixels of the face that talks, and of the mesh beside it."""
    yaws: tuple[float, ...] = tuple(math.radians(yaw) for yaw in range(-30, 31, 10))
    """Views of the turntable, radians; positive is seen from the person's left."""
    turn_frames: int = 48
    """Length of the turning animation."""
    talk_frames: int = 80
    """Length of the talking animation."""
    fps: float = 16.0
    """Frames per second of both."""
    shape_resolution: int = 128
    """Grid points per axis for surfaces."""
    shape_level: float | None = None
    """Density, per world unit, at which surfaces lie; None finds one that suits each face."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("showcase: needs at least one seed")


@dataclass(frozen=True)
class Cast(TensorBundle):
    """People, one per row."""

    styles: Styles
    moment: HeadParams
    """Random heads in random moments."""
    rest: HeadParams
    """The same heads with a relaxed face."""


class Showcase:
    """A network, its head model and the people on show. Every method draws one file."""

    def __init__(self, generator: Generator, head: HeadModel, config: ShowcaseConfig) -> None:
        self.generator, self.head, self.config = generator, head, config
        moment = seed_heads(head, config.seeds, head_seed=config.head_seed)
        styles = seed_styles(generator, config.seeds, truncation=config.truncation, cutoff=config.cutoff)
        self.cast = Cast(styles, moment, at_rest(head, moment))
        self.device = device_of(generator)
        self.background = background_color(self.device)

    def faces(self) -> Pixels:
        """A grid of faces, each on a head of its own and seen from somewhere near the front."""
        tiles = []
        for row, seed in enumerate(self.config.seeds):
            person = self.cast[row : row + 1]
            camera = keyed_camera(self.config.head_seed, seed, NEAR_FRONT).to(self.device)
            tiles.append(self._image(self._identity(person), person.moment, camera))
        columns = self.config.columns
        return draw_sheet([tiles[start : start + columns] for start in range(0, len(tiles), columns)], self.config.tile)

    def controls(self) -> Pixels:
        """People as rows below the posed mesh, single controls as columns: eyes in the upper half, mouth and brows in the lower one."""
        sheets = []
        identities = [self._identity(person) for person in self._people()]
        for controls in (EYE_CONTROLS, MOUTH_CONTROLS):
            shown = [control for control in controls if control.known_to(self.head)]
            rows = [[self._mesh(control.pose(self.head, self.cast.rest[:1]), self.config.tile) for control in shown]]
            for person, identity in zip(self._people(), identities, strict=True):
                rows.append([self._controlled(identity, person, control) for control in shown])
            sheets.append(draw_sheet(rows, self.config.tile, labels=[control.label for control in shown]))
        return stack_sheets(sheets)

    def turntable(self) -> Pixels:
        """Relaxed people as rows, views from one side to the other as columns."""
        rows = []
        for person in self._people():
            planes = self.generator.animate(self._identity(person), self.head(person.rest))
            cameras = [front_camera(1, self.device, yaw=yaw) for yaw in self.config.yaws]
            rows.append([to_pixels(self.generator.render(planes, camera, person.styles).image[0]) for camera in cameras])
        return draw_sheet(rows, self.config.tile)

    def geometry(self) -> Pixels:
        """People as rows: image, depth, the extracted surface from two sides, the head mesh."""
        rows = [self._geometry_row(seed, person) for seed, person in zip(self.config.seeds, self._people(), strict=False)]
        return draw_sheet(rows, self.config.geometry_tile, labels=GEOMETRY_LABELS)

    def turning(self) -> list[Pixels]:
        """Frames of the turntable in motion."""
        return self._film("turn", self.config.people, self.config.turn_frames, self.config.turn_tile, mesh=False)

    def talking(self) -> list[Pixels]:
        """Frames of one face that moves jaw, lips, eyes, lids and brows, beside its mesh."""
        return self._film("talk", 1, self.config.talk_frames, self.config.talk_tile, mesh=True)

    def _people(self) -> list[Cast]:
        count = min(self.config.people, len(self.config.seeds))
        return [self.cast[row : row + 1] for row in range(count)]

    def _identity(self, person: Cast) -> Identity:
        return self.generator.identity(person.styles)

    def _image(self, identity: Identity, params: HeadParams, camera: Camera) -> Pixels:
        planes = self.generator.animate(identity, self.head(params))
        return to_pixels(self.generator.render(planes, camera, identity.styles).image[0])

    def _controlled(self, identity: Identity, person: Cast, control: Control) -> Pixels:
        return self._image(identity, control.pose(self.head, person.rest), front_camera(1, self.device))

    def _mesh(self, params: HeadParams, size: int) -> Pixels:
        camera, topology = front_camera(1, self.device), self.generator.topology
        return to_pixels(render_preview(self.head(params), camera, topology, size, background=self.background)[0])

    def _geometry_row(self, seed: int, person: Cast) -> list[Pixels]:
        config, identity = self.config, self._identity(person)
        mesh, camera = self.head(person.moment), front_camera(1, self.device)
        planes = self.generator.animate(identity, mesh)
        output = self.generator.render(planes, camera, person.styles)
        behind = 2 * self.background[:, :, None, None] - 1
        tiles = [to_pixels(output.image[0]), to_pixels(depth_picture(output, limits=DEPTH_LIMITS, behind=behind)[0])]
        level = config.shape_level or surface_level(self.generator, planes, mesh, output, camera)
        back = float(mesh.vertices[..., 2].min()) - BEHIND_HEAD
        try:
            surface = face_surface(self.generator, planes, resolution=config.shape_resolution, level=level, mesh=mesh, back=back)
        except UserError as error:
            raise UserError(f"seed {seed}: {error}") from error
        for yaw in SURFACE_YAWS:
            view = render_surface(surface, front_camera(1, yaw=yaw), config.geometry_tile, background=self.background.cpu())
            tiles.append(to_pixels(view[0]))
        return [*tiles, self._mesh(person.moment, config.geometry_tile)]

    def _film(self, motion: str, people: int, frames: int, size: int, *, mesh: bool) -> list[Pixels]:
        """Frames of a motion with the first people side by side."""
        config = self.config
        seeds = config.seeds[:people]
        performance = HeadPerformance(self.head, motion, seeds, frames=frames, head_seed=config.head_seed)
        video = VideoConfig(
            seeds=seeds, columns=len(seeds), rows=1, size=size, truncation=config.truncation, cutoff=config.cutoff, batch=1, mesh=mesh
        )
        return [draw_sheet([split_row(frame)], size) for frame in film(self.generator, performance, video)]


@dataclass(frozen=True)
class ShowcaseFile:
    """One of the files."""

    limit: int
    """Bytes that its quality is chosen for; together they stay below 1.5 MB."""
    picture: Callable[[Showcase], Pixels] | None = None
    """Draws it."""
    frames: Callable[[Showcase], list[Pixels]] | None = None
    """Draws it, where it is an animation."""

    def write(self, path: Path, showcase: Showcase) -> None:
        """Draw and write it."""
        if self.picture is not None:
            save_jpeg(path, self.picture(showcase), limit=self.limit)
        if self.frames is not None:
            save_animation(path, self.frames(showcase), showcase.config.fps, limit=self.limit)


FILES: Mapping[str, ShowcaseFile] = {
    "faces.jpg": ShowcaseFile(220_000, picture=Showcase.faces),
    "controls.jpg": ShowcaseFile(320_000, picture=Showcase.controls),
    "turntable.jpg": ShowcaseFile(150_000, picture=Showcase.turntable),
    "turntable.webp": ShowcaseFile(300_000, frames=Showcase.turning),
    "talking.webp": ShowcaseFile(300_000, frames=Showcase.talking),
    "geometry.jpg": ShowcaseFile(180_000, picture=Showcase.geometry),
}


@torch.no_grad()
def write_showcase(
    generator: Generator,
    head: HeadModel,
    folder: Path,
    config: ShowcaseConfig,
    *,
    names: tuple[str, ...] = tuple(FILES),
    progress: Callable[[], object] | None = None,
) -> list[Path]:
    """Write some of FILES into `folder` and return their paths; `progress` is called after each.

    Raises:
        UserError: animations cannot be written here, or there is no surface at the level that was asked for.
    """
    if any(FILES[name].frames for name in names):
        check_animations()
    showcase = Showcase(generator, head, config)
    written = []
    for name in names:
        written.append(folder / name)
        FILES[name].write(written[-1], showcase)
        if progress is not None:
            progress()
    return written


def quick_config(config: ShowcaseConfig) -> ShowcaseConfig:
    """The same with as little as shows that everything works."""
    small = replace(config, tile=64, geometry_tile=64, turn_tile=64, talk_tile=64, shape_resolution=32)
    return replace(small, people=1, yaws=(-0.5, 0.0, 0.5), turn_frames=4, talk_frames=4)
