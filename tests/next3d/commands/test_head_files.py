"""Heads given as files to `next3d samples` and `next3d videos`, also as the original scripts are called; networks of every kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import next3d.checkpoint
from next3d.checkpoint import save_generator
from next3d.config import TriplaneConfig, preset
from next3d.generator import Generator, TriplaneGenerator
from next3d.head import load_head
from next3d.head.obj import read_topology
from next3d.head.topology import Topology
from next3d.media.performance import HeadPerformance, seed_heads
from tests.head_files import write_driving_folder, write_head

Run = Callable[..., tuple[int, str]]


def mesh_network(path: Path, topology: Topology) -> Path:
    """An untrained network that knows no head model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(replace(preset("tiny").generator, head=""), topology)
    save_generator(path, generator)
    return path


@dataclass(frozen=True)
class Files:
    """Files in a folder `in`; outputs go beside it."""

    folder: Path
    meshes_only: Path
    """A network without head model and landmarks."""
    obj: Path
    lms: Path
    drive: Path


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files") / "in"
    head = load_head("procedural")
    meshes_only = replace(head.topology, landmark_faces=None, landmark_barycentrics=None)
    mesh = head(seed_heads(head, [5], head_seed=0))
    obj, lms = write_head(folder / "demo", "demo", mesh, head.topology)
    drive = write_driving_folder(folder / "obama", HeadPerformance(head, "jaw", (0,), frames=3), head.topology, ["f1", "f2", "f10"])
    return Files(folder, mesh_network(folder / "meshes.safetensors", meshes_only), obj, lms, drive)


@pytest.fixture
def files(originals: Files, tmp_path: Path) -> Files:
    """A copy to be damaged."""
    shutil.copytree(originals.folder, tmp_path / "in")
    moved = {field.name: tmp_path / "in" / getattr(originals, field.name).relative_to(originals.folder) for field in fields(Files)}
    return Files(**moved)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def frames_of(path: Path) -> list[np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(frame, np.uint8).reshape(height, width, 3).astype(int) for frame in reader]


def test_the_original_gen_videos_call(run: Run, files: Files, tmp_path: Path):
    code, printed = run(
        *("videos", f"--outdir={tmp_path / 'out'}", "--trunc=0.7", "--seeds=0-3", "--grid=2x2", f"--network={files.meshes_only}"),
        *(f"--obj_path={files.obj}", f"--lms_path={files.lms}", "--lms_cond=True", "--frames=4", "--size=32"),
    )
    assert code == 0, printed
    assert names(tmp_path / "out") == ["orbit.mp4"]
    frames = frames_of(tmp_path / "out" / "orbit.mp4")
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 4
    assert np.abs(frames[1] - frames[0]).max() > 5, "the camera moves"


def test_the_original_gen_samples_call(run: Run, files: Files, tmp_path: Path):
    code, printed = run(
        *("samples", f"--outdir={tmp_path / 'out'}", "--trunc=0.7", "--shapes=true", "--seeds=0-1", f"--network={files.meshes_only}"),
        *(f"--obj_path={files.obj}", f"--lms_path={files.lms}", "--lms_cond=True", "--shape-res=16", "--shape-level=0.01"),
    )
    assert code == 0, printed
    assert names(tmp_path / "out") == ["seed0000.ply", "seed0000.png", "seed0001.ply", "seed0001.png"]


def test_the_original_reenactment_call(run: Run, files: Files, tmp_path: Path):
    code, printed = run(
        *("videos", f"--drive_root={files.drive}", f"--network={files.meshes_only}", "--grid=2x1", "--seeds=166", "--size=32"),
        *(f"--outdir={tmp_path / 'out'}", "--fname=reenact.mp4", "--trunc=0.7", "--lms_cond=1"),
    )
    assert code == 0, printed
    assert names(tmp_path / "out") == ["reenact.mp4"]
    assert [frame.shape for frame in frames_of(tmp_path / "out" / "reenact.mp4")] == [(32, 64, 3)] * 3


def test_the_head_model_and_its_files_give_the_same_samples(run: Run, network_file: Path, tmp_path: Path):
    """With and without the landmark file: this network knows where its landmarks are."""
    head = load_head("procedural")
    obj, lms = write_head(tmp_path, "head", head(seed_heads(head, [5], head_seed=0)), head.topology)
    common = ("samples", "--network", network_file, "--seeds", "5", "--mesh")
    for folder, options in (("a", []), ("b", ["--obj-path", obj, "--lms-path", lms]), ("c", ["--obj-path", obj, "--lms-cond", "false"])):
        code, printed = run(*common, *options, "--outdir", tmp_path / folder)
        assert code == 0, printed
    for name in ("seed0005.png", "seed0005-mesh.png"):
        own, given, embedded = (np.asarray(Image.open(tmp_path / folder / name)).astype(int) for folder in "abc")
        assert np.abs(given - own).mean() < 0.05
        assert np.abs(embedded - own).mean() < 0.05


