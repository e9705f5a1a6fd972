"""`next3d samples`: images, depth and shapes of generated heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dnnlib.params import DEGREES, OUTPUT_DIR, Real
from dnnlib.progress import progress_bar
from next3d.commands.flame import flame_option
from next3d.commands.network import HeadFiles, head_files, head_options, network_options, open_head, open_network, read_head

if TYPE_CHECKING:
    from next3d.generator import TriplaneGenerator
    from next3d.media.samples import SeedMesh


@click.command()
@network_options
@head_options
@flame_option
@click.option("--outdir", type=OUTPUT_DIR, required=True, help="Where the files go; created if needed.")
@click.option("--yaw", "yaws", type=DEGREES, default="0", show_default=True, help="Views side by side, camera yaw in degrees: -20,0,20.")
@click.option("--rest", is_flag=True, help="Relaxed faces instead of random expressions.")
@click.option("--raw", is_flag=True, help="Also write the rendering before super-resolution.")
@click.option("--depth", is_flag=True, help="Also write depth: light is near, dark is far, black is empty.")
@click.option("--mesh", is_flag=True, help="Also write the posed mesh.")
@click.option(
    "--shapes", is_flag=False, flag_value=True, type=bool, default=False, help="Also write the surface as .ply, for MeshLab or Blender."
)
@click.option("--shape-res", type=click.IntRange(8, 1024), default=128, show_default=True, help="Grid points per axis for --shapes.")
@click.option("--shape-level", type=Real(0, min_open=True), default=10.0, show_default=True, help="Density at the surface.")
def samples(
    network: Path,
    seeds: list[int],
    trunc: float,
    trunc_cutoff: int | None,
    head_seed: int,
    device: str,
    threads: int | None,
    obj_path: Path | None,
    lms_path: Path | None,
    lms_cond: bool | None,
    outdir: Path,
    yaws: tuple[float, ...],
    rest: bool,
    raw: bool,
    depth: bool,
    mesh: bool,
    shapes: bool,
    shape_res: int,
    shape_level: float,
) -> None:
    """Write images of generated heads and, if wanted, what lies behind them.

    \b
    Examples:
      next3d samples --network network-000010.safetensors --seeds 0-15 --outdir out/samples
      next3d samples --network network-000010.safetensors --seeds 7 --yaw -25,0,25 --depth --mesh --shapes --outdir out/seed7
      next3d samples --network next3d.pkl --seeds 0-3 --obj-path demo.obj --lms-path demo_kpt2d.txt --outdir out/demo
    """
    from next3d.media.samples import SamplesConfig, write_samples

    files = head_files(obj_path, lms_path, lms_cond)
    generator = open_network(network, device, threads)
    heads = _heads(network, generator, files, head_seed=head_seed, rest=rest)
    config = SamplesConfig(
        seeds=tuple(seeds),
        yaws=yaws,
        truncation=trunc,
        cutoff=trunc_cutoff,
        raw=raw,
        depth=depth,
        mesh=mesh,
        shapes=shapes,
        shape_resolution=shape_res,
        shape_level=shape_level,
    )
    with progress_bar(len(seeds), "samples", unit="face") as bar:
        written = write_samples(generator, heads, outdir, config, progress=bar.update)
    click.echo(f"{len(written)} files in {outdir}")


def _heads(network: Path, generator: TriplaneGenerator, files: HeadFiles | None, *, head_seed: int, rest: bool) -> SeedMesh:
    """The head of every seed: the one that is given, none for networks without a mesh, or one from the network's head model."""
    from next3d.media.samples import random_heads

    if files is not None:
        mesh = read_head(files, network, generator)
        return lambda seed: mesh
    if not generator.animatable:
        return lambda seed: None
    return random_heads(open_head(network, generator, "pose it with --obj-path FILE.obj"), head_seed=head_seed, rest=rest)
