"""How worker processes begin: forked from a process that has imported everything already, where that is safe, else started anew.

Imports neither torch nor anything else that takes long, so that the imports of the workers go on beside those of the main process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

PRELOADED = ["mediapipe", "next3d.tracking.pool"]
"""Imported once, for all workers. None of them starts threads or opens a detector; that is for each worker to do."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Read when the libraries are loaded. Sums do not depend on the number of processors, and there are no threads to lose in a fork."""


def prepare_workers() -> None:
    """Begin with what all workers need, in a process of its own; returns at once. Without it the first worker does so."""
    if _forking():
        from multiprocessing.forkserver import ensure_running

        _context()
        with _beginning():
            ensure_running()


def start_worker(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that calls a function, with this one's environment, and ends with this process at the latest."""
    process: BaseProcess = _context().Process(target=_begin, args=(dict(os.environ), work, arguments), daemon=True)  # type: ignore[attr-defined]
    prepare_workers()
    with nullcontext() if _forking() else _beginning():  # forks wait for the imports, and Ctrl-C must not
        process.start()
    return process


def _forking() -> bool:
    """Whether workers are forked: on Linux, as libraries of other systems must not be."""
    return sys.platform == "linux" and "forkserver" in multiprocessing.get_all_start_methods()


def _context() -> BaseContext:
    context = multiprocessing.get_context("forkserver" if _forking() else "spawn")
    context.set_forkserver_preload(PRELOADED)
    return context


@contextmanager
def _beginning() -> Iterator[None]:
    """What begins here has one thread, and leaves Ctrl-C to this process, which then ends its workers."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    ours = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if ours else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(environment: dict[str, str], work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """In the worker: what all of them were forked from may be older than changes of the environment."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments)
