"""Renders a whole data set, with one thread per worker process, and streams it to its file in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from dnnlib.errors import UserError
from next3d.head import load_head
from next3d.head.model import HeadModel
from next3d.synthetic.render import render_sample
from next3d.synthetic.writer import EncodedPortrait, PortraitWriter, encode, open_sink

MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024
_CHUNK = 8
"""Samples per task: large enough that passing results between processes costs nothing."""


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

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"number of portraits: {self.count}, expected at least 1.")
        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise UserError(f"resolution: {self.resolution}, expected {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels.")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed}, expected 0 or more.")


@lru_cache(maxsize=1)
def _head(name: str) -> HeadModel:
    """One instance per process: what is measured on it (`head_surface`) is kept with it."""
    return load_head(name)


def render_chunk(config: SyntheticConfig, first: int, last: int) -> list[EncodedPortrait]:
    """Samples first ... last - 1, rendered with one thread and compressed."""
    with _single_thread():
        return [encode(render_sample(_head(config.head), config.seed, index, config.resolution)) for index in range(first, last)]


def _ignore_interrupts() -> None:
    """Ctrl-C is for the main process, which then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _single_thread() -> Iterator[None]:
    """Sums do not depend on the number of processors, and workers do not fight for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def render_all(config: SyntheticConfig, workers: int) -> Iterator[EncodedPortrait]:
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


def write_dataset(config: SyntheticConfig, target: Path, *, workers: int = 1, force: bool = False, progress: bool = False) -> None:
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
        writer = PortraitWriter(sink, config.resolution, head.identifier, head.fingerprint())
        for portrait in tqdm(render_all(config, workers), total=config.count, unit="image", disable=not progress):
            writer.add(portrait)
        writer.finish()
