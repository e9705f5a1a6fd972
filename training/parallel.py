"""The same work on many things, in several processes, with the results in order."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

import torch

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


def map_in_order(function: Callable[[_Thing], _Result], things: Iterable[_Thing], workers: int) -> Iterator[_Result]:
    """`function` of each thing, in order; a few results per worker are held at a time.

    Args:
        function: of a module, so that it can be sent to other processes.
        things: can be sent, too.
        workers: processes of one thread each; 1 works in this one.
    """
    if workers == 1:
        yield from map(function, things)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare) as pool:
        waiting: deque[Future[_Result]] = deque()
        try:
            for thing in things:
                waiting.append(pool.submit(function, thing))
                if len(waiting) > 3 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare() -> None:
    """Ctrl-C is for the main process, which then ends its workers; and they do not fight for processors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