def test_frames_limit_a_driving_folder_and_its_camera_can_be_left_out(run: Run, files: Files, tmp_path: Path):
    head = load_head("procedural")
    orbit = HeadPerformance(head, "orbit", (0,), frames=3)
    drive = write_driving_folder(tmp_path / "still", orbit, head.topology, ["1", "2", "3"])
    shown = {}
    for name, options in (("moving", []), ("fixed", ["--fixed-camera"])):
        out = tmp_path / f"{name}.mp4"
        code, printed = run(
            *("videos", "--network", files.meshes_only, "--seeds", "0", "--drive", drive, "--frames", "2"),
            *("--size", "32", "--mesh", "--out", out, *options),
        )
        assert code == 0, printed
        shown[name] = frames_of(out)
        assert len(shown[name]) == 2
    change = {name: np.abs(frames[1] - frames[0]).mean() for name, frames in shown.items()}
    assert change["fixed"] < 1 < change["moving"]


@pytest.mark.parametrize("motion", ["orbit", "interpolate"])
def test_networks_without_a_mesh_need_no_head(run: Run, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, motion: str):
    config = preset("tiny").generator
    shared = {field.name: getattr(config, field.name) for field in fields(TriplaneConfig)}
    network = TriplaneGenerator(TriplaneConfig(**shared)).eval().requires_grad_(False)
    monkeypatch.setattr(next3d.checkpoint, "load_generator", lambda path, device: network)
    common = ("--network", files.meshes_only, "--seeds", "0-1")
    assert run("videos", *common, "--motion", motion, "--frames", "2", "--size", "32", "--out", tmp_path / "a.mp4")[0] == 0
    assert run("samples", *common, "--outdir", tmp_path / "out")[0] == 0
    for extra, message in (
        (["--mesh"], "leave out --mesh"),
        (["--obj-path", files.obj, "--lms-path", files.lms], "have no mesh that could be posed"),
        (["--drive", files.drive], "have no mesh that could be posed"),
        (["--motion", "jaw"], "this network has no mesh that could move"),
    ):
        code, printed = run("videos", *common, "--frames", "2", *extra, "--out", tmp_path / "b.mp4")
        assert code == 2
        assert message in printed.splitlines()[-1]
    assert names(tmp_path) == ["a.mp4", "in", "out"]


def test_the_published_sample_poses_a_network(run: Run, shared_dir: Path, tmp_path: Path):
    sample = shared_dir / "next3d-layout-sample"
    obj, lms = (sample / kind / "00000" / f"img00000001.{ending}" for kind, ending in (("meshes512x512", "obj"), ("lms512x512", "txt")))
    network = mesh_network(tmp_path / "network.safetensors", read_topology(obj.read_bytes(), str(obj)))
    drive = tmp_path / "drive"
    shutil.copytree(sample / "images512x512", drive)
    for kind in ("meshes512x512", "lms512x512"):
        shutil.copytree(sample / kind, drive, dirs_exist_ok=True)
    common = ("videos", "--network", network, "--seeds", "0", "--mesh", "--size", "48", "--frames", "2")
    code, printed = run(*common, "--obj-path", obj, "--lms-path", lms, "--out", tmp_path / "a.mp4")
    assert code == 0, printed
    code, printed = run(*common, "--drive", drive, "--out", tmp_path / "b.mp4")
    assert code == 0, printed
    for name in ("a.mp4", "b.mp4"):
        for frame in frames_of(tmp_path / name):
            assert (frame[:, 48:] > 40).any(axis=2).mean() > 0.2, "no head to be seen"


def other_triangles(path: Path) -> None:
    head, _, last = path.read_text().rstrip().rpartition("\nf ")
    path.write_text(head + "\nf " + " ".join(["1", *last.split()[1:]]) + "\n")


def extra_vertex(path: Path) -> None:
    path.write_text("v 0 0 0\n" + path.read_text())


