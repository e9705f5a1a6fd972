"""Reads a whole data set and collects everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dnnlib.errors import DatasetError
from training.dataset import open_dataset


@dataclass
class CheckReport:
    """What was found."""

    path: Path
    count: int = 0
    """Items that were read."""
    resolution: int = 0
    vertices: int = 0
    """Vertices of a head mesh."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why images are not among the items, and how many."""
    problems: list[str] = field(default_factory=list)
    """One sentence each."""

    def summary(self) -> str:
        """One line."""
        left_out = "".join(f", {number} left out {reason}" for reason, number in self.left_out.items() if number)
        found = f"{self.count} images of {self.resolution}², heads of {self.vertices} vertices{left_out}"
        verdict = "no problems" if not self.problems else f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        return f"{self.path}: {found}; {verdict}."


def check_dataset(path: Path, *, uv_mask: Path | None = None, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read every label, image and head.

    Args:
        path: as `open_dataset` takes it.
        uv_mask: as `open_dataset` takes it.
        progress: called with the number of items read and their total.
    """
    report = CheckReport(path)
    try:
        dataset = open_dataset(path, uv_mask=uv_mask, complain=lambda error: report.problems.append(str(error)))
    except DatasetError as error:
        if str(error) not in report.problems:
            report.problems.append(str(error))
        return report
    report.resolution, report.left_out = dataset.stored_resolution, dataset.left_out
    report.vertices = len(dataset.topology.guide_colors)
    for index in range(len(dataset)):
        try:
            dataset[index]
            report.count += 1
        except DatasetError as error:
            if str(error) not in report.problems:  # opening may have met this file already
                report.problems.append(str(error))
        if progress is not None:
            progress(index + 1, len(dataset))
    return report
