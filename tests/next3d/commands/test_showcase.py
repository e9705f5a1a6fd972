"""`next3d showcase` writes its pictures; networks that it cannot show get a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from PIL import Image

from next3d.checkpoint import save_generator
from next3d.config import TriplaneConfig, preset
from next3d.media.sheet import GAP
from next3d.official.build import build_generator

Run = Callable[..., tuple[int, str]]


def test_showcase_writes_what_was_asked_for(run: Run, network_file: Path, tmp_path: Path):
    out = tmp_path / "new" / "out"
    chosen = ["--only", "faces", "--only", "talking"]
    code, printed = run("showcase", "--network", network_file, "--seeds", "0-8", "--quick", *chosen, "--outdir", out)
    assert code == 0, printed
    assert sorted(path.name for path in out.iterdir()) == ["faces.jpg", "talking.webp"]
    assert Image.open(out / "faces.jpg").size == (8 * (64 + GAP) + GAP, 2 * (64 + GAP) + GAP)
    talking = Image.open(out / "talking.webp")
    assert talking.size == (2 * (64 + GAP) + GAP, 64 + 2 * GAP)
    assert talking.is_animated


def test_networks_without_a_mesh_get_a_sentence(run: Run, tmp_path: Path):
    config = preset("tiny").generator
    shared = {field.name: getattr(config, field.name) for field in fields(TriplaneConfig)}
    network = tmp_path / "static.safetensors"
    save_generator(network, build_generator(TriplaneConfig(**{**shared, "kind": "released-eg3d"}), None))
    code, printed = run("showcase", "--network", network, "--outdir", tmp_path / "out")
    assert code == 2
    assert printed.startswith(f"Error: {network}: its heads have no mesh")
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_bad_options_are_one_line(run: Run, network_file: Path, tmp_path: Path):
    for arguments, message in ((["--only", "hair"], "hair"), (["--shape-level", "0"], "shape-level"), (["--seeds", "3-0"], "backwards")):
        code, printed = run("showcase", "--network", network_file, "--outdir", tmp_path / "out", *arguments)
        assert code == 2
        assert message in printed.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
