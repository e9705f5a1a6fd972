"""Metrics with every snapshot: the catalogue's figures, checked before the training, shared out over ranks, reals looked at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dnnlib.errors import ConfigError
from next3d.generator import Generator
from tests.processes import run_ranks
from tests.training.metrics.pictures import save_detector
from training.config import TrainConfig, default_config
from training.dataset import PortraitDataset, open_dataset
from training.loop import train
from training.watch import SnapshotMetrics


def config(own: Path, *names: str, detector: Path | None = None) -> TrainConfig:
    settings = default_config("tiny", str(own))
    path = None if detector is None else str(detector)
    return replace(settings, run=replace(settings.run, metrics=names, metrics_images=10, batch=4, detector_path=path))


def generator(dataset: PortraitDataset, seed: int) -> Generator:
    torch.manual_seed(seed)
    return Generator(default_config("tiny", "").model.generator, dataset.topology).eval().requires_grad_(False)


def test_nothing_is_asked_for(own):
    dataset = open_dataset(own)
    assert SnapshotMetrics(dataset, config(own)).measure(generator(dataset, 0)) == {}


def test_figures_of_one_network_after_the_other(own, tmp_path, monkeypatch):
    dataset = open_dataset(own)
    metrics = SnapshotMetrics(dataset, config(own, "swd", "kid", detector=save_detector(tmp_path / "weights.pth")))
    networks = [generator(dataset, seed) for seed in (0, 1)]
    first = metrics.measure(networks[0])
    monkeypatch.setattr(dataset, "read_sound", lambda rows: pytest.fail("reals were read again"))
    second, again = (metrics.measure(network) for network in reversed(networks))
    assert list(first) == ["metrics/swd_mean", "metrics/swd_32", "metrics/swd_16", "metrics/kid10"]
    assert again == first
    assert all(second[name] != value for name, value in first.items())


def test_what_is_missing_is_said_before_the_training(own, tmp_path, monkeypatch):
    monkeypatch.setenv("NEXT3D_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="--detector-path"):
        SnapshotMetrics(open_dataset(own), config(own, "swd", "fid"))


def measured(own: Path) -> dict[str, float]:
    dataset = open_dataset(own)
    return SnapshotMetrics(dataset, config(own, "swd")).measure(generator(dataset, 0))


def test_a_detector_that_is_none_leaves_no_run_behind(own, tmp_path):
    wrong = tmp_path / "weights.pth"
    wrong.write_text("hello\n", encoding="utf-8")
    settings = config(own, "kid", detector=wrong)
    with pytest.raises(ConfigError, match=r"weights\.pth"):
        train(settings, open_dataset(own), tmp_path / "runs", name="run", device=torch.device("cpu"))
    assert not (tmp_path / "runs").exists()


def test_ranks_measure_the_same_as_one_process(own):
    assert run_ranks(measured, 2, own) == [measured(own)] * 2
