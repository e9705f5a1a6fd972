"""How good is the shipped network? `python -m bench.demo_model --data test.zip [--network F] [--curve RUN] [--quick] [--json FILE]`.

The data set is one that the network has never seen, with its last 500 portraits held out:
`next3d data synthetic --num 2500 --resolution 128 --seed 8 --out test.zip`. Without `--data` it is made in a temporary folder first.

In square brackets stands each figure's floor: what true pictures reach. With `--curve` it measures every network in a folder of snapshots
with fewer images and writes a curve of every figure over the images seen (docs/demo-model.md).
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from bench.curves import Curve, curves_svg
from bench.report import Report, measure
from dnnlib.errors import UserError
from dnnlib.files import atomic_write
from dnnlib.machine import physical_cores
from next3d.checkpoint import load_animatable
from next3d.generator import Generator
from next3d.head import load_head
from next3d.render.cameras import orbit_camera
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from training.dataset import PortraitDataset, open_dataset
from training.metrics import catalog
from training.metrics.context import Context, MetricSettings
from training.metrics.figures import Figure
from training.metrics.networks import network_context, untrained_like
from training.metrics.scenes import generator_sampler

TEST_SEED, TEST_COUNT = 8, 2500
"""Of the portraits that figures are measured on; training has another seed."""
TRUNCATION = 0.7
"""Of the avatar metrics: what commands draw. Distributions are compared without truncation."""
FULL = MetricSettings(images=500, people=500, fitting=2000, holdout=500)
CURVE = MetricSettings(images=500, people=120, fitting=2000, holdout=500, intervals=False)
QUICK = MetricSettings(images=32, people=16, fitting=60, holdout=32, intervals=False)
QUICK_COUNT = 120
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Bar:
    """What a figure of the shipped network should be."""

    figure: str
    wanted: float
    """The aim."""
    least: float | None
    """The rung below which nothing is shipped; None where there is none."""
    smaller: bool = False
    """Whether smaller is better."""

    def text(self) -> str:
        """As read aloud."""
        sign = "<=" if self.smaller else ">="
        return f"{sign} {self.wanted:g}" if self.least is None else f"{sign} {self.wanted:g} ({self.least:g})"

    def met(self, value: float) -> bool:
        """Whether the aim is reached."""
        return value <= self.wanted if self.smaller else value >= self.wanted


def bar(figure: str, wanted: float, least: float | None = None) -> Bar:
    """The larger the better."""
    return Bar(figure, wanted, least)


def limit(figure: str, wanted: float, least: float | None = None) -> Bar:
    """The smaller the better."""
    return Bar(figure, wanted, least, smaller=True)


BARS = (
    bar("mesh478_one", 0.95, 0.6),
    bar("jaw_spearman", 0.9, 0.7),
    bar("blink_spearman", 0.75),
    bar("gaze_spearman", 0.75),
    bar("smile_spearman", 0.8),
    limit("apd_median", 4, 8),
    bar("unseen_jaw_spearman", 0.9, 0.7),
    bar("unseen_blink_spearman", 0.75),
    bar("unseen_gaze_spearman", 0.75),
    bar("unseen_smile_spearman", 0.8),
    limit("unseen_apd_median", 4, 8),
    limit("id_consistency", 0.35, 0.6),
    limit("swd_mean_share", 0.25, 0.45),
    limit("swd_finest_share", 0.4, 0.6),
    limit("depth_error", 3, 8),
    bar("animate_frames_per_second", 5),
)
"""What the project asks of the network that it ships."""


def frames_per_second(network: Generator, repeats: int) -> float:
    """Frames of one known identity that moves, one at a time, on all cores."""
    head = load_head(network.config.head)
    camera = orbit_camera(torch.zeros(1), torch.zeros(1))
    styles = network.mapping(torch.zeros(1, network.config.latent_size), camera.to_label())
    identity = network.identity(styles)
    params = head.neutral(1)

    @torch.inference_mode()
    def frame() -> None:
        network.render(network.animate(identity, head(params)), camera, styles)

    return 1 / measure({"frame": frame}, repeats=repeats, warmup=3)["frame"]


def distribution(context: Context, network: Generator) -> dict[str, Figure]:
    """Sliced Wasserstein distances."""
    context.test_another(generator_sampler(network, context.dataset.pose, 1.0, context.settings.batch), network)
    return {figure.name: figure for figure in catalog.measure(catalog.choose(["swd"]), context)}


def avatar(context: Context, network: Generator) -> dict[str, Figure]:
    """All avatar metrics that are possible here."""
    context.test_another(generator_sampler(network, context.dataset.pose, TRUNCATION, context.settings.batch), network)
    return {figure.name: figure for figure in catalog.measure(catalog.suite("avatar"), context, skip=True)}


def shares(trained: Mapping[str, Figure], untrained: Mapping[str, Figure]) -> dict[str, float]:
    """Distances as parts of the untrained network's: the mean of the levels, and the finest one."""
    finest = max((name for name in trained if re.fullmatch(r"swd_\d+", name)), key=lambda name: int(name.split("_")[1]))
    return {
        "swd_mean_share": trained["swd_mean"].value / untrained["swd_mean"].value,
        "swd_finest_share": trained[finest].value / untrained[finest].value,
    }


