"""Are synthetic portraits real enough for a face tracker that never saw one? And how fast are they made?

    python -m bench.portraits [--quick] [--json FILE]

MediaPipe's face mesh judges pictures of 256 x 256 pixels in which the head is turned by at most 30 degrees. Response figures draw the
commanded control evenly over its range and everything else as data sets have it. Needs the extra `portraits` (MediaPipe).

    python -m bench.portraits --fit

measures anew, on neutral faces of another seed, where the detector's points lie on our head, and stores it for the ground truth. It also
prints the constants of the jaw's reading, measured on portraits of that seed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from bench.face_mesh import Array, FaceReader, Pixels, eye_distance, fit_places, jaw_distances, open_face_reader, regions, save_places
from bench.report import Report
from dnnlib.machine import physical_cores
from next3d.head import load_head
from next3d.head.dense import POINTS_FILE, dense_embedding
from next3d.head.model import HeadModel, HeadParams, Joint, yaw_in_view
from next3d.render.cameras import project
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.generate import SyntheticConfig, render_all, render_chunk
from next3d.synthetic.looks import sample_look
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import GAZE_RANGE, JAW_RANGE, keyed_camera, keyed_params, with_gaze
from next3d.types import Camera

RESOLUTION = 256
MAX_YAW = np.pi / 6
FIT_COUNT, JAW_FIT_COUNT = 60, 500
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
        for side in ("Left", "Right"):
            expression[:, head.expression_names.index(f"eyeBlink{side}")] = value
            expression[:, head.expression_names.index(f"eyeSquint{side}")] *= 1 - value  # as sample_expression has it
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


def open_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that render."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def pictures(jobs: Sequence[Job], pool: Executor) -> Iterator[Judged]:
    """Rendered pictures in order, a few at a time."""
    for first in range(0, len(jobs), 32):
        yield from pool.map(judge, jobs[first : first + 32], chunksize=4)


def add_tracking(report: Report, mesh: FaceReader, count: int, pool: Executor) -> None:
    """How often exactly one face is found, and how far its points are from where they belong."""
    single, errors = 0, []
    for picture in pictures(frontal_jobs(FOUND_SEED, count), pool):
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


def add_controls(report: Report, mesh: FaceReader, count: int, pool: Executor) -> None:
    """Rank correlation of each control with what the detector's points say; pictures without a face are left out."""
    from scipy.stats import spearmanr

    for control, bar in BARS.items():
        pairs = []
        for picture in pictures(frontal_jobs(CONTROL_SEED, count, control), pool):
            reading = mesh.read(picture.image, control)
            if reading is not None:
                pairs.append((picture.value, reading))
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


def add_speed(report: Report, pool: Executor, count: int, rounds: int) -> None:
    """Images per second of one process and of two at once that render the same images, in turns; `pool` has two processes."""
    load = os.getloadavg()[0]
    single, busy, ratios, growth = [], [], [], []
    list(pool.map(_rate, (0, 0), (16, 16)))  # both processes are awake and have measured the head
    for number in range(rounds):
        both = list(pool.map(_rate, (0, 0), (count, count))) if number % 2 else []
        one = pool.submit(_rate, 0, count).result()
        both = both or list(pool.map(_rate, (0, 0), (count, count)))
        single.append(one[0])
        busy.append(one[1])
        ratios.append(sum(rate for rate, _, _ in both) / one[0])
        growth += [grown for _, _, grown in (one, *both)]
    note = f"128 x 128, written as PNGs; machine's load before: {load:.1f}"
    report.add("images_per_second", float(np.median(single)), bar=">= 20", note=note)
    report.add("images_per_processor_second", float(np.median(busy)), note="the same, without the time in which others had the processor")
    spread = f"the same images in both; median of {rounds} rounds, {min(ratios):.2f} to {max(ratios):.2f}"
    report.add("two_processes_ratio", float(np.median(ratios)), bar=">= 1.7", note=spread)
    report.add("memory_growth_mib", max(growth), bar="about 0", note=f"over {count} pictures in one process")


EXTRAS = ("glasses", "hat", "earrings", "beard")


def varied_seed(count: int) -> tuple[int, dict[str, int]]:
    """A seed among whose first `count` samples everything occurs that people wear, and how often it does."""
    for seed in itertools.count(SPEED_SEED):
        worn = [sample_look(seed, index).extras for index in range(count)]
        found = {name: sum(bool(getattr(extras, name)) for extras in worn) for name in EXTRAS}
        if all(found.values()):
            return seed, found
    raise AssertionError("unreachable")


def add_determinism(report: Report, count: int, workers: Sequence[int]) -> None:
    """Whether several numbers of workers give the same bytes: pictures, tables, everything that people wear and cameras do."""
    seed, found = varied_seed(count)
    config = SyntheticConfig(count=count, resolution=128, seed=seed)
    digests = set()
    for number in workers:
        digest = hashlib.sha256()
        for portrait in render_all(config, number):
            for name in sorted(portrait.files):
                digest.update(portrait.files[name])
            for table in (portrait.head, portrait.landmarks, {"label": portrait.label}):
                for name in sorted(table):
                    digest.update(table[name].tobytes())
        digests.add(digest.hexdigest())
    worn, tried = ", ".join(f"{times} {name}" for name, times in found.items()), ", ".join(map(str, workers))
    report.add("same_bytes", float(len(digests) == 1), bar="1", note=f"{count} pictures of 128 x 128 ({worn}), workers: {tried}")


def fit(count: int, workers: int) -> None:
    """Measure where the detector's points lie on neutral faces and store it."""
    jobs = frontal_jobs(FIT_SEED, count, "neutral")
    kept, found = [], []
    with open_face_reader() as mesh, open_pool(workers) as pool:
        for job, picture in zip(jobs, pictures(jobs, pool), strict=True):
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


def fit_jaw(count: int, workers: int) -> None:
    """Measure how the distances between the detector's points follow the jaw, and print the constants of `read_jaw`."""
    rows, values = [], []
    with open_face_reader() as mesh, open_pool(workers) as pool:
        for picture in pictures(frontal_jobs(FIT_SEED, count, "jaw"), pool):
            plain, mirrored = mesh.follow(picture.image), mesh.follow(np.ascontiguousarray(picture.image[:, ::-1]))
            if plain is not None and mirrored is not None:
                rows.append((jaw_distances(plain) + jaw_distances(mirrored)) / 2)
                values.append(picture.value)
    system = np.column_stack([np.array(rows), np.ones(len(rows))])
    solution = np.linalg.lstsq(system, np.array(values), rcond=None)[0]
    print(f"read_jaw, {len(rows)} pictures: weights {np.round(solution[:-1], 2).tolist()}, rest {solution[-1]:.2f}")


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
        fit_jaw(JAW_FIT_COUNT, options.workers)
        return
    report, quick = Report("portraits"), options.quick
    with open_pool(2) as pair:
        add_speed(report, pair, 16 if quick else 128, 1 if quick else 7)
        add_determinism(report, 12 if quick else 48, (1, 2) if quick else (1, 2, 3))
        with open_face_reader() as mesh, nullcontext(pair) if options.workers == 2 else open_pool(options.workers) as pool:
            add_tracking(report, mesh, 16 if quick else 500, pool)
            add_controls(report, mesh, 10 if quick else 300, pool)
    report.finish(options.json)


if __name__ == "__main__":
    main()
