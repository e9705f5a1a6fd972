"""The evaluation reads the right images, knows its bars, and gives an untrained network no credit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.metrics.evaluate
from dnnlib.errors import CheckpointError, DatasetError
from next3d.config import preset
from next3d.generator import Generator
from tests.training.factory import small_head, write_own
from training.config import default_config
from training.dataset import PortraitDataset, open_dataset
from training.metrics.evaluate import EvaluationSettings, evaluate, read_reals
from training.metrics.figures import Measured, by_name, figure_table
from training.metrics.networks import load_discriminator, untrained_like
from training.metrics.swd import SwdSettings
from training.state import new_state, save_network, save_state

SETTINGS = EvaluationSettings(images=12, response=4, readings=8, fitting=24, swd=SwdSettings(patches_per_image=8, projections=16))


@pytest.fixture
def dataset(tmp_path: Path, knows_small_head: None, monkeypatch: pytest.MonkeyPatch) -> PortraitDataset:
    monkeypatch.setattr(training.metrics.evaluate, "load_head", lambda name: small_head())
    return open_dataset(write_own(tmp_path / "data", 40, 32))


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(preset("tiny").generator, small_head().topology).eval().requires_grad_(False)


def test_held_out_images_are_the_last_and_nothing_else_is_read_from_them(dataset):
    reals = read_reals(dataset, SETTINGS)
    assert reals.held_out.index.tolist() == list(range(28, 40))
    assert len(reals.fitting) == 24
    assert reals.fitting.index.max() < 28
    assert len(reals.fitting.index.unique()) == 24
    assert torch.equal(reals.others.index, reals.fitting.index[:12])


def test_equal_networks_have_equal_figures(dataset, generator):
    figures = {figure.name: figure for figure in evaluate(generator, generator, None, dataset, SETTINGS)}
    assert figures["swd_mean_share"].value == 1
    assert figures["swd_mean_share"].met is False
    for figure in figures.values():
        assert figure.untrained is None or figure.untrained == figure.value
    assert figures["swd_real_mean"].value < figures["swd_mean"].value
    assert figures["swd_mean"].at_most == min(figures["swd_noise_mean"].value, figures["swd_blurred_mean"].value)
    assert {name for name, figure in figures.items() if figure.bar} == {
        "swd_mean",
        "swd_mean_share",
        "swd_finest_share",
        "jaw_change",
        "jaw_ratio",
        "jaw_spearman",
    }


def test_small_data_sets_and_meshes_are_refused(dataset, published):
    with pytest.raises(DatasetError, match="40 images"):
        read_reals(dataset, replace(SETTINGS, images=21))
    with pytest.raises(DatasetError, match="head parameters"):
        read_reals(open_dataset(published), SETTINGS)


@pytest.mark.parametrize(
    ("figure", "bar", "met"),
    [
        (Measured("a", 1.0), "", None),
        (Measured("a", 5.0, at_least=5.0), ">= 5", True),
        (Measured("a", 4.9, at_least=5.0), ">= 5", False),
        (Measured("a", 0.45, at_most=0.45), "<= 0.45", True),
        (Measured("a", 0.46, at_most=0.45), "<= 0.45", False),
        (Measured("a", float("nan"), at_least=0.0), ">= 0", False),
        (Measured("a", 2.0, at_least=1.0, at_most=3.0), ">= 1 and <= 3", True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bars(figure, bar, met):
    assert (figure.bar, figure.met) == (bar, met)


def test_table_and_numbers():
    figures = [Measured("change", 0.12345, 0.5, at_least=0.05, note="what"), Measured("floor", 3.0)]
    lines = figure_table(figures).splitlines()
    assert lines[2].split() == ["change", "0.123", "0.5", ">=", "0.05", "met", "what"]
    assert by_name(figures) == {"change": 0.12345, "untrained_change": 0.5, "floor": 3.0}


def test_untrained_network_is_fresh_but_always_the_same(generator):
    before = torch.random.get_rng_state()
    first, second = untrained_like(generator, seed=1), untrained_like(generator, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.config == generator.config
    own, other, again = (dict(network.named_parameters()) for network in (generator, first, second))
    assert all(torch.equal(other[name], again[name]) for name in own)
    assert any(not torch.equal(own[name], other[name]) for name in own)


def test_discriminator_comes_out_of_a_state_file(tmp_path):
    config = default_config("tiny", "data")
    state = new_state(config, small_head().topology, torch.device("cpu"))
    path = tmp_path / "network-000000.state"
    save_state(path, state, config)
    loaded = load_discriminator(path)
    for name, value in state.discriminator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    network = path.with_suffix(".safetensors")
    save_network(network, state, config)
    with pytest.raises(CheckpointError, match=r"network-000000\.safetensors"):
        load_discriminator(network)
