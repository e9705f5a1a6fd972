"""Are synthetic portraits real enough for a face tracker that never saw one? And how fast are they made?

    python -m bench.portraits [--quick] [--json FILE]

MediaPipe's face mesh judges pictures of 256 x 256 pixels in which the head is turned by at most 30 degrees. Response figures draw the
commanded control evenly over its range and everything else as data sets have it. Needs the extra `portraits` (MediaPipe).

    python -m bench.portraits --fit

measures anew, on neutral faces of another seed, where the detector's points lie on our head, and stores it for the ground truth.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from bench.face_mesh import READERS, Array, FaceMesh, Pixels, eye_distance, fit_places, open_face_mesh, regions, save_places
from bench.report import Report
from dnnlib.machine import physical_cores
from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams, Joint, yaw_in_view
from next3d.render.cameras import project
from next3d.synthetic.dense import POINTS_FILE, dense_embedding
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.generate import SyntheticConfig, render_all, render_chunk
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import GAZE_RANGE, JAW_RANGE, keyed_camera, keyed_params, with_gaze
from next3d.types import Camera

RESOLUTION = 256
MAX_YAW = np.pi / 6
FIT_COUNT = 60
FOUND_SEED, CONTROL_SEED, FIT_SEED, SPEED_SEED = 1000, 2000, 3000, 4000
BARS = {"jaw": 0.9, "blink": 0.8, "gaze": 0.8}
_RANGES = {"jaw": (0.0, JAW_RANGE), "blink": (0.0, 1.0), "gaze": (-GAZE_RANGE[1], GAZE_RANGE[1])}


@dataclass(frozen=True)
class Job:
    """One picture to judge."""

    seed: int
    index: int
    control: str = ""
    """Which control is drawn evenly; "neutral" for no expression at all; "" for a sample as data sets have it."""


@dataclass(frozen=True)
class Judged:
    """A picture with what is true of it."""

    image: Pixels
    value: float
    """Of the commanded control."""
    points: Array
    """[478, 2], pixels."""


@lru_cache(maxsize=1)
def _head() -> HeadModel:
    return load_head("procedural")


def job_params(job: Job) -> tuple[HeadParams, float]:
    """Head parameters of a picture and the value of its control."""
    head, params = _head(), keyed_params(_head(), job.seed, job.index)
    if job.control == "neutral":
        return replace(head.neutral(1), shape=params.shape), 0.0
    if not job.control:
        return params, 0.0
    value = float(numpy_stream(job.seed, job.index, f"bench/{job.control}").uniform(*_RANGES[job.control]))
    pose, expression = params.pose.clone(), params.expression.clone()
    if job.control == "jaw":
        pose[:, Joint.JAW, 0] = value
    elif job.control == "blink":
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            expression[:, head.expression_names.index(name)] = value
    else:
        return with_gaze(head, params, torch.stack([pose[:, Joint.LEFT_EYE, 0], torch.tensor([value])], dim=1)), value
    return replace(params, pose=pose, expression=expression), value


def judge(job: Job) -> Judged:
    """Render one picture; runs in worker processes."""
    torch.set_num_threads(1)
    params, value = job_params(job)
    portrait = render_sample(_head(), job.seed, job.index, RESOLUTION, params=params)
    camera = Camera.from_label(torch.from_numpy(portrait.label)[None])
    points = dense_embedding(_head()).place(_head()(params).vertices)
    shown = (project(points, camera)[0, :, :2] + 1) * (RESOLUTION / 2)
    return Judged(portrait.image, value, shown.double().numpy())


def frontal_jobs(seed: int, count: int, control: str = "") -> list[Job]:
    """The first `count` samples of a seed whose heads are turned by at most 30 degrees."""
    jobs: list[Job] = []
    index = 0
    while len(jobs) < count:
        job = Job(seed, index, control)
        if abs(float(yaw_in_view(job_params(job)[0].pose, keyed_camera(seed, index)))) <= MAX_YAW:
            jobs.append(job)
        index += 1
    return jobs


def pictures(jobs: Sequence[Job], workers: int) -> Iterator[Judged]:
    """Rendered pictures in order, a few at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for first in range(0, len(jobs), 16 * workers):
            yield from pool.map(judge, jobs[first : first + 16 * workers], chunksize=4)


def add_tracking(report: Report, mesh: FaceMesh, count: int, workers: int) -> None:
    """How often exactly one face is found, and how far its points are from where they belong."""
    single, errors = 0, []
    for picture in pictures(frontal_jobs(FOUND_SEED, count), workers):
        faces = mesh.find(picture.image)
        single += len(faces) == 1
        if len(faces) == 1:
            gap = np.linalg.norm(faces[0][:, :2] - picture.points, axis=1)
            errors.append(100 * gap / eye_distance(picture.points))
    report.add("one_face_percent", 100 * single / count, bar=">= 98", note=f"{count} pictures, {RESOLUTION} x {RESOLUTION}, yaw <= 30°")
    table = np.array(errors).reshape(-1, 478)
    median = float(np.median(table)) if len(table) else float("nan")
    report.add("landmarks_error_percent", median, bar="<= 4", note="median, of the distance between outer eye corners")
    for name, numbers in regions().items():
        report.add(f"landmarks_error_{name}_percent", float(np.median(table[:, numbers])) if len(table) else float("nan"))


