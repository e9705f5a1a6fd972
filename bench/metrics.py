"""Do the avatar metrics measure what they say? Synthetic portraits that show what was commanded are fed as if they were generated.

    python -m bench.metrics [--quick] [--images 500] [--json FILE] [--data FILE]

The truth must be at the floor (the held-out error of the regressors), and every mistake of a known size must show in its own figure,
growing with its size, and nowhere else. A data set is rendered first: 2500 portraits of 64 x 64 pixels, of which 500 are held out.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench.report import Report
from next3d.head import load_head
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from training.dataset import PortraitDataset, open_dataset
from training.metrics.context import Context, MetricSettings
from training.metrics.figures import Figure
from training.metrics.identity import measure as measure_identity
from training.metrics.obedience import measure_expression, measure_gaze, measure_landmarks, measure_pose, measure_response
from training.metrics.readings import face_reader, held_out_faces, natural_scenes
from training.metrics.scenes import Sampler, Scenes
from training.metrics.truth import MistakenSampler, TruthSampler
from training.metrics.unseen import measure as measure_unseen
from training.metrics.views import TURNS, agreement, depth_error, true_views, turned_camera

RESOLUTION = 64
PER_PERSON = 4
SHARES = (0.1, 0.2, 0.4)
DEGREES = (3, 6, 12)
AT_FLOOR = 1.1
"""The truth may be read this much worse than held-out images: other people, other scenes."""


def make_context(path: Path, people: int, *, held_out: int, fitting: int) -> Context:
    """The truth under test on a rendered data set."""
    if not path.exists():
        write_dataset(SyntheticConfig(count=fitting + held_out, resolution=RESOLUTION, per_identity=PER_PERSON), path)
    dataset: PortraitDataset = open_dataset(path)
    settings = MetricSettings(people=people, holdout=held_out, fitting=fitting)
    return Context(sampler=TruthSampler(load_head(dataset.head_name), RESOLUTION), latent_size=8, dataset=dataset, settings=settings)


def distances(context: Context, sampler: Sampler) -> dict[str, Figure]:
    """AED, APD, AKD and gaze error of a sampler, by the reader of the context."""
    context.test_another(sampler)
    measures = (measure_expression, measure_pose, measure_landmarks, measure_gaze)
    return {figure.name: figure for measure in measures for figure in measure(context)}


def add_distances(report: Report, context: Context) -> None:
    """The truth at its floor; wrong expressions, poses and gazes."""
    truth = context.sampler
    assert isinstance(truth, TruthSampler)
    right = distances(context, truth)
    for name, figure in right.items():
        floor = figure.floor or math.nan
        interval = f"95 %: {figure.low:.3g} to {figure.high:.3g}; {figure.unit}, {figure.count} images"
        report.add(f"{name}_truth", figure.value, bar=f"<= {AT_FLOOR * floor:.3g}", note=interval)
        report.add(f"{name}_floor", floor, note="held-out real images")
    kinds: Mapping[str, tuple[str, dict[str, Sampler]]] = {
        "expression": ("aed", {f"{100 * share:.0f}": MistakenSampler(truth, expression=share) for share in SHARES}),
        "turn": ("apd", {f"{angle}deg": MistakenSampler(truth, turn=math.radians(angle)) for angle in DEGREES}),
        "gaze": ("gaze_error", {f"{angle}deg": MistakenSampler(truth, gaze=math.radians(angle)) for angle in DEGREES}),
    }
    for kind, (about, samplers) in kinds.items():
        last = right[about].value
        for size, sampler in samplers.items():
            found = distances(context, sampler)
            others = ", ".join(f"{name} {figure.value:.3g}" for name, figure in found.items() if name != about)
            report.add(f"{about}_{kind}_wrong_{size}", found[about].value, bar=f"> {last:.3g}", note=others)
            last = found[about].value
    context.test_another(truth)


def add_response(report: Report, context: Context) -> None:
    """Response curves of the truth, and what is read where jaw and gaze are at their extremes."""
    for figure in (*measure_response(context), *measure_unseen(context)):
        floor = "" if figure.floor is None else f"floor: {figure.floor:.3g}"
        report.add(figure.name, figure.value, note=floor)


def add_identity(report: Report, context: Context) -> None:
    """One person in many moments, and a stranger in each."""
    truth = context.sampler
    (same,) = measure_identity(context)
    report.add("id_truth", same.value, bar="< 0.5", note=f"95 %: {same.low:.3g} to {same.high:.3g}")
    report.add("id_floor", same.floor or math.nan, note="held-out people in other light and clothes; " + same.note.rpartition("; ")[2])
    heads = natural_scenes(context).moving.shape

    def strangers(scenes: Scenes) -> Tensor:
        """Another look and another head shape in every picture."""
        z = scenes.camera.to_label()[:, :8] + scenes.moving.expression[:, :8]
        rows = (z.double().sum(dim=1).remainder(1.0) * len(heads)).long()
        return truth(replace(scenes, z=z, params=replace(scenes.moving, shape=heads[rows])))

    context.test_another(strangers)
    (different,) = measure_identity(context)
    context.test_another(truth)
    report.add("id_strangers", different.value, bar="0.9 to 1.1", note="another person in every picture of a seed")


def add_views(report: Report, context: Context, pairs: int) -> None:
    """True renderings from two sides, and their depth against the mesh."""
    truth, scenes = context.sampler, natural_scenes(context)[:pairs]
    assert isinstance(truth, TruthSampler)
    first, *others = true_views(truth)(scenes, [turned_camera(scenes.camera, torch.full([len(scenes)], turn)) for turn in TURNS.values()])
    for (name, turn), other in zip(TURNS.items(), others, strict=True):
        found = agreement(first, other)
        note = f"dB, {len(scenes)} pairs, {RESOLUTION}²; {math.degrees(turn):.0f} degrees apart"
        report.add(f"{name}_psnr_truth", float(found.psnr.nanmean()), note=note)
        report.add(f"{name}_shared_truth", float(found.shared.nanmean()), note="% of the head's pixels")
    error = depth_error(truth.head, scenes.moving, first)
    report.add("depth_error_truth", float(error.nanmedian()), bar="< 0.5", note="% of the head's depth, median of the pictures")


def main() -> None:
    """Render, fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few hundred pictures")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--data", type=Path, help="keep the rendered data set in this file (.zip), or take it from there")
    parser.add_argument("--images", type=int, default=500, help="true and mistaken pictures of each kind, at most 500")
    options = parser.parse_args()
    torch.set_num_threads(1)
    held_out, fitting = (40, 200) if options.quick else (500, 2000)
    people = min(options.images, held_out)
    report = Report("metrics")
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(options.data or Path(folder) / "portraits.zip", people, held_out=held_out, fitting=fitting)
        start = time.perf_counter()
        face_reader(context)
        report.add("reader_fit_s", time.perf_counter() - start, bar="<= 60", note=f"{fitting} images and their mirror images, one thread")
        start = time.perf_counter()
        held_out_faces(context)
        report.add("reader_read_ms", 1000 * (time.perf_counter() - start) / held_out, note="per image, decoding included")
        add_distances(report, context)
        add_response(report, context)
        add_identity(report, context)
        add_views(report, context, min(people, 64))
    report.finish(options.json)


if __name__ == "__main__":
    main()
