"""Worker processes that may die: a decoder that crashes, or a process that the system kills, costs only what it was doing."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from dnnlib.errors import UserError, WriteError
from next3d.tracking.units import Unit, Workplace, do_unit

Done = tuple[Unit, str]
"""A portion, and what went wrong with it: "" where its file is there."""
Engine = Callable[[Sequence[Unit], Workplace, int], Iterator[Done]]
"""Does portions with so many workers: `run_local` or another."""
_STOPS = (WriteError,)
"""No room on the disk is not the fault of a photo: the job ends."""


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    unit: Unit | None = None


def run_local(units: Sequence[Unit], place: Workplace, workers: int) -> Iterator[Done]:
    """Do portions in processes of one thread each; yields each as it ends.

    Args:
        units: in the order in which they are begun.
        place: where results go.
        workers: processes.

    Raises:
        WriteError: there is no room for results.
    """
    waiting = list(reversed(units))
    crew: list[_Worker] = []
    try:
        while waiting or any(worker.unit for worker in crew):
            while waiting and len(crew) < workers:
                crew.append(_start(place, len(crew)))
            for worker in crew:
                if worker.unit is None and waiting:
                    _hand_over(worker, waiting.pop())
            ready = wait([worker.line for worker in crew if worker.unit] + [worker.process.sentinel for worker in crew if worker.unit])
            for worker in [one for one in crew if one.unit and (one.line in ready or one.process.sentinel in ready)]:
                unit, problem = worker.unit, _answer(worker)
                worker.unit = None
                if not worker.process.is_alive():
                    crew.remove(worker)
                if unit is not None:
                    yield unit, problem
    finally:
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.process.join()


def _start(place: Workplace, number: int) -> _Worker:
    """A process that waits for work; it ends when we do, however that happens."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, place, number), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _hand_over(worker: _Worker, unit: Unit) -> None:
    worker.unit = unit
    with suppress(BrokenPipeError):  # it has died; waiting for its answer will say so
        worker.line.send(unit)


def _answer(worker: _Worker) -> str:
    """What a worker says of its portion, or what is to be said of a worker that has died."""
    try:
        if worker.line.poll():
            problem = worker.line.recv()
            if isinstance(problem, _STOPS):
                raise problem
            return str(problem)
    except (EOFError, OSError):
        pass
    worker.process.join()
    code = worker.process.exitcode or 0
    ending = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process that worked on it died ({ending})"


def _work(line: Connection, place: Workplace, number: int) -> None:
    """The life of a worker: portions in, words out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends its workers
    _quiet(place.folder / f"worker-{number}.log")
    answer = attempt(place)
    while True:
        try:
            unit = line.recv()
        except EOFError:
            return
        line.send(answer(unit))


def attempt(place: Workplace) -> Callable[[Unit], str | WriteError]:
    """A function that does a portion and says what went wrong: nothing, a sentence, or that there is no room."""

    def answer(unit: Unit) -> str | WriteError:
        try:
            do_unit(unit, place)
        except WriteError as error:
            return error
        except UserError as error:
            return str(error)
        except Exception as error:  # a photo that we stumble over must not cost the others their turn
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ""

    return answer


def _quiet(log: Path) -> None:
    """What libraries print, and the last words of a process that crashes, go into a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, sys.stderr.fileno() if sys.stderr is not None else 2)
    os.close(descriptor)
    faulthandler.enable()
