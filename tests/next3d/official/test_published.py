"""Snapshot files as networks of ours: every way to load them gives the same images, and says where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dnnlib.errors import CheckpointError
from dnnlib.files import sha256
from next3d.checkpoint import load_animatable, load_discriminator, load_generator, load_tensors, save_converted
from next3d.generator import Generator, TriplaneGenerator
from next3d.official.published import AVERAGE, JUDGE, LICENCE, Published, describe, is_published
from next3d.render.cameras import orbit_camera
from next3d.types import HeadMesh
from tests.models import labels
from tests.next3d.official.tiny_snapshot import RESOLUTION, generator, network, write_snapshot
from tests.reference import tiny


def picture(network: TriplaneGenerator, mesh: HeadMesh | None) -> torch.Tensor:
    """One image with the network's own settings."""
    styles = network.mapping(torch.ones(1, tiny.LATENT), labels(1))
    identity = network.identity(styles)
    if isinstance(network, Generator):
        assert mesh is not None
        planes = network.animate(identity, mesh[:1])
    else:
        planes = network.still(identity)
    return network.render(planes, orbit_camera(torch.zeros(1), torch.zeros(1)), styles).image


@pytest.mark.parametrize("kind", ["next3d", "eg3d"])
def test_a_snapshot_loads_like_any_network(request, mesh, kind, tmp_path):
    """Directly, converted, and from the same tensors: equal images."""
    pickle, expected = request.getfixturevalue(f"{kind}_pickle"), request.getfixturevalue(kind)
    direct = load_generator(pickle)
    assert type(direct) is type(expected)
    assert direct.config.render.resolution == RESOLUTION, "the file's, not the constructor's"
    path = tmp_path / "converted.safetensors"
    published = Published.open(pickle)
    save_converted(path, published.generator(), published.metadata(AVERAGE))
    assert torch.equal(picture(load_generator(path), mesh), picture(direct, mesh))
    for name, value in expected.state_dict().items():
        assert torch.equal(direct.state_dict()[name], value), name
    assert not direct.training
    assert not any(parameter.requires_grad for parameter in direct.parameters())


def test_the_mask_comes_from_the_file(next3d_pickle, folder):
    topology = load_animatable(next3d_pickle).topology
    assert torch.equal(topology.uv_mask, folder.uv_mask()[0])
    assert 0 < float(topology.uv_mask.mean()) < 1


def test_a_loaded_network_does_not_change_the_file(next3d_pickle):
    before = sha256(next3d_pickle)
    module = load_generator(next3d_pickle)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert sha256(next3d_pickle) == before


def test_the_discriminator_survives_conversion(next3d_pickle, tmp_path, rng):
    published = Published.open(next3d_pickle)
    judge = published.discriminator()
    path = tmp_path / "judge.safetensors"
    save_converted(path, judge, published.metadata(JUDGE))
    image, raw = torch.randn(2, 3, 128, 128, generator=rng), torch.randn(2, 3, 16, 16, generator=rng)
    assert torch.equal(load_discriminator(path)(image, raw, None, labels(2)), judge(image, raw, None, labels(2)))


def test_converted_files_say_where_they_come_from(next3d_pickle, tmp_path):
    published = Published.open(next3d_pickle)
    path = tmp_path / "converted.safetensors"
    save_converted(path, published.generator(), published.metadata(AVERAGE))
    _, metadata = load_tensors(path, "next3d-network", 1)
    assert metadata["source"] == "next3d.pkl", "the name alone: no folder of this machine"
    assert metadata["source_sha256"] == sha256(next3d_pickle)
    assert metadata["source_network"] == "G_ema"
    assert metadata["license"] == LICENCE
    assert "non-commercial" in LICENCE
    assert json.loads(metadata["source_arguments"])["z_dim"] == tiny.LATENT
    assert str(tmp_path) not in json.dumps(metadata)


def test_what_is_said_about_a_network(next3d_pickle, eg3d_pickle):
    first, second = describe(AVERAGE, Published.open(next3d_pickle).convert(AVERAGE))
    assert first.startswith("generator (running average): Next3D, 128x128, ")
    assert "k parameters" in first
    assert "texture_backbone.mapping" in second
    (line, unused) = describe(AVERAGE, Published.open(eg3d_pickle).convert(AVERAGE))
    assert "EG3D, 512x512" in line
    assert "superresolution" in unused
    (line,) = describe(JUDGE, Published.open(next3d_pickle).convert(JUDGE))
    assert line.startswith("discriminator: dual discriminator, 128x128, ")
    summary = list(Published.open(next3d_pickle).summary())
    assert "snapshot with G, D, G_ema; SHA-256 " in summary[0]
    assert summary[1:] == ["  not read: progress"]


def test_networks_that_are_not_there_are_missed_with_a_sentence(eg3d_pickle):
    published = Published.open(eg3d_pickle)
    with pytest.raises(CheckpointError, match=r"eg3d\.pkl: holds G_ema, but no 'D'; expected a snapshot of EG3D or Next3D"):
        published.discriminator()
    with pytest.raises(CheckpointError, match=r"eg3d\.pkl: is a network without a mesh \(EG3D\); expected one whose heads can be posed"):
        load_animatable(eg3d_pickle)


def test_networks_in_each_others_place_are_refused_with_a_sentence(tmp_path, folder):
    judge = network(folder.state("next3d_disc"), folder.configs["disc"]["D_kwargs"])
    made = generator(folder.state("eg3d"), folder.configs["eg3d"]["G_kwargs"])
    published = Published.open(write_snapshot(tmp_path / "swapped.pkl", G_ema=judge, D=made))
    with pytest.raises(CheckpointError, match=r"swapped\.pkl: 'G_ema' is a discriminator; expected a generator"):
        published.generator()
    with pytest.raises(CheckpointError, match=r"swapped\.pkl: 'D' is a generator; expected a discriminator"):
        published.discriminator()


def test_what_cannot_be_built_names_file_and_network(tmp_path, folder):
    arguments = folder.configs["eg3d"]["G_kwargs"]
    wrong = arguments | {"rendering_kwargs": arguments["rendering_kwargs"] | {"clamp_mode": "relu"}}
    path = write_snapshot(tmp_path / "wrong.pkl", G_ema=generator(folder.state("eg3d"), wrong))
    with pytest.raises(CheckpointError, match=r"wrong\.pkl: G_ema: clamp_mode is 'relu'"):
        load_generator(path)


@pytest.mark.parametrize(("name", "expected"), [("a.pkl", True), ("a.PICKLE", True), ("a.safetensors", False), ("pkl", False)])
def test_names_of_snapshots(name, expected):
    assert is_published(Path(name)) is expected
