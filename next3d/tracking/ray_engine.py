"""The portions of a tracking job as a Ray Data job, for many machines. Needs the extra `ray`, and a work folder that all of them see."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dnnlib.errors import ConfigError, WriteError
from next3d.tracking.pool import Done, Engine, attempt
from next3d.tracking.units import Unit, Workplace

LOST = "the process that worked on it died"


@contextmanager
def open_ray() -> Iterator[Engine]:
    """Ray for the length of a job: the cluster that RAY_ADDRESS names, else one that is started here.

    Raises:
        ConfigError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine: Ray is not installed; pip install 'next3d[ray]', or leave --engine at local.")
    ray: Any = importlib.import_module("ray")
    found = bool(ray.is_initialized())
    try:
        yield run_ray
    finally:
        if not found:
            ray.shutdown()


def run_ray(units: Sequence[Unit], place: Workplace, workers: int) -> Iterator[Done]:
    """An engine like that of `open_local`: tasks of Ray Data.

    Results are files in the work folder: a task that runs twice finds its own, and one whose worker dies leaves none.

    Args:
        units: one block of the data set each, so that a worker that dies takes no other down.
        place: on a file system that all machines share.
        workers: tasks at a time, of one CPU each.

    Raises:
        WriteError: there is no room for results.
    """
    if not units:
        return
    ray = _connected(workers)
    rows = [{"number": number} for number in range(len(units))]
    tasks = ray.data.from_items(rows, override_num_blocks=len(rows))
    # Without max_retries=0 Ray Data begins a portion that kills its worker again and again.
    tasks = tasks.map(_do_row, fn_args=(list(units), place), num_cpus=1, max_retries=0, concurrency=workers)
    told = set()
    for row in tasks.iter_rows():
        if row["full"]:
            raise WriteError(str(row["problem"]))
        told.add(int(row["number"]))
        yield units[int(row["number"])], str(row["problem"])
    for number, unit in enumerate(units):
        if number not in told:
            yield unit, "" if place.has(unit) else LOST


def _do_row(row: Mapping[str, Any], units: Sequence[Unit], place: Workplace) -> dict[str, Any]:
    """One portion, in a task."""
    problem = attempt(place)(units[int(row["number"])])
    return {"number": row["number"], "problem": str(problem), "full": isinstance(problem, WriteError)}


def _connected(workers: int) -> Any:
    """The module ray, ready; portions that fail do not end the job."""
    ray: Any = importlib.import_module("ray")
    importlib.import_module("ray.data")
    if not ray.is_initialized():
        here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # workers that die are our business
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    return ray
