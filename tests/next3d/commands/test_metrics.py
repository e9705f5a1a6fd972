"""`next3d metrics` measures networks of every kind, writes one line per figure, and says in one sentence what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import training.layouts
from next3d.checkpoint import save_generator
from next3d.config import TriplaneConfig, preset
from next3d.generator import Generator
from next3d.head import load_head
from next3d.official.build import build_generator
from tests.training.factory import small_head, write_own, write_published
from tests.training.metrics.pictures import save_detector

Run = Callable[..., tuple[int, str]]
FEW = ("--images", "12", "--batch", "4", "--no-intervals", "--threads", "1")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(training.layouts, "load_head", lambda name: small_head() if name == "small" else load_head(name))
    return write_own(tmp_path / "own", 12, 32)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network on the head of both test layouts."""
    torch.manual_seed(0)
    save_generator(tmp_path / "network.safetensors", Generator(preset("tiny").generator, small_head().topology))
    return tmp_path / "network.safetensors"


def lines(path: Path) -> dict[str, dict]:
    return {record["name"]: record for record in map(json.loads, path.read_text().splitlines())}


def test_lines_and_table(run: Run, own: Path, network: Path, tmp_path: Path):
    out, detector = tmp_path / "out" / "figures.jsonl", save_detector(tmp_path / "weights.pth")
    arguments = ["metrics", "--network", network, "--data", own, "--out", out, "--detector-path", detector]
    assert run(*arguments, "--metrics", "kid,fid,swd", "--images", "12", "--threads", "1", "--seed", "3")[0] == 0
    found = lines(out)
    assert list(found) == ["swd_mean", "swd_32", "swd_16", "fid12", "kid12"]
    for record in found.values():
        assert (record["count"], record["seed"]) == (12, 3)
        assert record["low"] <= record["value"] <= record["high"]
        assert record["floor"] is not None
        assert (record["network"], record["data"]) == ("network.safetensors", "own")
    again = tmp_path / "again.jsonl"
    run(*arguments[:5], "--out", again, "--detector-path", detector, "--metrics", "swd,fid", *FEW, "--seed", "3")
    assert {name: record["value"] for name, record in lines(again).items()} == {
        name: pytest.approx(found[name]["value"], rel=1e-9) for name in ("swd_mean", "swd_32", "swd_16", "fid12")
    }
    assert lines(again)["fid12"]["low"] is None


@pytest.mark.parametrize("kind", ["meshes", "no mesh"])
def test_networks_without_a_head_model(run: Run, tmp_path: Path, kind: str, network: Path):
    """Data of meshes, as published, and networks without any mesh (EG3D): what needs no head model is measured."""
    data = write_published(tmp_path / "faces", 12, 32)
    if kind == "no mesh":
        config = preset("tiny").generator
        shared = {field.name: getattr(config, field.name) for field in fields(TriplaneConfig)}
        save_generator(network, build_generator(TriplaneConfig(**{**shared, "kind": "released-eg3d"}), None))
    out = tmp_path / "figures.jsonl"
    code, said = run("metrics", "--network", network, "--data", data, "--suite", "all", *FEW, "--out", out)
    assert code == 0, said
    assert {name.partition("_")[0] for name in lines(out)} == {"swd"}
    assert "Left out: fid" in said
    assert "Left out: aed" in said


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--metrics", "beauty"), "unknown metric 'beauty'; choose from swd, fid, kid, pr"),
        (("--metrics", "swd", "--suite", "avatar"), "give one of them"),
        (("--metrics", "fid"), "cache/pt_inception-2015-12-05-6726825d.pth"),
        (("--metrics", "kid", "--detector-path", "{tmp}/network.safetensors"), "no tensor 'Conv2d_1a_3x3.conv.weight'"),
        (("--suite", "everything"), "everything"),
        (("--images", "3"), "3"),
        (("--data", "{tmp}/network.safetensors"), "network.safetensors"),
        (("--network", "{tmp}/own/dataset.json"), "dataset.json"),
        (("--network", "{tmp}/other.safetensors"), "its heads have 108 vertices (small)"),
        (("--out", "{tmp}/figures.csv"), "ends in .jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_is_one_sentence(run: Run, own: Path, network: Path, tmp_path: Path, monkeypatch, more, complaint):
    monkeypatch.setenv("NEXT3D_CACHE", str(tmp_path / "cache"))
    if "{tmp}/other.safetensors" in more:
        save_generator(tmp_path / "other.safetensors", Generator(preset("tiny").generator, load_head("procedural").topology))
    arguments = ["metrics", "--network", network, "--data", own, *FEW, *(argument.format(tmp=tmp_path) for argument in more)]
    code, said = run(*arguments)
    assert code == 2
    errors = [line for line in said.splitlines() if not line.endswith(" ...")]  # what it was doing meanwhile
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    assert complaint in errors[0]
    assert not (tmp_path / "cache").exists()
