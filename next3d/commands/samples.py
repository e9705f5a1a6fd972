"""`next3d samples`: images, depth and shapes of generated heads."""

from __future__ import annotations

from pathlib import Path

import click

from dnnlib.params import DEGREES, OUTPUT_DIR
from dnnlib.progress import progress_bar
from next3d.commands.network import network_options, open_network


@click.command()
@network_options
@click.option("--outdir", type=OUTPUT_DIR, required=True, help="Where the files go; created if needed.")
@click.option("--yaw", "yaws", type=DEGREES, default="0", show_default=True, help="Views side by side, camera yaw in degrees: -20,0,20.")
@click.option("--rest", is_flag=True, help="Relaxed faces instead of random expressions.")
@click.option("--raw", is_flag=True, help="Also write the rendering before super-resolution.")
@click.option("--depth", is_flag=True, help="Also write depth: light is near, dark is far, black is empty.")
@click.option("--mesh", is_flag=True, help="Also write the posed mesh.")
@click.option("--shapes", is_flag=True, help="Also write the surface as .ply, for MeshLab or Blender.")
@click.option("--shape-res", type=click.IntRange(8, 1024), default=128, show_default=True, help="Grid points per axis for --shapes.")
@click.option("--shape-level", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Density at the surface.")
def samples(
    network: Path,
    seeds: list[int],
    trunc: float,
    trunc_cutoff: int | None,
    head_seed: int,
    device: str,
    threads: int | None,
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
    """
    from next3d.media.samples import SamplesConfig, write_samples

    generator, head = open_network(network, device, threads)
    config = SamplesConfig(
        seeds=tuple(seeds),
        yaws=yaws,
        truncation=trunc,
        cutoff=trunc_cutoff,
        head_seed=head_seed,
        rest=rest,
        raw=raw,
        depth=depth,
        mesh=mesh,
        shapes=shapes,
        shape_resolution=shape_res,
        shape_level=shape_level,
    )
    with progress_bar(len(seeds), "samples", unit="face") as bar:
        written = write_samples(generator, head, outdir, config, progress=bar.update)
    click.echo(f"{len(written)} files in {outdir}")
