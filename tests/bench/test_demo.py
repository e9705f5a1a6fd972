"""The demo's benchmark, from files to table and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import training.layouts
import training.metrics.evaluate
from bench.demo import main
from tests.training.factory import small_head, write_own
from training.config import default_config
from training.state import new_state, save_network, save_state


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A run's network and state side by side, and a data set of 130 images."""
    for module in (training.layouts, training.metrics.evaluate):
        monkeypatch.setattr(module, "load_head", lambda name: small_head())
    data = write_own(tmp_path / "data.zip", 130, 32)
    config = default_config("tiny", str(data))
    state = new_state(config, small_head().topology, torch.device("cpu"))
    network = tmp_path / "network-000001.safetensors"
    save_network(network, state, config)
    save_state(network.with_suffix(".state"), state, config)
    return network, data


def test_quick_run_prints_all_bars_and_writes_all_figures(files, tmp_path):
    network, data = files
    path = tmp_path / "demo.json"
    arguments = ["--network", str(network), "--data", str(data), "--quick", "--json", str(path)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    figures = json.loads(path.read_text())["figures"]
    for name in ("swd_mean", "swd_mean_share", "swd_finest_share", "jaw_change", "jaw_ratio", "jaw_spearman", "mesh_preference"):
        assert name in figures
        (line,) = [line for line in result.output.splitlines() if line.split()[:1] == [name]]
        assert ("met" in line) or ("MISSED" in line)
    assert figures["swd_mean_share"] == pytest.approx(figures["swd_mean"] / figures["untrained_swd_mean"])
    assert {"swd_real_mean", "swd_noise_mean", "swd_blurred_mean", "untrained_jaw_change", "jaw_reader_error"} <= set(figures)


def test_bad_files_are_one_sentence(files):
    network, data = files
    network.write_bytes(b"not a network")
    result = CliRunner().invoke(main, ["--network", str(network), "--data", str(data)])
    assert result.exit_code == 2
    assert str(network) in result.output
    assert "Traceback" not in result.output
