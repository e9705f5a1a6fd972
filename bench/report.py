"""What every benchmark prints and writes: figures with their bars, the machine and the versions they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dnnlib.files import atomic_write


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    """snake_case, with its unit at the end: `rasterize_64_ms`."""
    value: float
    bar: str = ""
    """What it should be, as read aloud: "< 1.5"; empty where there is no aim."""
    note: str = ""
    """Shapes and other conditions."""
    shown: bool = True
    """False leaves it to the JSON file: the benchmark prints it in a table of its own."""


@dataclass
class Report:
    """The figures of one benchmark run."""

    bench: str
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: float, *, bar: str = "", note: str = "", shown: bool = True) -> None:
        """Append a figure."""
        self.figures.append(Figure(name, float(value), bar, note, shown))

    def table(self) -> str:
        """The figures that are shown, then machine and versions, as text."""
        rows = [("figure", "value", "bar", "conditions")]
        rows += [(f.name, f"{f.value:.4g}", f.bar, f.note) for f in self.figures if f.shown]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "-" * max(len(line) for line in lines))
        footer = [f"{key}: {value}" for key, value in [*machine().items(), *versions().items()]]
        return "\n".join([f"bench.{self.bench}", *lines, "", ", ".join(footer)])

    def finish(self, json_path: Path | None = None) -> None:
        """Print the table and, where a path is given, write `{"bench", "machine", "versions", "figures"}` to it."""
        print(self.table())
        if json_path is not None:
            content = {
                "bench": self.bench,
                "machine": machine(),
                "versions": versions(),
                "figures": {figure.name: figure.value for figure in self.figures},
            }
            with atomic_write(json_path) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, str]:
    """Processor, cores, threads that torch uses, and GPU if there is one."""
    described = {"cpu": _processor(), "cores": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
    return described


def versions() -> dict[str, str]:
    """Python, torch and the commit; a plus sign after the commit means that files were changed since."""
    return {"python": platform.python_version(), "torch": torch.__version__, "commit": _commit()}


def measure(functions: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1) -> dict[str, float]:
    """Median seconds per call of each function; they take turns, so that a busy machine is unfair to none."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            _synchronize()
            start = time.perf_counter()
            function()
            _synchronize()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
