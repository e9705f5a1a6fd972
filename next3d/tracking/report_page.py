"""The parts of a report's page: style, histograms as inline SVG, bars, pictures as data URIs. Everything is escaped here.

A page asks for nothing from elsewhere and says so to the browser, works without scripts, on a phone, and in light and dark.
"""

from __future__ import annotations

import base64
import html
import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from next3d.tracking.types import Pixels

STYLE = """
:root{color-scheme:light dark;--paper:#f7f7f5;--card:#fff;--ink:#1d1f21;--soft:#6a6f76;--line:#dcdcd7;
--kept:#3b6ea8;--left:#c9793b;--bad:#b3402f}
@media(prefers-color-scheme:dark){:root{--paper:#151719;--card:#1e2124;--ink:#e7e6e3;--soft:#9aa0a6;--line:#33373b;
--kept:#6ea3dc;--left:#d99a62;--bad:#e07a68}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.6rem;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:40px 0 10px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:22px 0 8px}p{margin:6px 0;max-width:72ch}.soft,figcaption,th{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:18px 0}
.tile,.chart,.faces figure{background:var(--card);border:1px solid var(--line);border-radius:8px;margin:0}
.tile{padding:10px 14px}.tile b{display:block;font-size:1.7rem;line-height:1.2;font-weight:600;font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:10px 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px}
.chart{padding:10px 12px}.chart svg{width:100%;height:auto;display:block}.chart b{font-weight:600}
.chart figcaption{font-size:.82rem;display:flex;justify-content:space-between;gap:8px;white-space:nowrap}
.faces{display:grid;grid-template-columns:repeat(auto-fill,minmax(126px,1fr));gap:10px}.faces figure{overflow:hidden}
.faces .two{grid-column:span 2}.faces .of2{aspect-ratio:2}
.faces img,.faces .none{display:block;width:100%;height:auto;object-fit:cover;background:var(--line)}.faces .none,.of1{aspect-ratio:1}
.faces figcaption{padding:5px 8px 7px;font-size:.74rem;line-height:1.35;overflow-wrap:anywhere}
.faces bdi{color:var(--ink);display:-webkit-box;-webkit-line-clamp:2;-webkit-box-orient:vertical;overflow:hidden}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line)}
th,td{padding:6px 12px;text-align:right;border-top:1px solid var(--line);white-space:nowrap;font-variant-numeric:tabular-nums}
thead th{border-top:0;font-weight:500;font-size:.82rem}
th:first-child,td:first-child,th.text,td.text{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:9rem}
.bar{display:block;height:9px;border-radius:2px;background:var(--left);min-width:2px}.bars{width:45%;min-width:90px}
details{margin:8px 0}summary{cursor:pointer;color:var(--soft)}
.names{columns:18rem;font-size:.8rem;padding:6px 0 0 1.2em;margin:0;overflow-wrap:anywhere}.warn{color:var(--bad)}
.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 4px 0 10px}
.key.kept{background:var(--kept)}.key.left{background:var(--left)}
@media print{body{background:#fff}.faces figure,.chart{break-inside:avoid}}
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LONGEST_NAME = 300


def page(title: str, body: Sequence[str]) -> str:
    """A whole HTML document around parts that are HTML already."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
    )
    return head + "\n".join(body) + "\n</main></body></html>\n"


def text(value: object) -> str:
    """Anything as text in HTML or in an attribute: escaped, on one line, no control characters; what UTF-8 cannot hold is in codes."""
    plain = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    plain = "".join(letter if unicodedata.category(letter) not in ("Cc", "Cs") else " " for letter in plain)
    return html.escape(plain if len(plain) <= _LONGEST_NAME else f"{plain[:200]} … {plain[-90:]}", quote=True)


def named(value: object) -> str:
    """A name that others gave: letters that run from right to left do not turn around what follows."""
    return f"<bdi>{text(value)}</bdi>"


def tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Large figures, each with what it counts."""
    return (
        '<div class="tiles">' + "".join(f'<div class="tile"><b>{text(value)}</b>{text(name)}</div>' for name, value in figures) + "</div>"
    )


def facts(lines: Sequence[tuple[str, str]]) -> str:
    """Names and values, one line each."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in lines) + "</dl>"


