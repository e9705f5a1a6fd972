"""The network that comes with the package: it is the one that was meant, and the default everywhere."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import pytest
import torch

from dnnlib.errors import CheckpointError
from next3d.checkpoint import load_animatable, load_generator, read_network_metadata, save_generator
from next3d.config import preset
from next3d.generator import Generator
from next3d.media.scene import head_of
from next3d.shipped import SHIPPED_NETWORK, SHIPPED_SHA256, check_network, shipped_network
from tests.models import ToyHead


def test_it_is_the_default():
    found, named = load_animatable(), load_generator(shipped_network())
    assert found.config == named.config
    assert all(torch.equal(value, named.state_dict()[name]) for name, value in found.state_dict().items())


def test_it_is_small_whole_and_of_its_preset():
    assert SHIPPED_NETWORK.stat().st_size <= 14 * 2**20
    network = load_animatable()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 7e6
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert network.config.superres == preset("demo-128").generator.superres
    assert head_of(network).expression_names, "the head model is the one that it was trained with"
    assert read_network_metadata(SHIPPED_NETWORK)["preset"] == "demo-128"


def test_its_card_names_the_file_that_is_there():
    card = SHIPPED_NETWORK.with_suffix(".md").read_text()
    assert SHIPPED_SHA256 in card
    assert f"{round(1000 * float(read_network_metadata(SHIPPED_NETWORK)['kimg'])):,} images" in card
    for word in ("Licence", "Intended use", "must not be used", "Training data", "Limits"):
        assert word in card


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_another_file_is_refused(damage, tmp_path):
    path = tmp_path / "network.safetensors"
    data = bytes(range(200))
    if damage != "missing":
        path.write_bytes(data[:-1] if damage == "cut" else data[:50] + b"\0" + data[51:])
    with pytest.raises(CheckpointError, match=r"network\.safetensors: .*install the package again"):
        check_network(path, hashlib.sha256(data).hexdigest())
    path.write_bytes(data)
    assert check_network(path, hashlib.sha256(data).hexdigest()) == path


def test_half_precision_halves_the_file_and_keeps_the_picture(tiny_generator: Generator, tmp_path: Path, toy: ToyHead):
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_generator(full, tiny_generator, metadata={"kimg": "3"})
    save_generator(half, tiny_generator, metadata={"kimg": "3"}, half=True)
    one, other = load_animatable(full), load_animatable(half)
    weights = sum(value.nbytes for value in one.state_dict().values() if value.is_floating_point())
    assert full.stat().st_size - half.stat().st_size == pytest.approx(weights / 2, rel=0.05)
    assert read_network_metadata(half) == read_network_metadata(full)
    assert torch.equal(one.topology.uvs, other.topology.uvs), "the mesh is not rounded"
    z, c = torch.randn(1, one.config.latent_size), torch.zeros(1, 25)
    styles = [network.mapping(z, c).static for network in (one, other)]
    assert 0 < float((styles[0] - styles[1]).abs().max()) < 2e-2


def test_what_half_precision_cannot_hold_is_refused(tiny_generator: Generator, tmp_path: Path):
    large = copy.deepcopy(tiny_generator)
    large.decoder.output.bias[0] = 1e6
    with pytest.raises(CheckpointError, match=r"decoder.*float16"):
        save_generator(tmp_path / "half.safetensors", large, half=True)
    assert not list(tmp_path.iterdir())
