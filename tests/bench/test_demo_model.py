"""The bench of the shipped network: bars, shares, and the curve of a run's networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import demo_model
from next3d.checkpoint import save_generator
from next3d.config import preset
from next3d.generator import Generator
from next3d.head import load_head
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from training.metrics.figures import Figure


def figure(name: str, value: float) -> Figure:
    return Figure(name, value, 10, 0)


def test_bars_know_which_way_is_better():
    aims = {aim.figure: aim for aim in demo_model.BARS}
    assert [aims["jaw_spearman"].met(value) for value in (0.95, 0.85)] == [True, False]
    assert [aims["depth_error"].met(value) for value in (2.5, 3.5)] == [True, False]
    assert all(aim.least is None or aim.smaller == (aim.least > aim.wanted) for aim in aims.values()), "the rung is the easier one"


def test_the_finest_level_is_the_largest_number():
    trained = {name: figure(name, value) for name, value in {"swd_mean": 10.0, "swd_128": 20.0, "swd_64": 1.0, "swd_16": 3.0}.items()}
    untrained = {name: figure(name, 100.0) for name in trained}
    assert demo_model.shares(trained, untrained) == {"swd_mean_share": 0.1, "swd_finest_share": 0.2}


def test_a_curve_has_every_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Networks that were measured before are kept as they are; a folder without any is an error with exit code 2."""
    monkeypatch.setattr(demo_model, "avatar", lambda context, network: {})  # tested on its own, and slow
    head = load_head("procedural")
    data, run, out = tmp_path / "data.zip", tmp_path / "run", tmp_path / "curve"
    write_dataset(SyntheticConfig(count=demo_model.QUICK_COUNT, resolution=32, seed=3), data, workers=1)
    run.mkdir()
    command = ["--data", str(data), "--curve", str(run), "--out", str(out), "--quick", "--network", str(tmp_path / "one.safetensors")]
    generator = Generator(replace(preset("tiny").generator, head=head.identifier), head.topology)
    save_generator(tmp_path / "one.safetensors", generator)
    empty = CliRunner().invoke(demo_model.main, command)
    assert (empty.exit_code, "no network-NNNNNN.safetensors" in empty.output) == (2, True)
    save_generator(run / "network-000010.safetensors", generator)
    out.with_suffix(".jsonl").write_text(json.dumps({"kimg": 5, "swd_mean_share": 0.5}) + "\n")
    result = CliRunner().invoke(demo_model.main, command)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert [row["kimg"] for row in rows] == [5, 10]
    assert rows[0] == {"kimg": 5, "swd_mean_share": 0.5}
    assert rows[1]["swd_mean_share"] > 0
    assert "swd_mean_share" in out.with_suffix(".svg").read_text()