def picture(pixels: Pixels | None, side: int) -> str:
    """A picture as a small JPEG inside the page: a square, or two side by side where it is twice as wide; empty for None."""
    if pixels is None or pixels.size == 0:
        return '<div class="none"></div>'
    image = Image.fromarray(pixels)
    squares = 2 if image.width >= 1.9 * image.height else 1
    edge = min(image.width / squares, image.height)
    left, top = (image.width - squares * edge) / 2, (image.height - edge) / 2
    box = (left, top, left + squares * edge, top + edge)
    small = image.resize((squares * side, side), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    content = io.BytesIO()
    small.convert("RGB").save(content, format="JPEG", quality=80, optimize=True)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="" class="of{squares}" width="{squares * side}" height="{side}" src="data:image/jpeg;base64,{data}">'


def face(name: str, lines: Sequence[str], shown: str) -> str:
    """One picture with its name and lines below it; `shown` is HTML from `picture`."""
    wide = ' class="two"' if 'class="of2"' in shown else ""
    caption = named(name) + "<br>".join(text(line) for line in lines)
    return f'<figure{wide} title="{text(name)}">{shown}<figcaption>{caption}</figcaption></figure>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; the first column, and those of `text_columns`, are texts."""
    titles = "".join(f"<th{_class(index, text_columns)}>{text(title)}</th>" for index, title in enumerate(head))
    lines = ["<tr>" + "".join(f"<td{_class(index, text_columns)}>{cell}</td>" for index, cell in enumerate(row)) + "</tr>" for row in rows]
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _class(index: int, text_columns: Sequence[int]) -> str:
    return ' class="text"' if index in text_columns else ""


def bar(share: float) -> str:
    """A horizontal bar of a length in [0, 1]."""
    return f'<span class="bar" style="width:{100 * min(max(share, 0.0), 1.0):.1f}%"></span>'


@dataclass(frozen=True)
class Histogram:
    """What a histogram shows, and over which range; values beyond it count in the outermost bars."""

    title: str
    low: float
    high: float
    unit: str = ""
    bins: int = 30
    digits: int = 0
    """Of the numbers along the axis."""


_WIDTH, _HEIGHT, _FOOT = 260.0, 96.0, 16.0


def histogram(what: Histogram, kept: Sequence[float], left_out: Sequence[float]) -> str:
    """Bars of what was kept, and on top of them of what was left out; median and middle 90 % of what was kept below."""
    counts = [_count(what, values) for values in (kept, left_out)]
    highest = max(int((counts[0] + counts[1]).max()), 1)
    step = _WIDTH / what.bins
    bars = []
    for index, (first, second) in enumerate(zip(*counts, strict=True)):
        base = _HEIGHT
        for count, colour in ((first, "kept"), (second, "left")):
            height = _HEIGHT * count / highest
            base -= height
            if count:
                box = f'x="{index * step + 0.5:.1f}" y="{base:.1f}" width="{step - 1:.1f}" height="{height:.1f}"'
                bars.append(f'<rect {box} fill="var(--{colour})"/>')
    ticks = [_tick(what, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    svg = (
        f'<svg viewBox="0 -4 {_WIDTH:.0f} {_HEIGHT + _FOOT + 4:.0f}" role="img" aria-label="{text(what.title)}">{"".join(bars)}'
        f'<line x1="0" x2="{_WIDTH:.0f}" y1="{_HEIGHT}" y2="{_HEIGHT}" stroke="var(--soft)" stroke-width="1"/>{"".join(ticks)}</svg>'
    )
    return f'<figure class="chart"><figcaption><b>{text(what.title)}</b><span>{_summary(what, kept)}</span></figcaption>{svg}</figure>'


def _count(what: Histogram, values: Sequence[float]) -> np.ndarray:
    finite = np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64)
    return np.histogram(finite.clip(what.low, what.high), bins=what.bins, range=(what.low, what.high))[0]


def _tick(what: Histogram, share: float) -> str:
    value, x = what.low + share * (what.high - what.low), share * _WIDTH
    anchor = "start" if share == 0 else "end" if share == 1 else "middle"
    label = f"{value:.{what.digits}f}{what.unit}".replace("-", "−")
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_HEIGHT}" y2="{_HEIGHT + 3}" stroke="var(--soft)"/>'
        f'<text x="{x:.1f}" y="{_HEIGHT + 14}" font-size="10" fill="var(--soft)" text-anchor="{anchor}">{text(label)}</text>'
    )


def _summary(what: Histogram, kept: Sequence[float]) -> str:
    finite = [value for value in kept if math.isfinite(value)]
    if not finite:
        return "none"
    low, middle, high = (f"{value:.{what.digits}f}".replace("-", "−") for value in np.quantile(finite, (0.05, 0.5, 0.95)))
    return f"{low} … <b>{middle}</b> … {high}{text(what.unit)}"
