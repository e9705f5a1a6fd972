"""Speed of the rasteriser: `python -m bench.rasterize [--quick] [--json FILE]`."""

from __future__ import annotations

import math
from pathlib import Path

import click
import torch
from torch import Tensor

from bench.report import Report, measure
from torch_utils.ops.rasterize import Fragments, rasterize

BAR_MS = 1.5
"""Milliseconds for one 64 x 64 view of a mesh of 5000 vertices and 10000 triangles on one core."""


def sphere(rings: int, sectors: int) -> tuple[Tensor, Tensor]:
    """A closed sphere of radius 0.8: vertices [V, 3] and counter-clockwise triangles [F, 3]."""
    polar = torch.linspace(0, math.pi, rings + 1)[1:-1, None]
    around = torch.arange(sectors) * (2 * math.pi / sectors)
    ring = torch.stack([polar.sin() * around.cos(), polar.cos().expand(-1, sectors), polar.sin() * around.sin()], dim=-1).flatten(0, 1)
    vertices = 0.8 * torch.cat([ring, torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])])
    here = torch.arange(len(ring)).reshape(-1, sectors)
    right = here.roll(-1, dims=1)
    quads = torch.stack([here[:-1], right[:-1], here[1:], right[1:]], dim=-1).reshape(-1, 4)
    north = torch.stack([torch.full((sectors,), len(ring)), right[0], here[0]], dim=1)
    south = torch.stack([torch.full((sectors,), len(ring) + 1), here[-1], right[-1]], dim=1)
    return vertices, torch.cat([quads[:, [0, 1, 2]], quads[:, [1, 3, 2]], north, south])


@click.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(quick: bool, json_path: Path | None) -> None:
    """Time one view of a sphere of 5000 vertices, C++ against reference, on one thread."""
    torch.set_num_threads(1)
    vertices, faces = sphere(51, 100)
    points = (vertices * torch.tensor([1.0, -1.0, -1.0])).expand(4, -1, -1).contiguous()
    shuffled = faces[torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))]
    report = Report("rasterize")
    for size in (64, 256, 512):

        def draw(triangles: Tensor, backend: str, size: int = size) -> Fragments:
            return rasterize(points, triangles, (size, size), cull="back", backend=backend)  # type: ignore[arg-type]

        times = measure(
            {
                "cpu": lambda: draw(faces, "cpu"),
                "shuffled": lambda: draw(shuffled, "cpu"),
                "ref": lambda: draw(faces, "ref"),
            },
            repeats=3 if quick else 15,
        )
        milliseconds = {name: 1000 * seconds / len(points) for name, seconds in times.items()}
        note = f"{len(vertices)} vertices, {len(faces)} triangles, {len(points)} views"
        report.add(f"rasterize_{size}_ms", milliseconds["cpu"], bar=f"< {BAR_MS}" if size == 64 else "", note=note)
        report.add(f"rasterize_{size}_shuffled_ms", milliseconds["shuffled"], note=f"{note}, triangles in random order")
        report.add(f"rasterize_{size}_ref_ratio", milliseconds["ref"] / milliseconds["cpu"], note="reference / C++")
    report.finish(json_path)


if __name__ == "__main__":
    main()
