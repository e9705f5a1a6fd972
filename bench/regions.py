"""Time, FLOPs and peak memory of named regions of a program, without a line of measuring code in the program itself.

A region is a function or method that is replaced by a measuring wrapper while the program runs; regions may nest and then include
what they call.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

Place = tuple[Any, str]
"""An object and the name of its function: (module, "function") or (network, "forward")."""
Program = Callable[[], object]
Wrapper = Callable[[str, Callable[..., Any]], Callable[..., Any]]

FLOPS_PER_TAP = 2
"""A multiplication and an addition."""


def synchronize() -> None:
    """Wait for the GPU, if there is one in use."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def wrapped(regions: Mapping[str, Place], wrap: Wrapper) -> Iterator[None]:
    """While inside, every region's function is `wrap(name, function)`."""
    with ExitStack() as stack:
        for name, (owner, attribute) in regions.items():
            stack.enter_context(patch.object(owner, attribute, wrap(name, getattr(owner, attribute))))
        yield


def region_times(program: Program, regions: Mapping[str, Place], *, repeats: int, warmup: int = 1) -> dict[str, float]:
    """Median seconds that one run of the program spends in each region; calls of the same region add up.

    The device is synchronised where a region begins and ends, so the regions' times are not those of an undisturbed run, in which a
    GPU works on while Python goes ahead.
    """
    runs: list[dict[str, float]] = []

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            synchronize()
            start = time.perf_counter()
            result = function(*args, **kwargs)
            synchronize()
            runs[-1][name] += time.perf_counter() - start
            return result

        return timed

    with wrapped(regions, wrap):
        for _ in range(warmup + repeats):
            runs.append(defaultdict(float))
            program()
    return {name: statistics.median(run[name] for run in runs[warmup:]) for name in regions}


def region_flops(program: Program, regions: Mapping[str, Place]) -> dict[str, int]:
    """FLOPs of one run in each region, a multiplication and an addition counted as two.

    Convolutions, matrix products, bilinear lookups and own ops with a registered formula count; element-wise work does not.
    """
    counts: dict[str, int] = defaultdict(int)
    formulas = {torch.ops.aten.grid_sampler_2d: _bilinear_flops}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:

        def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                before = counter.get_total_flops()
                result = function(*args, **kwargs)
                counts[name] += counter.get_total_flops() - before
                return result

            return counted

        with wrapped(regions, wrap):
            program()
    return {name: counts[name] for name in regions}


def _bilinear_flops(*shapes: Any, out_shape: Sequence[int], **kwargs: Any) -> int:
    """Four taps for every value that a bilinear lookup returns."""
    return math.prod(out_shape) * 4 * FLOPS_PER_TAP


def region_peaks(program: Program, regions: Mapping[str, Place]) -> dict[str, int]:
    """Most bytes that one run allocates in each region beyond what was in use at the region's beginning.

    On CUDA the caching allocator's own peak; on the CPU what torch's allocator reports to the profiler, temporaries inside operators
    included, memory that libraries get by themselves (oneDNN scratch pads) not. For a region that runs several times, the largest.
    """
    return _cuda_peaks(program, regions) if torch.cuda.is_available() and torch.cuda.is_initialized() else _cpu_peaks(program, regions)


def _cuda_peaks(program: Program, regions: Mapping[str, Place]) -> dict[str, int]:
    peaks: dict[str, int] = defaultdict(int)
    highest = [0]  # for each open region, the highest mark seen before the counter was last reset

    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            highest[-1] = max(highest[-1], torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            highest.append(0)
            result = function(*args, **kwargs)
            top = max(highest.pop(), torch.cuda.max_memory_allocated())
            highest[-1] = max(highest[-1], top)
            peaks[name] = max(peaks[name], top - before)
            return result

        return watched

    with wrapped(regions, wrap):
        program()
    return {name: peaks[name] for name in regions}


def _cpu_peaks(program: Program, regions: Mapping[str, Place]) -> dict[str, int]:
    def wrap(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*args: Any, **kwargs: Any) -> Any:
            with torch.profiler.record_function(f"region:{name}"):
                return function(*args, **kwargs)

        return marked

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler, wrapped(regions, wrap):
        program()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return _peaks_in_trace(events, list(regions))


def _peaks_in_trace(events: list[dict[str, Any]], names: list[str]) -> dict[str, int]:
    """Running sum of the trace's allocations, its maximum within each region less its value at the beginning."""
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]" and _on_cpu(event))
    spans = {name: [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == f"region:{name}" and "dur" in e] for name in names}
    peaks = dict.fromkeys(names, 0)
    for name, intervals in spans.items():
        for start, end in intervals:
            used = 0
            for when, size in changes:
                if start <= when <= end:
                    used += size
                    peaks[name] = max(peaks[name], used)
    return peaks


def _on_cpu(event: dict[str, Any]) -> bool:
    return event["args"].get("Device Type") == 0