def open_context(network: Generator, data: Path, settings: MetricSettings) -> Context:
    """What all measurements share."""
    dataset: PortraitDataset = open_dataset(data, network.config.image_resolution)
    return network_context(network, dataset, settings, truncation=TRUNCATION, say=lambda line: click.echo(f"{line} ...", err=True))


def conditions(figure: Figure) -> str:
    """What a figure means, and what true pictures reach."""
    return figure.note if figure.floor is None else f"[{figure.floor:.4g}] {figure.note}"


def report_network(path: Path | None, data: Path, settings: MetricSettings) -> Report:
    """Every figure of one network beside its bar."""
    network = load_animatable(path)
    context = open_context(network, data, settings)
    fresh = distribution(context, untrained_like(network))
    own = distribution(context, network)
    figures = avatar(context, network)
    values = {name: figure.value for name, figure in (own | figures).items()} | shares(own, fresh)
    values["swd_mean_untrained"] = fresh["swd_mean"].value
    values["animate_frames_per_second"] = frames_per_second(network, repeats=5 if settings is QUICK else 40)
    report, bars = Report("demo_model"), {aim.figure: aim for aim in BARS}
    for name, value in values.items():
        note = conditions((own | figures)[name]) if name in own | figures else ""
        text = bars[name].text() + ("" if bars[name].met(value) else "  MISSED") if name in bars else ""
        report.add(name, value, bar=text, note=note)
    return report


def report_curve(folder: Path, data: Path, out: Path, settings: MetricSettings) -> None:
    """Figures of every network in a folder, into `out`.jsonl (what is there already is kept) and `out`.svg."""
    networks = sorted(folder.glob("network-*.safetensors"))
    if not networks:
        raise UserError(f"--curve {folder}: no network-NNNNNN.safetensors in there; give the folder of a run.")
    lines = out.with_suffix(".jsonl")
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.is_file() else []
    last = load_animatable(networks[-1])  # its rays, which may have grown, are those of the untrained network that all are compared with
    context = open_context(last, data, settings)
    fresh: Mapping[str, Figure] | None = None
    for path in networks:
        kimg = int(path.stem.split("-")[1])
        if any(row["kimg"] == kimg for row in rows):
            continue
        fresh = fresh or distribution(context, untrained_like(last))
        network = load_animatable(path)
        own = distribution(context, network)
        values = {name: figure.value for name, figure in (own | avatar(context, network)).items()} | shares(own, fresh)
        rows.append({"kimg": kimg, **{name: round(value, 4) for name, value in values.items()}})
        rows.sort(key=lambda row: row["kimg"])
        with atomic_write(lines) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        click.echo(json.dumps(rows[-1]), err=True)
    with atomic_write(out.with_suffix(".svg")) as temporary:
        temporary.write_text(curves_svg(list(bar_curves(rows)), "thousand images"))


def bar_curves(rows: Sequence[Mapping[str, float]]) -> Iterator[Curve]:
    """One curve for every bar that the rows have a figure for."""
    for aim in BARS:
        points = [(row["kimg"], row[aim.figure]) for row in rows if aim.figure in row]
        if points:
            yield Curve(aim.figure, points, aim.wanted, aim.least)


@contextmanager
def test_data(given: Path | None, count: int, resolution: int) -> Iterator[Path]:
    """The data set that was named, or a fresh one."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.zip"
        click.echo(f"Rendering {count} portraits of seed {TEST_SEED} ...", err=True)
        write_dataset(SyntheticConfig(count=count, resolution=resolution, seed=TEST_SEED), path, workers=physical_cores())
        yield path


@click.command()
@click.option("--network", type=FILE, help="Generator.  [default: the shipped one]")
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Data set that training has not seen.  [default: made here]")
@click.option("--curve", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Measure all networks in this folder instead.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("curve"), help="With --curve: OUT.jsonl, OUT.svg.  [default: curve]")
@click.option("--quick", is_flag=True, help="Few images: to see that it works.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(network: Path | None, data: Path | None, curve: Path | None, out: Path, quick: bool, json_path: Path | None) -> None:
    """Compare the shipped network with what the project asks of it."""
    torch.set_num_threads(physical_cores())
    try:
        size = load_animatable(network).config.image_resolution
        with test_data(data, QUICK_COUNT if quick else TEST_COUNT, size) as path:
            if curve is not None:
                report_curve(curve, path, out, QUICK if quick else CURVE)
                return
            report_network(network, path, QUICK if quick else FULL).finish(json_path)
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
