"""A bar is for a terminal; elsewhere nothing is printed and the work goes on."""

from __future__ import annotations

import pytest

from dnnlib.progress import progress_bar


def test_nothing_is_printed_where_nobody_looks(capsys: pytest.CaptureFixture[str]):
    with progress_bar(3, "work", unit="thing") as bar:
        for _ in range(3):
            bar.update()
    assert capsys.readouterr() == ("", "")
