"""The generator's benchmark covers every stage and prints and writes what it says."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from bench.generator import main


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "generator.json"
    result = CliRunner().invoke(main, ["--preset", "tiny", "--quick", "--batch", "2", "--json", str(path)], catch_exceptions=False)
    return result, json.loads(path.read_text())


def test_every_stage_has_time_flops_and_memory(outcome):
    result, written = outcome
    figures = written["figures"]
    stages = ["mapping", "identity", "rasterize", "animate", "render"]
    parts = ["identity_texture", "identity_static", "animate_mouth", "animate_blending"]
    parts += ["render_sampling", "render_decoder", "render_compositing", "render_superres"]
    for name in stages + parts:
        assert figures[f"{name}_ms"] > 0, name
        assert figures[f"{name}_peak_mib"] > 0, name
        assert f"{name}_gflop" in figures
        assert name.split("_")[-1] in result.output
    assert sum(figures[f"{name}_gflop"] for name in stages) == pytest.approx(figures["frame_gflop"], rel=0.01)
    assert figures["identity_texture_gflop"] + figures["identity_static_gflop"] <= figures["identity_gflop"]
    assert (written["bench"], set(written)) == ("generator", {"bench", "machine", "versions", "figures"})


def test_the_three_ways_to_make_a_frame_are_compared(outcome):
    result, written = outcome
    figures = written["figures"]
    for way in ("animate", "review"):
        ratio = figures["anew_frame_ms"] / figures[f"{way}_frame_ms"]
        assert figures[f"anew_to_{way}_ratio"] == pytest.approx(ratio)
        assert f"anew_to_{way}_ratio" in result.output


def test_unknown_presets_and_absent_devices_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for arguments in (["--preset", "none"], ["--device", "cuda"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert "Traceback" not in result.output
