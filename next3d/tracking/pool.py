"""Worker processes that may die: a decoder that crashes, or a process that the system kills, costs only what it was doing."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from dnnlib.errors import UserError, WriteError
from next3d.tracking.units import Unit, Workplace, do_unit
from next3d.tracking.workers import start_worker

Done = tuple[Unit, str]
"""A portion, and what went wrong with it: "" where its file is there."""
Engine = Callable[[Sequence[Unit], Workplace, int], Iterator[Done]]
"""Does portions with so many workers, in any order; from `open_local` or `open_ray`."""


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    unit: Unit | None = None


@contextmanager
def open_local() -> Iterator[Engine]:
    """Processes of one thread each on this machine; they live until the block ends, or we do."""
    crew = _Crew()
    try:
        yield crew.run
    finally:
        crew.stop()


class _Crew:
    """The workers of a job."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []

    def run(self, units: Sequence[Unit], place: Workplace, workers: int) -> Iterator[Done]:
        """Do portions; yields each as it ends.

        Args:
            units: in the order in which they are begun.
            place: where results go.
            workers: processes that work at a time.

        Raises:
            WriteError: there is no room for results.
        """
        waiting = list(reversed(units))
        busy: list[_Worker] = []
        while waiting or busy:
            while waiting and len(busy) < workers:
                busy.append(self._hand_over(waiting.pop(), place))
            ready = wait([worker.line for worker in busy] + [worker.process.sentinel for worker in busy])
            for worker in [one for one in busy if one.line in ready or one.process.sentinel in ready]:
                unit, problem = worker.unit, _answer(worker)
                busy.remove(worker)
                worker.unit = None
                if isinstance(problem, WriteError):
                    raise problem
                if unit is not None:
                    yield unit, problem

    def stop(self) -> None:
        """End all of them, whatever they are doing: results are whole or absent."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()

    def _hand_over(self, unit: Unit, place: Workplace) -> _Worker:
        """Give a portion to a worker that is free, or to a new one."""
        self._workers = [worker for worker in self._workers if worker.process.is_alive()]
        worker = next((one for one in self._workers if one.unit is None), None)
        if worker is None:
            worker = _start(place.folder / f"worker-{len(self._workers)}.log")
            self._workers.append(worker)
        worker.unit = unit
        with suppress(BrokenPipeError):  # it has died; waiting for its answer will say so
            worker.line.send((unit, place))
        return worker


def _start(log: Path) -> _Worker:
    """A process that waits for work."""
    ours, theirs = multiprocessing.Pipe()
    process = start_worker(_work, theirs, log)
    theirs.close()
    return _Worker(process, ours)


def _answer(worker: _Worker) -> str | WriteError:
    """What a worker says of its portion, or what is to be said of a worker that has died."""
    with suppress(EOFError, OSError):
        if worker.line.poll():
            answer = worker.line.recv()
            return answer if isinstance(answer, WriteError) else str(answer)
    worker.process.join()
    code = worker.process.exitcode or 0
    ending = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the process that worked on it died ({ending})"


def _work(line: Connection, log: Path) -> None:
    """The life of a worker: portions in, words out, until nobody sends any more."""
    _quiet(log)
    with suppress(EOFError, BrokenPipeError):
        while True:
            unit, place = line.recv()
            line.send(attempt(place)(unit))


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
