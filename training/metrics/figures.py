"""Measured numbers: figures with interval and floor, one line of JSON each; figures with bars, before and after training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One number that says how good a network is, and how far it can be believed."""

    name: str
    """snake_case; figures of one metric begin with its name."""
    value: float
    count: int
    """Images (people, commands …) that it is made of."""
    seed: int
    """Key of the random numbers behind it."""
    low: float | None = None
    """Lower end of its 95 % confidence interval; None where there is none. How it is made: docs/metrics.md."""
    high: float | None = None
    """Upper end."""
    floor: float | None = None
    """The value that real images get, or the held-out error of the regressor that reads the images: nothing better can be asked for."""
    unit: str = ""
    """Empty for plain numbers."""
    note: str = ""
    """What it is, and what to be careful about."""

    def to_json(self, about: Mapping[str, str] | None = None) -> str:
        """One line; numbers that are not finite become null, as JSON has none. `about` adds texts, such as the network's file."""
        fields = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in asdict(self).items()}
        return json.dumps({**fields, **(about or {})}, ensure_ascii=False)


def short(count: int) -> str:
    """A number of images in a figure's name: 50000 is 50k."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def figures_table(figures: Sequence[Figure]) -> str:
    """The figures as text: value, 95 % interval, floor, count, what it is."""
    rows = [("figure", "value", "95 %", "floor", "unit", "count", "what it is")]
    for figure in figures:
        interval = "" if figure.low is None or figure.high is None else f"{figure.low:.4g} … {figure.high:.4g}"
        floor = "" if figure.floor is None else f"{figure.floor:.4g}"
        rows.append((figure.name, f"{figure.value:.4g}", interval, floor, figure.unit, str(figure.count), figure.note))
    return _aligned(rows)


@dataclass(frozen=True)
class Measured:
    """One figure of a trained network."""

    name: str
    """snake_case."""
    value: float
    untrained: float | None = None
    """The same figure of the untrained generator, where it has one."""
    at_least: float | None = None
    """Lower bar."""
    at_most: float | None = None
    """Upper bar."""
    note: str = ""
    """What it is, and of how many."""

    @property
    def bar(self) -> str:
        """The bar as text; empty where there is none."""
        lower = "" if self.at_least is None else f">= {self.at_least:.3g}"
        upper = "" if self.at_most is None else f"<= {self.at_most:.3g}"
        return " and ".join(part for part in (lower, upper) if part)

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none. A figure that is not a number meets nothing."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)


def figure_table(figures: Sequence[Measured]) -> str:
    """The figures as text: trained, untrained, bar, whether it is met, what it is."""
    verdict = {None: "", True: "met", False: "MISSED"}
    rows = [("figure", "trained", "untrained", "bar", "", "what it is")]
    for figure in figures:
        before = "" if figure.untrained is None else f"{figure.untrained:.3g}"
        rows.append((figure.name, f"{figure.value:.3g}", before, figure.bar, verdict[figure.met], figure.note))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns; the first row is the heading, with a line below it."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def by_name(figures: Sequence[Measured]) -> dict[str, float]:
    """All numbers by name, the untrained generator's as `untrained_…`: what JSON files hold."""
    numbers = {figure.name: figure.value for figure in figures}
    return numbers | {f"untrained_{figure.name}": figure.untrained for figure in figures if figure.untrained is not None}
