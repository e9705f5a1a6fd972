"""Measured numbers with their bars, before and after training, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def by_name(figures: Sequence[Measured]) -> dict[str, float]:
    """All numbers by name, the untrained generator's as `untrained_…`: what JSON files hold."""
    numbers = {figure.name: figure.value for figure in figures}
    return numbers | {f"untrained_{figure.name}": figure.untrained for figure in figures if figure.untrained is not None}
