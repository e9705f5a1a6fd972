"""Options of `next3d train` that change fields of its configuration, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dnnlib.params import EXISTING_PATH, Real

_Command = TypeVar("_Command", bound=Callable[..., Any])
POSITIVE = Real(min=0, min_open=True)
NOT_NEGATIVE = Real(min=0)
PROBABILITY = Real(0, 1)
AT_LEAST_1 = click.IntRange(min=1)
KINDS = click.Choice(["next3d", "released-next3d"])
NONE = "none"
AUTO = "auto"
CHANGES = "next3d.train.changes"
"""Where click's context keeps what the flags change."""


class Ticks(click.ParamType):
    """A number of ticks, or `none`."""

    name = "ticks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Text to a number; `none` stays."""
        if str(value).lower() == NONE:
            return NONE
        if not str(value).isdigit() or int(value) < 1:
            self.fail(f"{value!r} is neither a whole number of ticks nor none", param, ctx)
        return int(value)


class Names(click.ParamType):
    """Names separated by commas, or `none`."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """`a,b` to (a, b), `none` to ()."""
        return () if str(value).lower() == NONE else tuple(name.strip() for name in str(value).split(",") if name.strip())


class ResumePoint(click.ParamType):
    """A file or a folder that exists, or `auto`."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """`auto` stays, everything else must be there; whoever opens it looks at what it is."""
        return AUTO if str(value).lower() == AUTO else EXISTING_PATH.convert(value, param, ctx)


def option(name: str, **settings: Any) -> Callable[[_Command], _Command]:
    """An option with dashes that is also understood with underscores, as users of EG3D and Next3D type it."""
    spellings = {name, "--" + name[2:].replace("-", "_")}
    return click.option(*sorted(spellings), name[2:].replace("-", "_"), **settings)


def setting(name: str, *fields: str, **settings: Any) -> Callable[[_Command], _Command]:
    """An option that changes fields of `TrainConfig`, written as `loss.gamma`; without it the preset decides."""

    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            context.meta.setdefault(CHANGES, {}).update(dict.fromkeys(fields, None if value == NONE else value))

    return option(name, callback=remember, expose_value=False, **settings)
