"""`next3d samples` and `next3d videos` write what they say; with bad input they write nothing and say why in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

Run = Callable[..., tuple[int, str]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_samples_writes_what_was_asked_for(run: Run, network_file: Path, tmp_path: Path):
    out = tmp_path / "new" / "out"
    flags = ["--yaw", "-20,0,20", "--raw", "--depth", "--mesh", "--shapes", "--shape-res", "24", "--shape-level", "0.01"]
    code, printed = run("samples", "--network", network_file, "--seeds", "3", "--outdir", out, *flags)
    assert code == 0, printed
    assert names(out) == ["seed0003-depth.png", "seed0003-mesh.png", "seed0003-raw.png", "seed0003.ply", "seed0003.png"]
    for path in out.glob("*.png"):
        assert Image.open(path).size == (3 * 32, 32)
    assert len(trimesh.load(out / "seed0003.ply").faces) > 10


def test_samples_are_the_same_every_time(run: Run, network_file: Path, tmp_path: Path):
    for folder, seeds in (("a", "0-1"), ("b", "1")):
        assert run("samples", "--network", network_file, "--seeds", seeds, "--outdir", tmp_path / folder)[0] == 0
    assert (tmp_path / "a" / "seed0001.png").read_bytes() == (tmp_path / "b" / "seed0001.png").read_bytes()
    first, second = (np.array(Image.open(tmp_path / "a" / f"seed000{seed}.png")) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_videos_writes_a_grid_that_moves(run: Run, network_file: Path, tmp_path: Path):
    out = tmp_path / "new" / "jaw.mp4"
    code, printed = run(
        *("videos", "--network", network_file, "--seeds", "0-3", "--grid", "2x2", "--motion", "jaw"),
        *("--frames", "6", "--fps", "12", "--size", "48", "--out", out),
    )
    assert code == 0, printed
    assert names(out.parent) == ["jaw.mp4"]
    reader = imageio_ffmpeg.read_frames(str(out))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    assert (meta["size"], meta["fps"], len(frames)) == ((96, 96), 12, 6)
    assert not np.array_equal(frames[0], frames[2])


def broken_networks(network_file: Path, folder: Path) -> dict[str, Path]:
    """Files that look like networks and are not this one."""
    with safe_open(network_file, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    cut = folder / "cut.safetensors"
    cut.write_bytes(network_file.read_bytes()[:1000])
    text = folder / "text.safetensors"
    text.write_text("not a network")
    foreign = folder / "foreign.safetensors"
    save_file({"weight": torch.zeros(1)}, foreign)
    other = folder / "other.safetensors"
    save_file(tensors, other, {**metadata, "config": metadata["config"].replace('"plane_channels": 4', '"plane_channels": 8')})
    head = folder / "head.safetensors"
    save_file({**tensors, "topology.faces": tensors["topology.faces"][:, [1, 2, 0]].contiguous()}, head, metadata)
    newer = folder / "newer.safetensors"
    save_file(tensors, newer, {**metadata, "format_version": "99"})
    return {"cut": cut, "text": text, "foreign": foreign, "other": other, "head": head, "newer": newer}


@pytest.mark.parametrize("kind", ["cut", "text", "foreign", "other", "head", "newer", "missing"])
@pytest.mark.parametrize("command", ["samples", "videos"])
def test_files_that_are_not_a_network_are_named(run: Run, network_file: Path, tmp_path: Path, command: str, kind: str):
    (tmp_path / "in").mkdir()
    network = broken_networks(network_file, tmp_path / "in").get(kind, tmp_path / "in" / "missing.safetensors")
    target = ["--outdir", tmp_path / "out"] if command == "samples" else ["--out", tmp_path / "out.mp4"]
    code, printed = run(command, "--network", network, "--seeds", "0", *target)
    assert code == 2
    assert printed.startswith("Error: ")
    assert str(network) in printed
    assert len(printed.splitlines()) == 1
    assert names(tmp_path) == ["in"], "something was written"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["samples", "--seeds", "3-0", "--outdir", "{tmp}/out"], "backwards"),
        (["samples", "--seeds", "0", "--outdir", "{tmp}/file/out"], "not a folder"),
        (["samples", "--seeds", "0", "--outdir", "{tmp}/out", "--device", "abacus"], "choose auto"),
        (["samples", "--seeds", "0", "--outdir", "{tmp}/out", "--shapes", "--shape-level", "1e9", "--shape-res", "8"], "no surface"),
        (["videos", "--seeds", "0", "--out", "{tmp}/file/out.mp4"], "not a folder"),
        (["videos", "--seeds", "0", "--out", "{tmp}/out.avi"], ".mp4"),
        (["videos", "--seeds", "0", "--out", "{tmp}/out.mp4", "--motion", "dance"], "unknown motion 'dance'"),
        (["videos", "--seeds", "0-2", "--grid", "2x2", "--out", "{tmp}/out.mp4"], "give 4 seeds"),
        (["videos", "--seeds", "0", "--grid", "2", "--out", "{tmp}/out.mp4"], "2x2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options_are_one_line_and_nothing_is_written(run: Run, network_file: Path, tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "file").write_text("")
    code, printed = run(*[argument.format(tmp=tmp_path) for argument in arguments], "--network", network_file)
    last = printed.splitlines()[-1]
    assert code == 2
    assert last.startswith("Error: ")
    assert message in last
    assert names(tmp_path) == ["file"], "something was written"
