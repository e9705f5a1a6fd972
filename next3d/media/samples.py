"""Stills of generated heads: images and, if wanted, what lies behind them: raw image, depth, mesh, surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dnnlib.errors import UserError
from next3d.generator import Generator
from next3d.head.model import HeadModel
from next3d.media.images import color_depth, make_grid, resize, save_png
from next3d.media.mesh_preview import render_preview
from next3d.media.scene import at_rest, front_camera, seed_heads, seed_styles
from next3d.media.shapes import Surface, density_grid, extract_surface, largest_part, save_ply
from next3d.render.cameras import PORTRAIT_RADIUS
from next3d.types import GeneratorOutput, HeadMesh, Planes, Styles

DEPTH_REACH = 0.5
"""Depth colours span this far before and behind the world origin, world units."""


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
    head_seed: int = 0
    """Draws heads and expressions, together with the face's seed."""
    rest: bool = False
    """A relaxed face instead of a random expression."""
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


def write_samples(
    generator: Generator, head: HeadModel, folder: Path, config: SamplesConfig, *, progress: Callable[[], object] | None = None
) -> list[Path]:
    """Write the files of every seed into `folder` and return their paths; `progress` is called after each seed.

    Files are `seed0007.png` and, as asked for, `seed0007-raw.png`, `-depth.png`, `-mesh.png` and `seed0007.ply`.
    """
    written: list[Path] = []
    for seed in config.seeds:
        pictures, surface = make_sample(generator, head, seed, config)
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
def make_sample(generator: Generator, head: HeadModel, seed: int, config: SamplesConfig) -> tuple[dict[str, Tensor], Surface | None]:
    """One face: pictures [3, H, W] by the ending of their file's name, and its surface if asked for."""
    styles = seed_styles(generator, [seed], truncation=config.truncation, cutoff=config.cutoff)
    params = seed_heads(head, [seed], head_seed=config.head_seed)
    mesh = head(at_rest(head, params) if config.rest else params)
    planes = generator.animate(generator.identity(styles), mesh)
    pictures = _views(generator, head, planes, styles, mesh, config)
    if not config.shapes:
        return pictures, None
    try:
        surface = face_surface(generator, planes, resolution=config.shape_resolution, level=config.shape_level)
    except UserError as error:
        raise UserError(f"seed {seed}: {error}") from error
    return pictures, surface


def face_surface(generator: Generator, planes: Planes, *, resolution: int, level: float) -> Surface:
    """The surface of one face's planes at a density of `level` per world unit, without loose crumbs."""
    box = generator.config.render.box_warp
    device = planes.features.device
    grid = density_grid(lambda points: F.softplus(generator.density(planes, points) - 1), resolution, box, device=device)
    return largest_part(extract_surface(grid, level, box))


def _views(
    generator: Generator, head: HeadModel, planes: Planes, styles: Styles, mesh: HeadMesh, config: SamplesConfig
) -> dict[str, Tensor]:
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
            rows.setdefault("-depth", []).append(resize(_depth_picture(output), size))
        if config.mesh:
            rows.setdefault("-mesh", []).append(render_preview(mesh, camera, head.topology, size))
    return {name: make_grid(torch.cat(views), len(views)) for name, views in rows.items()}


def _depth_picture(output: GeneratorOutput) -> Tensor:
    """Depth in colours, fading to black where the ray meets nothing."""
    colors = color_depth(output.depth, near=PORTRAIT_RADIUS - DEPTH_REACH, far=PORTRAIT_RADIUS + DEPTH_REACH)
    return (colors + 1) * output.weights.clamp(0, 1) - 1
