"""What the generator costs, stage by stage: `python -m bench.generator --preset demo-64 [--device cuda] [--quick] [--json FILE]`.

The stages are those of `Generator`: identity once per face, animate once per expression, render once per view. Beside them stand the
costs of the three ways to make a frame: generating anew, animating a fixed identity, re-viewing fixed planes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import torch

import next3d.generator
import next3d.render.renderer
from bench.regions import Place, region_flops, region_peaks, region_times
from bench.report import Report, measure
from next3d.config import PRESETS, preset
from next3d.generator import Generator
from next3d.head import load_head
from next3d.render.cameras import orbit_camera
from next3d.types import GeneratorOutput

MIB = 2**20


class Workload:
    """A generator with random weights, one batch of inputs, and the three ways to make its frames."""

    def __init__(self, name: str, batch: int, device: str) -> None:
        config = preset(name).generator
        head = load_head(config.head)
        self.generator = Generator(config, head.topology).to(device).eval().requires_grad_(False)
        random = torch.Generator().manual_seed(0)
        yaw, pitch = 0.4 * torch.rand(2, batch, generator=random) - 0.2
        self.z = torch.randn(batch, config.latent_size, generator=random).to(device)
        self.camera = orbit_camera(yaw, pitch).to(device)
        self.mesh = head(head.neutral(batch)).to(device)
        with torch.inference_mode():
            self.styles = self.generator.mapping(self.z, self.camera.to_label())
            self.identity = self.generator.identity(self.styles)
            self.planes = self.generator.animate(self.identity, self.mesh)

    @torch.inference_mode()
    def anew(self) -> GeneratorOutput:
        """Every stage, as for a new person."""
        styles = self.generator.mapping(self.z, self.camera.to_label())
        identity = self.generator.identity(styles)
        rasters = self.generator.rasterize(self.mesh)
        planes = self.generator.animate(identity, self.mesh, rasters=rasters)
        return self.generator.render(planes, self.camera, styles)

    @torch.inference_mode()
    def animate(self) -> GeneratorOutput:
        """Another expression of a known identity."""
        return self.generator.render(self.generator.animate(self.identity, self.mesh), self.camera, self.styles)

    @torch.inference_mode()
    def review(self) -> GeneratorOutput:
        """Another view of known planes."""
        return self.generator.render(self.planes, self.camera, self.styles)

    def regions(self) -> Mapping[str, Place]:
        """The stages and what they are made of, named stage_part."""
        generator = self.generator
        mouth: dict[str, Place] = {"animate_mouth": (generator.mouth.complete, "forward")}
        if hasattr(generator.mouth, "blend"):  # the variant that goes over the whole front plane once more
            mouth["animate_blending"] = (generator.mouth.blend, "forward")
        return {
            "frame": (self, "anew"),
            "mapping": (generator, "mapping"),
            "identity": (generator, "identity"),
            "identity_texture": (generator.texture, "forward"),
            "identity_static": (generator.static, "forward"),
            "rasterize": (generator, "rasterize"),
            "animate": (generator, "animate"),
            "animate_lookup": (next3d.generator, "texture_planes"),
            **mouth,
            "animate_coverage": (next3d.generator, "blend_planes"),
            "render": (generator, "render"),
            "render_sampling": (next3d.render.renderer, "sample_planes"),
            "render_decoder": (generator.decoder, "forward"),
            "render_compositing": (next3d.render.renderer, "composite"),
            "render_superres": (generator.superres, "forward"),
        }


def stage_table(times: Mapping[str, float], flops: Mapping[str, int], peaks: Mapping[str, int], batch: int) -> str:
    """One line per stage, parts indented; `times` in seconds and `peaks` in bytes per batch."""
    lines = [f"{'stage':24}{'ms':>10}{'GFLOP':>10}{'peak MiB':>10}   per image; memory for a batch of {batch}", "-" * 86]
    for name, seconds in times.items():
        label = "    " + name.split("_", 1)[1] if "_" in name else name
        lines.append(f"{label:24}{1e3 * seconds / batch:10.2f}{flops[name] / batch / 1e9:10.3f}{peaks[name] / MIB:10.1f}")
    return "\n".join(lines)


def run(name: str, *, device: str, batch: int, repeats: int) -> tuple[Report, str]:
    """Measure a preset; returns all figures and the table of stages."""
    work = Workload(name, batch, device)
    regions = work.regions()

    def anew() -> GeneratorOutput:
        return work.anew()  # looked up when called: the wrapper is on the object

    times = region_times(anew, regions, repeats=repeats)
    flops, peaks = region_flops(anew, regions), region_peaks(anew, regions)
    ways = measure({"anew": work.anew, "animate": work.animate, "review": work.review}, repeats=repeats)
    report = Report("generator")
    for stage in regions:
        report.add(f"{stage}_ms", 1e3 * times[stage] / batch, shown=False)
        report.add(f"{stage}_gflop", flops[stage] / batch / 1e9, shown=False)
        report.add(f"{stage}_peak_mib", peaks[stage] / MIB, shown=False)
    notes = {"anew": "a new person", "animate": "fixed identity, new expression", "review": "fixed planes, new view"}
    for way, seconds in ways.items():
        report.add(f"{way}_frame_ms", 1e3 * seconds / batch, note=f"{notes[way]}; {name}, batch {batch}, {device}, float32")
    report.add("anew_to_animate_ratio", ways["anew"] / ways["animate"], note="how many times cheaper an expression is")
    report.add("anew_to_review_ratio", ways["anew"] / ways["review"], note="how many times cheaper a view is")
    return report, stage_table(times, flops, peaks, batch)


@click.command()
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="demo-64", show_default=True, help="Which network.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images at once.")
@click.option("--repeats", type=click.IntRange(min=1), help="Runs per figure.  [default: 10, or 3 for images above 128²]")
@click.option("--quick", is_flag=True, help="One run per figure after the warm-up.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(name: str, device: str, batch: int, repeats: int | None, quick: bool, json_path: Path | None) -> None:
    """Time, FLOPs and peak memory of every stage of the generator, and of the three ways to make a frame.

    FLOPs count a multiplication and an addition as two, in convolutions, matrix products and bilinear lookups. Memory is what a stage
    allocates beyond what was in use when it began: CUDA's allocator, or torch's CPU allocator as the profiler sees it. While stages
    are timed, the device is synchronised between them; the frames below are timed undisturbed.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.UsageError("--device=cuda, but torch finds no CUDA device; use --device=cpu.")
    usual = 10 if preset(name).generator.image_resolution <= 128 else 3
    report, table = run(name, device=device, batch=batch, repeats=1 if quick else repeats or usual)
    click.echo(table + "\n")
    report.finish(json_path)


if __name__ == "__main__":
    main()
