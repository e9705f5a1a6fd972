"""`next3d showcase`: the pictures with which a network introduces itself."""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.errors import UserError
from dnnlib.params import OUTPUT_DIR, Real
from dnnlib.progress import progress_bar
from next3d.commands.flame import flame_option
from next3d.commands.network import network_options, open_head, open_network

PICTURES = {"faces": "faces.jpg", "controls": "controls.jpg", "turntable": "turntable.jpg", "geometry": "geometry.jpg"}
ANIMATIONS = {"turning": "turntable.webp", "talking": "talking.webp"}


@click.command(context_settings={"default_map": {"seeds": "0-23"}})
@network_options
@flame_option
@click.option("--outdir", type=OUTPUT_DIR, required=True, help="Where the files go; created if needed.")
@click.option("--only", type=click.Choice([*PICTURES, *ANIMATIONS]), multiple=True, help="Only this one; may be repeated.  [default: all]")
@click.option("--shape-res", type=click.IntRange(8, 1024), default=128, show_default=True, help="Grid points per axis for surfaces.")
@click.option("--shape-level", type=Real(0, min_open=True), help="Density at the surface.  [default: one that suits each face]")
@click.option("--quick", is_flag=True, help="Few and small tiles, to see whether it works.")
def showcase(
    network: Path,
    seeds: list[int],
    trunc: float,
    trunc_cutoff: int | None,
    head_seed: int,
    device: str,
    threads: int | None,
    outdir: Path,
    only: tuple[str, ...],
    shape_res: int,
    shape_level: float | None,
    quick: bool,
) -> None:
    """Write the pictures with which a network introduces itself.

    faces.jpg: one face per seed. The first three of them do the rest: controls.jpg (gaze, lids, jaw, smile ... one at a time),
    turntable.jpg and turntable.webp, geometry.jpg (depth, surface, mesh); the first one talks in talking.webp.

    \b
    Examples:
      next3d showcase --outdir out/showcase
      next3d showcase --network network-000200.safetensors --seeds 5,12,3,20-40 --outdir out/showcase
      next3d showcase --only controls --only talking --outdir out/showcase
    """
    from next3d.generator import Generator
    from next3d.media.showcase import ShowcaseConfig, quick_config, write_showcase

    generator = open_network(network, device, threads)
    if not isinstance(generator, Generator):
        raise UserError(f"{network}: its heads have no mesh and cannot be moved; 'next3d samples' and 'next3d videos' show its faces.")
    head = open_head(network, generator, "show it with 'next3d samples --obj-path FILE.obj'")
    config = ShowcaseConfig(
        seeds=tuple(seeds),
        truncation=trunc,
        cutoff=trunc_cutoff,
        head_seed=head_seed,
        shape_resolution=shape_res,
        shape_level=shape_level,
    )
    names = tuple(name for key, name in (PICTURES | ANIMATIONS).items() if not only or key in only)
    with progress_bar(len(names), "showcase", unit="file") as bar:
        written = write_showcase(generator, head, outdir, quick_config(config) if quick else config, names=names, progress=bar.update)
    for path in written:
        click.echo(f"{path}: {path.stat().st_size / 1000:.0f} kB")
