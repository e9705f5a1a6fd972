"""Progress bars for people; a log file or a pipe gets none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """What the body of `progress_bar` gets."""

    def update(self, count: int = 1) -> object:
        """So much more is done."""


@contextmanager
def progress_bar(total: int, title: str, *, unit: str) -> Iterator[Progress]:
    """A bar on stderr with speed and time left, if stderr is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, disable=None) as bar:
        yield bar
