"""Is a trained demo network any good? `python -m bench.demo --network X.safetensors [--state X.state] --data data.zip [--quick]`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.report import Report
from dnnlib.errors import UserError
from next3d.checkpoint import load_animatable
from training.dataset import open_dataset
from training.metrics.evaluate import QUICK, EvaluationSettings, evaluate
from training.metrics.figures import by_name, figure_table
from training.metrics.networks import load_discriminator, untrained_like

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--network", type=FILE, required=True, help="Trained generator, network-NNNNNN.safetensors.")
@click.option("--state", type=FILE, help="State of the same run, for the discriminator.  [default: beside the network, if it is there]")
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="Data set; its last 500 images must be held out.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--quick", is_flag=True, help="Few images: rough figures in seconds.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(network: Path, state: Path | None, data: Path, device: str, quick: bool, json_path: Path | None) -> None:
    """Compare a trained generator with an untrained one of the same configuration, and both with the bars."""
    try:
        report, table = run(network, state, data, device, QUICK if quick else EvaluationSettings())
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    click.echo(table + "\n")
    report.finish(json_path)


def run(network: Path, state: Path | None, data: Path, device: str, settings: EvaluationSettings) -> tuple[Report, str]:
    """All figures, and their table."""
    beside = network.with_suffix(".state")
    state = state or (beside if beside.is_file() else None)
    trained = load_animatable(network, device)
    discriminator = load_discriminator(state, device) if state is not None else None
    dataset = open_dataset(data, trained.config.image_resolution)
    figures = evaluate(
        trained, untrained_like(trained), discriminator, dataset, settings, say=lambda line: click.echo(f"{line} ...", err=True)
    )
    report = Report("demo")
    for name, value in by_name(figures).items():
        report.add(name, value, shown=False)
    bars = [figure for figure in figures if figure.met is not None]
    report.add("bars_met", sum(bool(figure.met) for figure in bars), bar=f"{len(bars)}", note=f"{network.name}, {data.name}")
    return report, figure_table(figures)


if __name__ == "__main__":
    main()