def add_controls(report: Report, mesh: FaceMesh, count: int, workers: int) -> None:
    """Rank correlation of each control with what the detector's points say; pictures without a face are left out."""
    from scipy.stats import spearmanr

    for control, bar in BARS.items():
        pairs = []
        for picture in pictures(frontal_jobs(CONTROL_SEED, count, control), workers):
            faces = mesh.find(picture.image)
            if faces:
                pairs.append((picture.value, READERS[control](faces[0])))
        correlation = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        report.add(f"{control}_spearman", correlation, bar=f">= {bar}", note=f"{len(pairs)} of {count} pictures")


def _rate(first: int, count: int) -> tuple[float, float, float]:
    """Images per second of wall time and of processor time in one thread, and by how many MiB memory grew after the first eighth."""
    config = SyntheticConfig(count=first + count, resolution=128, seed=SPEED_SEED)
    render_chunk(config, first, first + count // 8)
    before, start, busy = _peak_memory(), time.perf_counter(), time.process_time()
    for index in range(first, first + count, 4):
        render_chunk(config, index, index + 4)
    return count / (time.perf_counter() - start), count / (time.process_time() - busy), _peak_memory() - before


def _peak_memory() -> float:
    """Of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def add_speed(report: Report, count: int, rounds: int) -> None:
    """Images per second of one process and of two at once, in turns."""
    load = os.getloadavg()[0]
    single, busy, double, growth = [], [], [], []
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_rate, (0, 0), (16, 16)))  # both processes are awake and have measured the head
        for _ in range(rounds):
            one = pool.submit(_rate, 0, count).result()
            both = list(pool.map(_rate, (0, count), (count, count)))
            single.append(one[0])
            busy.append(one[1])
            double.append(sum(rate for rate, _, _ in both))
            growth += [grown for _, _, grown in (one, *both)]
    note = f"128 x 128, written as PNGs; machine's load before: {load:.1f}"
    report.add("images_per_second", float(np.median(single)), bar=">= 20", note=note)
    report.add("images_per_processor_second", float(np.median(busy)), note="the same, without the time in which others had the processor")
    report.add("two_processes_ratio", float(np.median(double) / np.median(single)), bar=">= 1.7")
    report.add("memory_growth_mib", max(growth), bar="about 0", note=f"over {count} pictures in one process")


def add_determinism(report: Report, count: int) -> None:
    """Whether one, two and three workers give the same bytes."""
    config = SyntheticConfig(count=count, resolution=64, seed=SPEED_SEED)
    digests = set()
    for workers in (1, 2, 3):
        digest = hashlib.sha256()
        for portrait in render_all(config, workers):
            for name in sorted(portrait.files):
                digest.update(portrait.files[name])
        digests.add(digest.hexdigest())
    report.add("same_bytes", float(len(digests) == 1), bar="1", note=f"{count} pictures on 1, 2 and 3 workers")


def fit(count: int, workers: int) -> None:
    """Measure where the detector's points lie on neutral faces and store it."""
    jobs = frontal_jobs(FIT_SEED, count, "neutral")
    kept, found = [], []
    with open_face_mesh() as mesh:
        for job, picture in zip(jobs, pictures(jobs, workers), strict=True):
            faces = mesh.find(picture.image)
            if len(faces) == 1:
                kept.append(job)
                found.append(faces[0])
    every = [job_params(job)[0] for job in kept]
    params = HeadParams(**{field.name: torch.cat([getattr(one, field.name) for one in every]) for field in fields(HeadParams)})
    cameras = Camera.from_label(torch.cat([keyed_camera(job.seed, job.index).to_label() for job in kept]))
    places = fit_places(_head(), params, cameras, np.array(found), RESOLUTION)
    save_places(places, _head(), POINTS_FILE, {"pictures": len(kept), "seed": FIT_SEED})
    print(f"{POINTS_FILE}: 478 places measured on {len(kept)} of {count} neutral faces")


def main() -> None:
    """Render, detect, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few pictures of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--fit", action="store_true", help="measure and store the places of the 478 points, nothing else")
    parser.add_argument("--workers", type=int, default=physical_cores(), help="processes that render")
    options = parser.parse_args()
    if options.fit:
        fit(FIT_COUNT, options.workers)
        return
    report = Report("portraits")
    add_speed(report, 16 if options.quick else 128, 1 if options.quick else 3)
    add_determinism(report, 8 if options.quick else 48)
    with open_face_mesh() as mesh:
        add_tracking(report, mesh, 24 if options.quick else 500, options.workers)
        add_controls(report, mesh, 12 if options.quick else 150, options.workers)
    report.finish(options.json)


if __name__ == "__main__":
    main()
