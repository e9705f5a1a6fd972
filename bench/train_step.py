"""Where a training step spends its time, and where it waits for the device: `python -m bench.train_step [--quick] [--json FILE]`.

Waits are looked for twice: in a step as it runs here, and in one whose operators are the references, as a GPU has them that lacks
kernels of its own. `STAYING` says which may stay, and why; everything else is a mistake.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from unittest.mock import patch

import click
import torch

import torch_utils.ops.fill_holes
import torch_utils.ops.rasterize
import training.trainer
from bench.host_waits import HostWaits, cuda_waits
from bench.regions import Place, region_times
from bench.report import Report
from next3d.config import PRESETS
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from training.batch import Batch
from training.config import TrainConfig, default_config
from training.dataset import PortraitDataset, open_dataset
from training.loader import load_batches
from training.state import new_state
from training.trainer import Trainer

STAYING: Mapping[str, str] = {
    "torch_utils/ops/fill_holes.py:_fill_holes_ref": "reference only: whether the outside has stopped growing is known to the data alone",
    "torch_utils/ops/rasterize.py:_chunks": "reference only: how many pixels triangles cover decides how much memory their fragments take",
    "torch_utils/ops/rasterize.py:_rasterize_ref": "reference only: as above",
}
"""Function → why it may wait. The compiled operators do not."""
IMAGES = 16


class Workload:
    """A trainer with a few batches at hand."""

    def __init__(self, config: TrainConfig, dataset: PortraitDataset, device: torch.device) -> None:
        state = new_state(config, dataset.topology, device)
        self.trainer = Trainer(config, dataset, state, device)
        group = config.model.discriminator.group_size
        stream = load_batches(dataset, seed=0, start=0, size=config.run.batch, group=group)
        self.batches: Iterator[Batch] = cycle(list(islice(stream, 2)))

    def step(self) -> None:
        """One step, and nothing that a step does not need."""
        self.trainer.step(next(self.batches))

    def regions(self) -> dict[str, Place]:
        """Parts of a step; those of generator and discriminator are also inside the gradients."""
        trainer, phases = self.trainer, self.trainer.phases
        return {
            "step": (trainer, "step"),
            "prepare": (trainer, "_parts"),
            "shared_gradients": (phases, "_shared_gradients"),
            "generator_gradients": (phases, "_generator_gradients"),
            "discriminator_gradients": (phases, "_discriminator_gradients"),
            "r1_gradients": (phases, "_penalty_gradients"),
            "check": (phases, "_close"),
            "optimizers": (phases, "_descend"),
            "average": (training.trainer, "update_average"),
        }


@contextmanager
def references() -> Iterator[None]:
    """Operators that decide how much work there is run as their references."""
    with ExitStack() as stack:
        for module in (torch_utils.ops.fill_holes, torch_utils.ops.rasterize):
            stack.enter_context(patch.object(module, "_backend", lambda *_: "ref"))
        yield


def waits(program: Callable[[], object]) -> Counter[tuple[str, str]]:
    """(operator, function) → how often one run waits."""
    program()  # what is built and kept the first time is not part of a step
    with HostWaits() as watch:
        program()
    return watch.found


def needless(found: Counter[tuple[str, str]]) -> list[str]:
    """Waits that are not in `STAYING`."""
    return [f"{operator} in {place}" for operator, place in found if place not in STAYING]


def run(config: TrainConfig, dataset: PortraitDataset, device: torch.device, repeats: int) -> tuple[Report, str]:
    """All figures, and the list of waits."""
    report, lines = Report("train_step"), []
    every = replace(config, loss=replace(config.loss, r1_interval=1, density_interval=1))
    work = Workload(every, dataset, device)
    times = region_times(work.step, work.regions(), repeats=repeats)
    note = f"{config.preset}, batch {config.run.batch}, {device}, every step with R1 and density"
    for name, seconds in times.items():
        if seconds > 0:
            report.add(f"{name}_ms", 1e3 * seconds, note=note if name == "step" else f"{100 * seconds / times['step']:.0f} % of the step")
    usual = Workload(config, dataset, device)
    seconds = region_times(usual.step, {"usual": (usual.trainer, "step")}, repeats=max(repeats, 2), warmup=1)["usual"]
    report.add("usual_step_ms", 1e3 * seconds, note="median: without R1 and density, which come with every so many steps")
    report.add("images_per_second", config.run.batch / seconds, note="of usual steps")
    kinds = {"compiled": waits(work.step)}
    with references():
        kinds["reference"] = waits(work.step)
    for kind, found in kinds.items():
        report.add(f"{kind}_waits", sum(found.values()), bar="= 0" if kind == "compiled" else "", note=f"{kind} operators")
        lines += [f"{count:5d}  {operator:22} {place}: {STAYING.get(place, 'NEEDLESS')}" for (operator, place), count in found.items()]
    report.add(
        "needless_waits", sum(len(needless(found)) for found in kinds.values()), bar="= 0", note="not in the list of those that stay"
    )
    if device.type == "cuda":
        with cuda_waits() as seen:
            work.step()
        report.add("cuda_synchronisations", sum(seen.values()), note="as CUDA sees them")
        lines += [f"{count:5d}  {place}" for (_, place), count in seen.items()]
    return report, "\n".join(lines or ["No wait was found."])


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), default="demo-64", show_default=True, help="Which networks.")
@click.option("--data", type=click.Path(exists=True), help="Train on this data set instead of fresh synthetic portraits.")
@click.option("--batch", type=click.IntRange(min=4), default=8, show_default=True, help="Images per step.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--repeats", type=click.IntRange(min=1), default=8, show_default=True, help="Steps that are timed.")
@click.option("--quick", is_flag=True, help="One step per figure after the warm-up.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(preset: str, data: str | None, batch: int, device: str, repeats: int, quick: bool, json_path: Path | None) -> None:
    """Time every part of a training step and list what waits for the device."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.UsageError("--device=cuda, but torch finds no CUDA device; use --device=cpu.")
    with tempfile.TemporaryDirectory() as folder:
        config = default_config(preset, data or str(Path(folder) / "data.zip"))
        size = config.model.generator.image_resolution
        if data is None:
            write_dataset(SyntheticConfig(count=IMAGES, resolution=size), Path(config.data.path))
        config = replace(config, run=replace(config.run, batch=batch))
        dataset = open_dataset(config.data.path, size)
        report, table = run(config, dataset, torch.device(device), 1 if quick else repeats)
    click.echo("Waits for the device in one step:\n" + table + "\n")
    report.finish(json_path)


if __name__ == "__main__":
    main()
