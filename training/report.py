"""What a run says about itself: running means, a line per tick, `stats.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


class Statistics:
    """Means of named quantities between two ticks. Sums stay on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Count in a tensor of any shape."""
        total = values.detach().double().sum()
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] = self._counts.get(name, 0) + values.numel()

    def take(self) -> dict[str, float]:
        """Means since the last call, by name. Waits for the device."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        means = {name: total / self._counts[name] for name, total in zip(self._sums, sums, strict=True)}
        self._sums, self._counts = {}, {}
        return means


@dataclass
class Clock:
    """Time of the run and of the tick; what is spent on snapshots counts as maintenance, not as training."""

    goal: int
    """Images at which the run ends."""
    images: int
    """Images seen when the clock was started."""
    started: float = field(default_factory=time.perf_counter)
    _tick: float = field(default_factory=time.perf_counter)

    def tick(self, images: int) -> dict[str, float]:
        """Figures of the tick that ends now: seconds since the start, images/s, seconds per kimg, seconds left, memory."""
        now = time.perf_counter()
        seconds = max(now - self._tick, 1e-9)
        rate = max(images - self.images, 1) / seconds
        self.images = images
        figures = {
            "time/total_seconds": now - self.started,
            "time/images_per_second": rate,
            "time/seconds_per_kimg": 1000 / rate,
            "time/seconds_left": max(self.goal - images, 0) / rate,
            "memory/cpu_gib": _peak_memory() / 2**30,
        }
        if torch.cuda.is_available():
            figures["memory/gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return figures

    def resume(self) -> None:
        """The next tick begins now."""
        self._tick = time.perf_counter()


def _peak_memory() -> int:
    """Most bytes of memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def format_time(seconds: float) -> str:
    """`1h 02m`, `2m 05s` or `7s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def progress_line(images: int, figures: dict[str, float]) -> str:
    """One line of text for a tick; `figures` as `Clock.tick` and `Statistics.take` give them."""
    parts = [
        f"kimg {images / 1000:<8.1f}",
        f"time {format_time(figures['time/total_seconds']):<8}",
        f"{figures['time/images_per_second']:.1f} images/s",
        f"{figures['time/seconds_per_kimg']:.1f} s/kimg",
        f"left {format_time(figures['time/seconds_left']):<8}",
        f"memory {figures['memory/cpu_gib']:.1f} GiB",
    ]
    if "memory/gpu_gib" in figures:
        parts.append(f"gpu {figures['memory/gpu_gib']:.1f} GiB")
    losses = {"G": "loss/generator", "real": "loss/real", "fake": "loss/fake", "r1": "loss/r1_penalty"}
    parts.append("loss " + " ".join(f"{short} {figures[name]:.3f}" for short, name in losses.items() if name in figures))
    return "  ".join(parts)


class Journal:
    """`stats.jsonl` and TensorBoard files of one run folder."""

    def __init__(self, folder: Path) -> None:
        self._stats = (folder / "stats.jsonl").open("a", encoding="utf-8")
        self._board = _open_board(folder)

    def write(self, images: int, figures: dict[str, float]) -> None:
        """One line, on the disk at once so that a crash loses nothing."""
        self._stats.write(json.dumps({"images": images, "kimg": images / 1000, "timestamp": time.time(), **figures}) + "\n")
        self._stats.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, images)
            self._board.flush()

    def close(self) -> None:
        """Close all files."""
        self._stats.close()
        if self._board is not None:
            self._board.close()


def _open_board(folder: Path) -> Any:
    """A TensorBoard writer, or None with a message where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.warning("TensorBoard files are not written: the package tensorboard is missing ('pip install tensorboard').")
        return None
    return SummaryWriter(str(folder))
