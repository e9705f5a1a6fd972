"""A training step waits for its device nowhere, but for the references that must; and the watch would see it if it did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench.host_waits import HostWaits
from bench.train_step import STAYING, Workload, main, needless, references, waits
from tests.training.factory import write_published
from training.config import TrainConfig, default_config
from training.dataset import PortraitDataset, open_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published"), 16, 32)


@pytest.fixture(scope="module")
def dataset(folder: Path) -> PortraitDataset:
    return open_dataset(folder, 32)


def everything(share_fakes: bool) -> TrainConfig:
    """Each phase in every step, in two parts."""
    config = default_config("tiny", "data")
    return replace(
        config,
        run=replace(config.run, batch=8, batch_gpu=4),
        loss=replace(
            config.loss, share_fakes=share_fakes, r1_interval=1, density_interval=1, density_points=16, style_mixing=0.5, label_noise=0.1
        ),
        augment=replace(config.augment, kind="ada", interval=1),
    )


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_a_step_does_not_wait_for_its_device(dataset, share_fakes):
    work = Workload(everything(share_fakes), dataset, torch.device("cpu"))
    assert waits(work.step) == {}


def test_references_wait_only_where_they_must(dataset):
    work = Workload(everything(True), dataset, torch.device("cpu"))
    with references():
        found = waits(work.step)
    assert needless(found) == []
    assert {place for _, place in found} == set(STAYING), "the list of waits that stay holds others than there are"


def test_the_watch_sees_what_waits():
    x = torch.arange(4.0)
    with HostWaits() as watch:
        float(x.sum())
        x[x > 1]
        x.tolist()
        torch.equal(x, x)
    assert sorted(operator for operator, _ in watch.found) == ["_local_scalar_dense", "equal", "index by mask", "tolist"]
    assert needless(watch.found)
    assert "tolist" not in vars(torch.Tensor), "the watch leaves tensors as they were"


def test_the_benchmark_prints_and_writes(folder, tmp_path):
    written = tmp_path / "figures.json"
    arguments = ["--preset", "tiny", "--data", str(folder), "--quick", "--json", str(written)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    figures = json.loads(written.read_text())["figures"]
    assert figures["step_ms"] > figures["shared_gradients_ms"] > 0
    assert figures["needless_waits"] == figures["compiled_waits"] == 0
    assert "reference only" in result.output
