"""Small line charts side by side, as an SVG file: what changes while something is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS, GAP = 230, 120, 4, 22
LEFT, BOTTOM, TOP = 40, 24, 22
"""Space around the lines of a panel, for numbers and the title."""


@dataclass(frozen=True)
class Curve:
    """One panel."""

    title: str
    points: Sequence[tuple[float, float]]
    """(x, y), sorted by x."""
    wanted: float | None = None
    """A dashed line at what is aimed at."""
    least: float | None = None
    """A dotted line at what is the least."""


def curves_svg(curves: Sequence[Curve], x_title: str) -> str:
    """All panels in rows of four; lines and letters are readable on light and dark pages."""
    rows = -(-len(curves) // COLUMNS)
    width, height = COLUMNS * (PANEL_WIDTH + GAP) + GAP, rows * (PANEL_HEIGHT + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, curve in enumerate(curves):
        x, y = GAP + number % COLUMNS * (PANEL_WIDTH + GAP), GAP + number // COLUMNS * (PANEL_HEIGHT + GAP)
        parts.append(f'<g transform="translate({x} {y})">{_panel(curve, x_title)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(curve: Curve, x_title: str) -> str:
    levels = [level for level in (curve.wanted, curve.least) if level is not None]
    low_x, high_x = _reach([x for x, _ in curve.points])
    low_y, high_y = _reach([*(y for _, y in curve.points), *levels])
    right, bottom = PANEL_WIDTH, PANEL_HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (x - low_x) / (high_x - low_x) * (right - LEFT), bottom - (y - low_y) / (high_y - low_y) * (bottom - TOP)

    parts = [
        f'<text x="{LEFT}" y="12" font-weight="bold" fill="#222222">{escape(curve.title)}</text>',
        f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#999999"/>',
        _text(LEFT - 4, TOP + 6, f"{high_y:.3g}", "end"),
        _text(LEFT - 4, bottom, f"{low_y:.3g}", "end"),
        _text(LEFT, bottom + 12, f"{low_x:g}", "middle"),
        _text(right, bottom + 12, f"{high_x:g} {x_title}", "end"),
    ]
    for level, dash in ((curve.wanted, "5 3"), (curve.least, "1 3")):
        if level is not None:
            height = place(low_x, level)[1]
            parts.append(f'<path d="M{LEFT} {height:.1f}H{right}" stroke="#1a7f37" stroke-dasharray="{dash}"/>')
    line = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in curve.points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0550ae" stroke-width="1.6"/>')
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="#555555">{escape(text)}</text>'


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest, never equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)
