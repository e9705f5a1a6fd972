"""What the commands that read whole data sets share: a bar, and a list of what is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

SHOWN = 20
"""Broken samples that are named."""


@contextmanager
def counted_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, if that is a terminal; what it yields takes the number done and their total."""
    from tqdm import tqdm

    with tqdm(desc=title, unit="image", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def say_broken(problems: Sequence[str], shown: int = SHOWN) -> None:
    """Name samples that cannot be read, on stderr."""
    for problem in problems[:shown]:
        click.echo(problem, err=True)
    if len(problems) > shown:
        click.echo(f"… and {len(problems) - shown} more; 'next3d data check --show {len(problems)}' prints them all.", err=True)
