"""The scaling benchmark measures one process, two, and the loader. How fast they are is not the business of a test."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bench.scaling import main
from tests.training.factory import write_published


@pytest.mark.slow
def test_it_prints_and_writes_all_figures(tmp_path):
    data = write_published(tmp_path / "faces", 8, 32)
    written = tmp_path / "figures.json"
    arguments = ["--preset", "tiny", "--share", "4", "--data", str(data), "--quick", "--json", str(written)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    figures = json.loads(written.read_text())["figures"]
    ratio = figures["two_processes_images_per_second"] / figures["one_process_images_per_second"]
    assert abs(figures["speedup"] - ratio) < 1e-9
    assert figures["speedup_of_processor_time"] > 0
    assert figures["communication_fraction"] < 1
    assert {"loader_to_step_ratio", "memory_growth_one_mb", "memory_growth_two_mb"} <= set(figures)
    assert "speedup" in result.output
