"""Stills of generated heads: images and, if wanted, what lies behind them: raw image, depth, mesh, surface."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dnnlib.errors import UserError
from next3d.generator import Generator, TriplaneGenerator
from next3d.head.model import HeadModel
from next3d.media.images import color_depth, make_grid, resize, save_png
from next3d.media.performance import at_rest, front_camera, seed_heads
from next3d.media.scene import device_of, mesh_picture, pose_face, seed_styles
from next3d.media.shapes import Surface, density_grid, extract_surface, grid_axis, largest_part, part_at, save_ply
from next3d.render.cameras import PORTRAIT_RADIUS
from next3d.render.mesh_image import BACKGROUND, render_mesh_image
from next3d.types import Camera, GeneratorOutput, HeadMesh, Planes, Styles

DEPTH_LIMITS = (PORTRAIT_RADIUS - 0.5, PORTRAIT_RADIUS + 0.5)
"""Depth colours span this far before and behind the world origin, world units."""

SeedMesh = Callable[[int], HeadMesh | None]
"""A face's seed to the head that it sits on, a batch of one on any device; None for networks that have no mesh."""


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """What to write for every seed."""

    seeds: tuple[int, ...]
    """One face per seed."""
    yaws: tuple[float, ...] = (0.0,)
    """Views side by side in each picture: camera yaw in radians."""
    truncation: float = 0.7
    """1 is the full variety of faces, 0 the mean face."""
    cutoff: int | None = None
    """Truncate only this many style rows; None truncates all."""
    raw: bool = False
    """Also the rendering before super-resolution."""
    depth: bool = False
    """Also depth, in colours."""
    mesh: bool = False
    """Also the posed mesh."""
    shapes: bool = False
    """Also the surface as a PLY file."""
    shape_resolution: int = 128
    """Grid points per axis for the surface."""
    shape_level: float = 10.0
    """Density, per world unit, at which the surface lies."""


def random_heads(head: HeadModel, *, head_seed: int = 0, rest: bool = False) -> SeedMesh:
    """Heads with random shapes and expressions, or relaxed ones; `head_seed` draws them, together with the face's seed."""

    def pose(seed: int) -> HeadMesh:
        params = seed_heads(head, [seed], head_seed=head_seed)
        return head(at_rest(head, params) if rest else params)

    return pose


def write_samples(
    generator: TriplaneGenerator, heads: SeedMesh, folder: Path, config: SamplesConfig, *, progress: Callable[[], object] | None = None
) -> list[Path]:
    """Write the files of every seed into `folder` and return their paths; `progress` is called after each seed.

    Files are `seed0007.png` and, as asked for, `seed0007-raw.png`, `-depth.png`, `-mesh.png` and `seed0007.ply`.
    """
    written: list[Path] = []
    for seed in config.seeds:
        pictures, surface = make_sample(generator, heads(seed), seed, config)
        for name, image in pictures.items():
            written.append(folder / f"seed{seed:04d}{name}.png")
            save_png(written[-1], image)
        if surface is not None:
            written.append(folder / f"seed{seed:04d}.ply")
            save_ply(written[-1], surface)
        if progress is not None:
            progress()
    return written


@torch.no_grad()
def make_sample(
    generator: TriplaneGenerator, mesh: HeadMesh | None, seed: int, config: SamplesConfig
) -> tuple[dict[str, Tensor], Surface | None]:
    """One face: pictures [3, H, W] by the ending of their file's name, and its surface if asked for."""
    mesh = None if mesh is None else mesh.to(device_of(generator))
    styles = seed_styles(generator, [seed], truncation=config.truncation, cutoff=config.cutoff)
    planes = pose_face(generator, generator.identity(styles), mesh)
    pictures = _views(generator, planes, styles, mesh, config)
    if not config.shapes:
        return pictures, None
    try:
        surface = face_surface(generator, planes, resolution=config.shape_resolution, level=config.shape_level, mesh=mesh)
    except UserError as error:
        raise UserError(f"seed {seed}: {error}") from error
    return pictures, surface


def face_surface(
    generator: TriplaneGenerator,
    planes: Planes,
    *,
    resolution: int,
    level: float,
    mesh: HeadMesh | None = None,
    back: float = -math.inf,
) -> Surface:
    """The surface of one face's planes at a density of `level` per world unit, without what lies behind z = `back`.

    Of its connected parts only the one that lies at the mesh stays, or the largest if there is no mesh.
    """
    box = generator.config.render.box_warp
    device = planes.features.device
    grid = density_grid(lambda points: F.softplus(generator.density(planes, points) - 1), resolution, box, device=device)
    grid[:, :, grid_axis(resolution, box) < back] = 0
    surface = extract_surface(grid, level, box)
    return largest_part(surface) if mesh is None else part_at(surface, mesh.vertices[0].cpu().numpy())


def surface_level(generator: Generator, planes: Planes, mesh: HeadMesh, output: GeneratorOutput, camera: Camera) -> float:
    """A density, per world unit, that suits one face's surface: half of what rays to the head meet at the depth that was rendered.

    Networks differ in how dense their heads are, and young ones are thin; half the density inside is where the border looks to be.
    """
    resolution = output.depth.shape[-1]
    rays = generator.scheme.rays(camera, resolution)
    points = rays.origins + rays.directions * output.depth.flatten(2).transpose(1, 2)  # [1, r * r, 3]
    density = F.softplus(generator.density(planes, points) - 1)[0, :, 0]
    on_head = (render_mesh_image(mesh, camera, generator.topology, resolution) > BACKGROUND).any(dim=1).flatten()
    return 0.5 * float(density[on_head].median())


def _views(generator: TriplaneGenerator, planes: Planes, styles: Styles, mesh: HeadMesh | None, config: SamplesConfig) -> dict[str, Tensor]:
    """The views of one face side by side, in every kind of picture that was asked for."""
    size = generator.config.image_resolution
    rows: dict[str, list[Tensor]] = {}
    for yaw in config.yaws:
        camera = front_camera(1, planes.features.device, yaw=yaw)
        output = generator.render(planes, camera, styles)
        rows.setdefault("", []).append(output.image)
        if config.raw:
            rows.setdefault("-raw", []).append(resize(output.image_raw, size))
        if config.depth:
            rows.setdefault("-depth", []).append(resize(depth_picture(output), size))
        if config.mesh:
            rows.setdefault("-mesh", []).append(mesh_picture(generator, mesh, camera, size))
    return {name: make_grid(torch.cat(views), len(views)) for name, views in rows.items()}


def depth_picture(output: GeneratorOutput, *, limits: tuple[float, float] = DEPTH_LIMITS, behind: Tensor | float = -1.0) -> Tensor:
    """Depth in colours [N, 3, r, r] in [-1, 1], fading to `behind` (black; or a colour [N, 3, 1, 1]) where the ray meets nothing.

    `limits` are the nearest and the farthest depth that are told apart, world units.
    """
    near, far = limits
    colors = color_depth(output.depth, near=near, far=far)
    return (colors - behind) * output.weights.clamp(0, 1) + behind
