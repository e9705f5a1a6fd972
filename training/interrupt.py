"""SIGINT and SIGTERM as a request: the step that runs is finished and saved before the process leaves.

Python's handlers belong to the main thread and run between two of its instructions. Before training begins there is nothing to finish,
so a signal ends the start-up at once; from then on it only sets a flag that the loop reads after each step. This module does not import
torch, which takes seconds: a command can listen before it does.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class Stopped(KeyboardInterrupt):
    """Somebody asked a run to stop, and it did as asked; what it says is what a person wants to read.

    A kind of KeyboardInterrupt, so that a program of which training is only a part ends as interrupted, unless it knows better.
    """


class StopRequest:
    """While it is entered, SIGINT and SIGTERM ask for a stop.

    During start-up the first one raises `Stopped`. After `begin()` it sets `asked`, and a second SIGINT raises KeyboardInterrupt at
    once, for those who cannot wait. A terminal sends Ctrl-C to a launcher and to the processes it started, and the launcher passes it on:
    `echo` seconds after the first, another SIGINT is the same one.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.asked = False
        self._begun = False
        self._echo = echo
        self._first = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def begin(self) -> None:
        """Start-up is over: from here on a signal waits for the end of a step."""
        self._begun = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._begun:
            self.asked = True
            raise Stopped("Stopped before the first step; nothing was lost.")
        if not self.asked:
            self.asked, self._first = True, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._first >= self._echo:
            raise KeyboardInterrupt
