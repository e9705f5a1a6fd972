"""Types of command-line parameters that several commands share; each turns text into a value or says what was expected."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import click

from dnnlib.errors import UserError
from dnnlib.files import check_output_folder

MAX_SEED = 2**32 - 1
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def parse_numbers(text: str) -> list[int]:
    """`0-3,7` to [0, 1, 2, 3, 7]; ranges include both ends.

    Raises:
        ValueError: empty parts, negative numbers, ranges that run backwards, numbers above 2^32 - 1.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"'{text}' is not a list of numbers; write for example 0-3,7")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise ValueError(f"'{part.strip()}' runs backwards; write {last}-{first}")
        if last > MAX_SEED:
            raise ValueError(f"{last} is too large; seeds go from 0 to {MAX_SEED}")
        numbers.extend(range(first, last + 1))
    return numbers


def parse_grid(text: str) -> tuple[int, int]:
    """`4x2` to (4, 2): columns, rows.

    Raises:
        ValueError: not two positive numbers joined by an x.
    """
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not a grid; write columns x rows, for example 2x2")
    return int(match[1]), int(match[2])


def parse_degrees(text: str) -> tuple[float, ...]:
    """`-20,0,20` in degrees to radians.

    Raises:
        ValueError: not finite numbers separated by commas.
    """
    try:
        angles = tuple(math.radians(float(part)) for part in text.split(","))
    except ValueError:
        angles = (math.nan,)
    if not all(map(math.isfinite, angles)):
        raise ValueError(f"'{text}' is not a list of angles; write degrees, for example -20,0,20")
    return angles


class Real(click.FloatRange):
    """A finite number in a range: click's own type lets `nan` through every range, and `inf` through open ones."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Text to a number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class Seeds(click.ParamType):
    """A list of whole numbers such as `0-3,7`."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Text to numbers; a list that is already one passes through."""
        if isinstance(value, list):
            return value
        try:
            return parse_numbers(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Grid(click.ParamType):
    """Columns and rows such as `2x2`."""

    name = "grid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Text to (columns, rows); a pair that is already one passes through."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_grid(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Degrees(click.ParamType):
    """Angles such as `-20,0,20`; the value is in radians."""

    name = "degrees"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Text in degrees to radians; a tuple passes through."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_degrees(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class OutputDir(click.ParamType):
    """A folder that can be written to, or could be created; nothing is created before the command needs it."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Text to a path below which files can be written."""
        try:
            return check_output_folder(value)
        except UserError as error:
            self.fail(str(error), param, ctx)


class OutputFile(click.ParamType):
    """A file to be written; its folder is checked as `OutputDir` does, and the suffix against the ones allowed."""

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Text to the path of a file that can be written."""
        path = Path(value)
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            self.fail(f"{path}: expected a name that ends in {' or '.join(self.suffixes)}.", param, ctx)
        if path.is_dir():
            self.fail(f"{path}: is a folder, expected the name of a file.", param, ctx)
        try:
            check_output_folder(path.parent)
        except UserError as error:
            self.fail(str(error), param, ctx)
        return path


EXISTING_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, readable=True, path_type=Path)
EXISTING_PATH = click.Path(exists=True, readable=True, path_type=Path)
OUTPUT_DIR = OutputDir()
SEEDS = Seeds()
GRID = Grid()
DEGREES = Degrees()
