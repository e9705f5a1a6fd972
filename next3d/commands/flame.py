"""The option `--flame`, for commands that may meet heads of the FLAME model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from dnnlib.params import EXISTING_PATH
from next3d.head import FLAME_VARIABLE

_Function = TypeVar("_Function", bound=Callable[..., object])


def flame_option(function: _Function) -> _Function:
    """Add `--flame`: `load_head("flame")` looks there while the command runs, in its worker processes, too."""
    return click.option(
        "--flame",
        type=EXISTING_PATH,
        expose_value=False,
        callback=_look_there,
        help=f"Folder or .pkl file of FLAME, where heads are FLAME's.  [default: {FLAME_VARIABLE}]",
    )(function)


def _look_there(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.with_resource(_environment(FLAME_VARIABLE, str(value.absolute())))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
