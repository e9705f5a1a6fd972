"""Network files: what is written is read, and everything else is refused with the file's name."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dnnlib.errors import CheckpointError, UserError
from next3d.checkpoint import FORMAT, FORMAT_VERSION, load_generator, load_tensors, load_weights, save_generator, save_tensors
from next3d.config import preset, to_json
from next3d.generator import Generator
from next3d.types import RaySampling
from tests.models import labels


@pytest.fixture(scope="module")
def file(tiny_generator, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "network-000012.safetensors"
    save_generator(path, tiny_generator, metadata={"kimg": "12"})
    return path


def contents(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata())  # noqa: SIM118


def rewritten(file: Path, tmp_path: Path, change) -> Path:
    """A copy of the file after `change(tensors, metadata)`."""
    tensors, metadata = contents(file)
    change(tensors, metadata)
    target = tmp_path / "changed.safetensors"
    save_file(tensors, target, metadata=metadata)
    return target


def test_weights_and_configuration_come_back_bit_by_bit(file, tiny_generator):
    loaded = load_generator(file)
    assert loaded.config == tiny_generator.config
    expected, found = tiny_generator.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_topology_comes_back_bit_by_bit(file, toy):
    loaded = load_generator(file).topology
    for field in fields(loaded):
        expected, found = getattr(toy.topology, field.name), getattr(loaded, field.name)
        if isinstance(expected, Tensor):
            assert torch.equal(expected, found), field.name
            assert expected.dtype == found.dtype, field.name
        elif field.name in ("regions", "eye_points"):
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[name], found[name]) for name in expected)
        else:
            assert expected is None
            assert found is None, field.name
    assert toy.topology.mirror_landmarks is None, "the toy head leaves a field out, so that None is tested"


def test_a_mesh_only_topology_comes_back(toy, tmp_path):
    """Without landmark embedding, mirror map and regions, as an OBJ file gives it."""
    bare = replace(toy.topology, landmark_faces=None, landmark_barycentrics=None, mirror_vertices=None, regions={})
    path = tmp_path / "bare.safetensors"
    save_generator(path, Generator(replace(preset("tiny").generator, head=""), bare))
    loaded = load_generator(path)
    assert loaded.config.head == ""
    assert loaded.topology.landmark_faces is None
    assert loaded.topology.mirror_vertices is None
    assert loaded.topology.regions == {}


def test_the_loaded_generator_makes_the_same_image(file, tiny_generator, toy, rng):
    z, c = torch.randn(1, 16, generator=rng), labels(1)
    expected = tiny_generator(z, c, toy.mesh(), sampling=RaySampling()).image
    assert torch.equal(load_generator(file)(z, c, toy.mesh(), sampling=RaySampling()).image, expected)


def test_metadata_says_what_the_file_is(file, tiny_generator):
    _, metadata = contents(file)
    expected = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "config": to_json(tiny_generator.config), "kimg": "12"}
    assert metadata == expected


def test_equal_networks_give_equal_files(file, tiny_generator, tmp_path):
    for attempt in range(5):  # a random order would be right by chance in one of 24
        save_generator(tmp_path / f"{attempt}.safetensors", tiny_generator, metadata={"kimg": "12"})
        assert (tmp_path / f"{attempt}.safetensors").read_bytes() == file.read_bytes()


def test_texts_of_any_language_come_back(tmp_path):
    texts = {"format": "x", "format_version": "1", "source": 'Zoë\t"ünder" \\ 顔\n\x07', "licence": ""}
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(1)}, texts)
    tensors, found = load_tensors(tmp_path / "x.safetensors", "x", 1)
    assert found == texts
    assert torch.equal(tensors["a"], torch.ones(1))


def test_tensors_that_share_memory_or_are_strided_are_stored(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "b": base[1], "c": base.mT, "d": base.clone().requires_grad_(), "e": torch.tensor(3.5)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"format": "x", "format_version": "1"})
    found, _ = load_tensors(tmp_path / "x.safetensors", "x", 1)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


REFUSED = {
    "missing": (lambda path, source: None, "no such file"),
    "text": (lambda path, source: path.write_text("hello, this is no network"), "not a readable"),
    "empty": (lambda path, source: path.write_bytes(b""), "not a readable"),
    "folder": (lambda path, source: path.mkdir(), "not a readable"),
    "pickle": (lambda path, source: path.write_bytes(pickle.dumps({"G_ema": [1, 2, 3]})), "nothing in it was run"),
    "torch file": (lambda path, source: torch.save({"a": torch.zeros(3)}, path), "not a readable"),
    "truncated": (lambda path, source: path.write_bytes(source.read_bytes()[:-1000]), "not a readable"),
    "truncated header": (lambda path, source: path.write_bytes(source.read_bytes()[:100]), "not a readable"),
    "foreign": (lambda path, source: save_file({"weight": torch.zeros(2)}, path), "expected 'next3d-network'"),
    "other metadata": (lambda path, source: save_file({"weight": torch.zeros(2)}, path, metadata={"format": "pt"}), "'pt'"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_files_of_another_kind_are_refused_by_name(kind, file, tmp_path):
    path = tmp_path / "some network.safetensors"
    write, message = REFUSED[kind]
    write(path, file)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_generator(path)
    assert str(path) in str(caught.value)


CHANGED = {
    "newer": (lambda tensors, metadata: metadata.update(format_version="2"), "version 2"),
    "odd version": (lambda tensors, metadata: metadata.update(format_version="one"), "version one"),
    "no version": (lambda tensors, metadata: metadata.pop("format_version"), "missing"),
    "no configuration": (lambda tensors, metadata: metadata.pop("config"), "configuration"),
    "unknown field": (lambda tensors, metadata: metadata.update(config='{"future": 1}'), "future"),
    "impossible sizes": (lambda tensors, metadata: metadata.update(config='{"superres": {"input_resolution": 7}}'), "configuration"),
    "other architecture": (lambda tensors, metadata: metadata.update(config=to_json(preset("demo-64").generator)), "another architecture"),
    "tensor missing": (lambda tensors, metadata: tensors.pop("generator.decoder.net.0.weight"), r"decoder\.net\.0\.weight"),
    "tensor too many": (lambda tensors, metadata: tensors.update({"generator.extra": torch.zeros(1)}), "extra"),
    "other shape": (lambda tensors, metadata: tensors.update({"generator.decoder.net.0.weight": torch.zeros(2, 2)}), "shape"),
    "no triangles": (lambda tensors, metadata: tensors.pop("topology.faces"), "faces"),
    "strange topology": (lambda tensors, metadata: tensors.update({"topology.volume": torch.zeros(1)}), "volume"),
}


@pytest.mark.parametrize("kind", sorted(CHANGED))
def test_files_that_do_not_fit_are_refused_by_name(kind, file, tmp_path):
    change, message = CHANGED[kind]
    path = rewritten(file, tmp_path, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_generator(path)
    assert str(path) in str(caught.value)


def test_a_refused_file_changes_no_weight(tiny_discriminator):
    before = {name: value.clone() for name, value in tiny_discriminator.state_dict().items()}
    tensors = {name: torch.zeros_like(value) for name, value in before.items()}
    tensors[sorted(tensors)[-1]] = torch.zeros(7, 7)
    with pytest.raises(CheckpointError):
        load_weights(tiny_discriminator, tensors, "file")
    assert all(torch.equal(before[name], value) for name, value in tiny_discriminator.state_dict().items())


def test_an_interrupted_write_leaves_the_old_file(tiny_generator, tmp_path, monkeypatch):
    path = tmp_path / "network.safetensors"
    path.write_text("old")

    def interrupted(tensors, target, metadata) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("next3d.checkpoint.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_generator(path, tiny_generator)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["network.safetensors"]


def test_a_folder_that_cannot_be_written_to_is_named(tiny_generator, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        save_generator(tmp_path / "file" / "network.safetensors", tiny_generator)
