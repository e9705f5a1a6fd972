"""Pictures of the default head: small ones of everything, and the numbers in its page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.head_sheets import LABEL, expression_sheet, identity_sheet, shape_sheet, tiled
from next3d.head.limits import JOINT_LIMITS
from next3d.head.model import Joint, LinearHeadModel
from next3d.head.procedural import procedural_head

PAGE = Path(__file__).parents[2] / "docs" / "head.md"


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    return procedural_head()


@torch.no_grad()
def test_sheets_have_a_place_for_every_direction(head: LinearHeadModel) -> None:
    shapes, expressions = len(head.shape_names), len(head.expression_names)
    assert shape_sheet(head, size=8, columns=10).size == (160, -(-shapes // 10) * (8 + LABEL))
    assert expression_sheet(head, size=8, columns=10).size == (80, -(-expressions // 10) * (8 + LABEL))


@torch.no_grad()
def test_pictures_differ_and_repeat(head: LinearHeadModel) -> None:
    first, second = (identity_sheet(head, size=24, columns=2, count=2) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.crop((0, 0, 24, 24)).tobytes() != first.crop((24, 0, 48, 24)).tobytes()
    assert tiled([first, second, first], [], 2).size == (96, 48)


def test_the_page_has_the_right_numbers(head: LinearHeadModel) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"{len(head.template):,}, {len(head.topology.faces):,}" in text
    assert f"vertices [1, {len(head.template)}, 3]" in text
    assert f"{len(head.shape_names)} directions" in text
    assert all(name in text for name in head.shape_names)
    assert f"0 … {JOINT_LIMITS[Joint.JAW][0][1]}" in text
    assert f"±{JOINT_LIMITS[Joint.LEFT_EYE][1][1]}" in text
    for picture in ("turntable", "expressions", "shapes", "identities"):
        assert f"images/head-{picture}.jpg" in text
        assert (PAGE.parent / "images" / f"head-{picture}.jpg").is_file()
