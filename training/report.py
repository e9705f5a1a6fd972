"""What a run says about itself: running means, the clock, memory, and a line per tick. `training/journal.py` writes it down."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torch_utils.distributed import sum_over_ranks

AUGMENTATION = "augment/strength"
"""Name of the figure that says how strong augmentation is."""


class Statistics:
    """Means of named quantities between two ticks, over all processes. Sums stay on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Count in a tensor of any shape. Numbers that are not finite are left out: a step that had them was skipped and is told of
        elsewhere."""
        numbers = values.detach().double()
        finite = numbers.isfinite()
        total = torch.stack([numbers.where(finite, 0.0).sum(), finite.sum().double()])
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def take(self) -> dict[str, float]:
        """Means since the last call, by name. Every process calls this with the same names; waits for the device."""
        if not self._sums:
            return {}
        sums = sum_over_ranks(torch.stack(list(self._sums.values()))).tolist()
        means = {name: total / count for name, (total, count) in zip(self._sums, sums, strict=True) if count > 0}
        self._sums = {}
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
        }
        return figures | memory()

    def resume(self) -> None:
        """The next tick begins now."""
        self._tick = time.perf_counter()


def memory() -> dict[str, float]:
    """GiB that this process has now and had at most; on a GPU what tensors take, and what is reserved for them in all."""
    import psutil

    figures = {"memory/cpu_gib": psutil.Process().memory_info().rss / 2**30, "memory/cpu_peak_gib": _peak_memory() / 2**30}
    if torch.cuda.is_available():
        figures["memory/gpu_gib"] = torch.cuda.memory_allocated() / 2**30
        figures["memory/gpu_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        figures["memory/gpu_reserved_gib"] = torch.cuda.memory_reserved() / 2**30
    return figures


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
        f"kimg {images / 1000:<8.6g}",
        f"time {format_time(figures['time/total_seconds']):<8}",
        f"{figures['time/images_per_second']:.1f} images/s",
        f"{figures['time/seconds_per_kimg']:.1f} s/kimg",
        f"left {format_time(figures['time/seconds_left']):<8}",
        f"memory {figures['memory/cpu_gib']:.1f} GiB",
    ]
    if "memory/gpu_gib" in figures:
        parts.append(f"gpu {figures['memory/gpu_gib']:.1f}, peak {figures['memory/gpu_peak_gib']:.1f} GiB")
    losses = {"G": "loss/generator", "real": "loss/real", "fake": "loss/fake", "r1": "loss/r1_penalty"}
    parts.append("loss " + " ".join(f"{short} {figures[name]:.3f}" for short, name in losses.items() if name in figures))
    if AUGMENTATION in figures:
        parts.append(f"augment {figures[AUGMENTATION]:.3f}")
    return "  ".join(parts)