HEAD = ("--obj-path", "{obj}", "--lms-path", "{lms}")
MISTAKES: dict[str, tuple[Callable[[Files], object], tuple[str, ...], str]] = {
    "no head": (lambda files: None, (), "names no head model; pose it with --obj-path"),
    "no landmarks": (lambda files: None, HEAD[:2], "give them with --lms-path"),
    "landmarks not wanted": (lambda files: None, (*HEAD, "--lms-cond", "false"), "give them with --lms-path"),
    "landmarks wanted": (lambda files: None, (*HEAD[:2], "--lms-cond", "true"), "give it with --lms-path"),
    "landmarks alone": (lambda files: None, HEAD[2:], "give it with --obj-path"),
    "missing mesh": (lambda files: files.obj.unlink(), HEAD, "demo.obj"),
    "other vertices": (lambda files: extra_vertex(files.obj), HEAD, "vertices, but the network's mesh has"),
    "other triangles": (lambda files: other_triangles(files.obj), HEAD, "demo.obj: has as many vertices"),
    "no mesh": (lambda files: files.obj.write_bytes(b"\x89PNG"), HEAD, "expected an OBJ mesh"),
    "no numbers": (lambda files: files.lms.write_text("x y z"), HEAD, "demo_kpt2d.txt: is not a text file of numbers"),
    "flat landmarks": (lambda files: files.lms.write_text("0 0\n" * 68), HEAD, "holds 136 numbers, expected 68 lines"),
}
VIDEO_MISTAKES: dict[str, tuple[Callable[[Files], object], tuple[str, ...], str]] = {
    "jaw of a file": (lambda files: None, (*HEAD, "--motion", "jaw"), "motion jaw: needs a head model"),
    "file and folder": (lambda files: None, (*HEAD, "--drive", "{drive}"), "leave out one of the two"),
    "motion and folder": (lambda files: None, ("--drive", "{drive}", "--motion", "orbit"), "leave out one of the two"),
    "camera of nothing": (lambda files: None, (*HEAD, "--fixed-camera"), "is for --drive"),
    "empty folder": (lambda files: [path.unlink() for path in files.drive.iterdir()], ("--drive", "{drive}"), "has no dataset.json"),
    "missing frame": (lambda files: (files.drive / "f10.obj").unlink(), ("--drive", "{drive}"), "f10.obj: does not exist"),
    "missing points": (lambda files: (files.drive / "f2_kpt2d.txt").unlink(), ("--drive", "{drive}"), "f2_kpt2d.txt: does not exist"),
    "late damage": (lambda files: extra_vertex(files.drive / "f10.obj"), ("--drive", "{drive}"), "f10.obj: "),
    "no points wanted": (lambda files: None, ("--drive", "{drive}", "--lms-cond", "0"), "leave out --lms-cond"),
    "folder that is a file": (lambda files: None, ("--drive", "{obj}"), "is a file"),
    "grid": (lambda files: None, ("--drive", "{drive}", "--grid", "3x1"), "give 3 seeds"),
}


def check_mistake(run: Run, files: Files, arguments: tuple[str, ...], message: str) -> None:
    """One line, exit code 2, and nothing written."""
    out = files.folder.parent / "out"
    given = [argument.format(obj=files.obj, lms=files.lms, drive=files.drive, out=out) for argument in arguments]
    code, printed = run(*given, "--network", files.meshes_only, "--seeds", "0")
    last = printed.splitlines()[-1]
    assert code == 2
    assert last.startswith("Error: ")
    assert message in last
    assert names(files.folder.parent) == ["in"], "something was written"


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_head_are_one_line(run: Run, files: Files, name: str):
    damage, arguments, message = MISTAKES[name]
    damage(files)
    for command in (("samples", "--outdir", "{out}"), ("videos", "--frames", "2", "--out", "{out}.mp4")):
        check_mistake(run, files, (*command, *arguments), message)


@pytest.mark.parametrize("name", VIDEO_MISTAKES)
def test_mistakes_in_what_moves_the_head_are_one_line(run: Run, files: Files, name: str):
    damage, arguments, message = VIDEO_MISTAKES[name]
    damage(files)
    check_mistake(run, files, ("videos", "--size", "32", "--out", "{out}.mp4", *arguments), message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--out FILE.mp4"),
        (("--out", "{out}/a.mp4", "--outdir", "{out}"), "--out FILE.mp4"),
        (("--outdir", "{out}", "--fname", "a.avi"), ".mp4"),
        (("--outdir", "{out}", "--motion", "dance"), "unknown motion"),
    ],
    ids=["nowhere", "twice", "not a video", "unknown motion"],
)
def test_where_the_video_goes_is_checked_before_anything_is_loaded(run: Run, tmp_path: Path, options: tuple[str, ...], message: str):
    (tmp_path / "network.safetensors").write_text("not a network")
    code, printed = run(
        "videos", "--network", tmp_path / "network.safetensors", "--seeds", "0", *(text.format(out=tmp_path / "out") for text in options)
    )
    assert code == 2
    assert message in printed
    assert len(printed.splitlines()) == 1
