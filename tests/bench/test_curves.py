"""Charts: lines go where the numbers are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bench.curves import BOTTOM, LEFT, PANEL_HEIGHT, PANEL_WIDTH, TOP, Curve, curves_svg


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Points of every line, in its panel."""
    root = ElementTree.fromstring(svg)
    found = [element.attrib["points"] for element in root.iter() if element.tag.endswith("polyline")]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", text)] for text in found]


def test_a_line_spans_its_panel_and_larger_is_higher():
    (line,) = lines(curves_svg([Curve("swd", [(0, 5.0), (10, 1.0), (40, 3.0)])], "kimg"))
    assert line == [(LEFT, TOP), (LEFT + (PANEL_WIDTH - LEFT) / 4, PANEL_HEIGHT - BOTTOM), (PANEL_WIDTH, (TOP + PANEL_HEIGHT - BOTTOM) / 2)]


def test_levels_are_inside_even_where_no_point_is():
    svg = curves_svg([Curve("a < b & c", [(0, 1.0), (1, 2.0)], wanted=5.0, least=4.0)], "kimg")
    (line,) = lines(svg)
    assert min(y for _, y in line) > TOP, "room for the levels above"
    heights = [float(value) for value in re.findall(r"M40 ([\d.]+)H230", svg)]
    assert TOP == heights[0] < heights[1] < min(y for _, y in line)


def test_one_point_and_equal_points_are_drawn():
    for points in ([(3.0, 0.0)], [(0.0, 2.0), (5.0, 2.0)]):
        (line,) = lines(curves_svg([Curve("x", points)], "kimg"))
        assert len(line) == len(points)
