"""Text from the command line becomes values, or a message that says how to write it."""

from __future__ import annotations

import math
from pathlib import Path

import click
import pytest

from dnnlib.params import DEGREES, GRID, OUTPUT_DIR, SEEDS, OutputFile, Real


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("7", [7]), ("0-3,7", [0, 1, 2, 3, 7]), ("5-5", [5]), (" 1 , 2-3 ", [1, 2, 3]), ("3,3", [3, 3])],
    ids=["one", "range and one", "range of one", "spaces", "repeated"],
)
def test_seeds(text: str, seeds: list[int]):
    assert SEEDS.convert(text, None, None) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-0", "-1", "1,,2", "1-", "0.5", "4294967296"])
def test_bad_seeds_are_refused(text: str):
    with pytest.raises(click.BadParameter):
        SEEDS.convert(text, None, None)


def test_grid_is_columns_by_rows():
    assert GRID.convert("4x2", None, None) == (4, 2)
    assert GRID.convert("1X1", None, None) == (1, 1)


@pytest.mark.parametrize("text", ["", "2", "0x2", "2x", "2x2x2", "-1x2", "axb"])
def test_bad_grids_are_refused(text: str):
    with pytest.raises(click.BadParameter, match="2x2"):
        GRID.convert(text, None, None)


def test_degrees_become_radians():
    assert DEGREES.convert("-90, 0,180", None, None) == pytest.approx((-math.pi / 2, 0, math.pi))
    for text in ("", "x", "nan", "1,inf"):
        with pytest.raises(click.BadParameter):
            DEGREES.convert(text, None, None)


def test_output_paths_below_a_file_are_refused_and_nothing_is_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for kind, name in ((OUTPUT_DIR, "out"), (OutputFile(".mp4"), "out.mp4")):
        with pytest.raises(click.BadParameter, match="not a folder"):
            kind.convert(str(tmp_path / "file" / name), None, None)
        assert kind.convert(str(tmp_path / "new" / name), None, None) == tmp_path / "new" / name
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_output_file_has_the_right_suffix_and_is_not_a_folder(tmp_path: Path):
    with pytest.raises(click.BadParameter, match=r"ends in \.mp4"):
        OutputFile(".mp4").convert(str(tmp_path / "a.avi"), None, None)
    with pytest.raises(click.BadParameter, match="is a folder"):
        OutputFile().convert(str(tmp_path), None, None)


def test_real_numbers_are_finite_and_in_range():
    assert Real(0, 2).convert("0.5", None, None) == 0.5
    for text in ("nan", "NaN", "inf", "-inf", "-0.1", "1e999", "a"):
        with pytest.raises(click.BadParameter):
            Real(min=0).convert(text, None, None)
