"""Sheets have even margins, tiles where they belong, and labels that fit."""

from __future__ import annotations

import numpy as np
import pytest

from next3d.media.controls import EYE_CONTROLS, MOUTH_CONTROLS
from next3d.media.sheet import BACKGROUND, GAP, draw_sheet, label_width, split_row, stack_sheets
from next3d.media.showcase import GEOMETRY_LABELS, ShowcaseConfig


def tile(level: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def test_tiles_lie_row_by_row_with_even_margins():
    sheet = draw_sheet([[tile(50), tile(100)], [tile(150)]], 16)
    assert sheet.shape == (2 * (16 + GAP) + GAP, 2 * (16 + GAP) + GAP, 3)
    first, second = slice(GAP, GAP + 16), slice(2 * GAP + 16, 2 * GAP + 32)
    for rows, columns, level in ((first, first, 50), (first, second, 100), (second, first, 150)):
        assert (sheet[rows, columns] == level).all()
        sheet[rows, columns] = BACKGROUND
    assert (sheet == BACKGROUND).all()


def test_tiles_of_other_sizes_are_scaled():
    small, large = tile(90, 8), tile(90, 40)
    assert np.array_equal(draw_sheet([[small]], 16), draw_sheet([[large]], 16))
    with pytest.raises(ValueError, match="square"):
        draw_sheet([[tile(1)[:8]]], 16)
    with pytest.raises(ValueError, match="no tiles"):
        draw_sheet([[]], 16)


def test_labels_stand_above_their_columns_and_leave_the_tiles_alone():
    rows = [[tile(100, 64), tile(100, 64)]]
    plain, labelled = draw_sheet(rows, 64), draw_sheet(rows, 64, labels=("", "word"))
    added = labelled.shape[0] - plain.shape[0]
    assert added > 0
    assert np.array_equal(labelled[added + GAP :], plain[GAP:])
    above = (labelled[: added + GAP] != BACKGROUND).any(axis=(0, 2)).nonzero()[0]
    assert len(above) > 0
    assert above.min() > 2 * GAP + 64
    assert above.max() < 2 * GAP + 128


def test_all_labels_of_the_showcase_fit_their_columns():
    config = ShowcaseConfig(seeds=(0,))
    for controls in (EYE_CONTROLS, MOUTH_CONTROLS):
        assert all(label_width(control.label, config.tile) <= config.tile for control in controls)
    assert all(label_width(label, config.geometry_tile) <= config.geometry_tile for label in GEOMETRY_LABELS)


def test_sheets_stack_and_rows_split():
    wide, narrow = draw_sheet([[tile(1), tile(2)]], 16), draw_sheet([[tile(3)]], 16)
    stacked = stack_sheets([wide, narrow])
    assert stacked.shape == (wide.shape[0] + narrow.shape[0], wide.shape[1], 3)
    assert np.array_equal(stacked[: len(wide)], wide)
    assert np.array_equal(stacked[len(wide) :, : narrow.shape[1]], narrow)
    assert [int(part[0, 0, 0]) for part in split_row(np.concatenate([tile(1), tile(2), tile(3)], axis=1))] == [1, 2, 3]
