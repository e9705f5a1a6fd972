"""Renders a whole data set, with one thread per worker process, and streams it to its file in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from dnnlib.errors import UserError
from next3d.head import load_head
from next3d.head.model import HeadModel
from next3d.media.portrait_files import EncodedPortrait, PortraitWriter, open_sink
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import PORTRAIT_CAMERAS, CameraRange
from next3d.synthetic.writer import NOTES, encode

MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024
_CHUNK = 8
"""Samples per task: large enough that passing results between processes costs nothing."""


class Recipe(Protocol):
    """What a data set is made of; equal recipes give equal bytes."""

    @property
    def count(self) -> int:
        """Number of images."""

    @property
    def resolution(self) -> int:
        """Their height and width."""

    @property
    def head(self) -> str:
        """Name of the head model."""

    def make(self, head: HeadModel, index: int) -> EncodedPortrait:
        """Render one sample, whoever renders the others."""

    def notes(self) -> Mapping[str, object]:
        """Entries for the data set's description."""


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What a synthetic data set is made of; equal configs give equal bytes."""

    count: int
    """Number of portraits."""
    resolution: int = 64
    """Height and width of every image."""
    seed: int = 0
    """Sample i depends on this and on i, not on how many there are or who renders it."""
    head: str = "procedural"
    """Name of the head model."""
    per_identity: int = 1
    """Consecutive images that show one person."""
    further_truth: bool = False
    """Also write normals and 478 landmarks."""
    cameras: CameraRange = PORTRAIT_CAMERAS
    """Where cameras stand; the same seed shows the same people doing the same, seen from elsewhere."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"number of portraits: {self.count}, expected at least 1.")
        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise UserError(f"resolution: {self.resolution}, expected {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels.")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed}, expected 0 or more.")
        if self.per_identity < 1:
            raise UserError(f"images per identity: {self.per_identity}, expected at least 1.")

    def make(self, head: HeadModel, index: int) -> EncodedPortrait:
        """One photo of person `index // per_identity`, in clothes, light and moment of its own."""
        identity = index // self.per_identity
        person = identity * self.per_identity
        portrait = render_sample(head, self.seed, index, self.resolution, person=person, further=self.further_truth, cameras=self.cameras)
        return encode(portrait, identity=identity)

    def notes(self) -> Mapping[str, object]:
        """Nothing that the tables do not say."""
        return {}


@lru_cache(maxsize=1)
def _head(name: str) -> HeadModel:
    """One instance per process: what is measured on it (`head_surface`) is kept with it."""
    return load_head(name)


def render_chunk(config: Recipe, first: int, last: int) -> list[EncodedPortrait]:
    """Samples first ... last - 1, rendered with one thread and compressed."""
    with single_thread():
        return [config.make(_head(config.head), index) for index in range(first, last)]


def _ignore_interrupts() -> None:
    """Ctrl-C is for the main process, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def single_thread() -> Iterator[None]:
    """Sums do not depend on the number of processors, and workers do not fight for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def render_all(config: Recipe, workers: int) -> Iterator[EncodedPortrait]:
    """All samples in order; at most a few chunks per worker are held at a time.

    Args:
        config: what to render.
        workers: processes; 1 renders in this one.
    """
    spans = [(first, min(first + _CHUNK, config.count)) for first in range(0, config.count, _CHUNK)]
    if workers == 1:
        for first, last in spans:
            yield from render_chunk(config, first, last)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupts) as pool:
        waiting: deque[Future[list[EncodedPortrait]]] = deque()
        try:
            for first, last in spans:
                waiting.append(pool.submit(render_chunk, config, first, last))
                if len(waiting) > 3 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def write_dataset(config: Recipe, target: Path, *, workers: int = 1, force: bool = False, progress: bool = False) -> None:
    """Render a data set into a zip or a folder, which appears when it is complete.

    Args:
        config: what to render.
        target: ends in `.zip` for a zip, anything else is a folder.
        workers: processes.
        force: replace an existing data set.
        progress: show a bar on stderr.

    Raises:
        UserError: the target exists, or cannot be written.
    """
    from tqdm import tqdm

    with open_sink(target, force=force) as sink:
        head = _head(config.head)
        writer = PortraitWriter(sink, config.resolution, head.identifier, head.fingerprint(), {**NOTES, **config.notes()})
        for portrait in tqdm(render_all(config, workers), total=config.count, unit="image", disable=not progress):
            writer.add(portrait)
        writer.finish()
