"""`next3d convert`, and published files given to other commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from dnnlib.errors import WriteError
from next3d.checkpoint import load_discriminator, load_generator, save_generator
from next3d.commands.main import root, run_command
from tests.head_files import write_head
from tests.next3d.official.tiny_snapshot import generator, network, write_snapshot

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `next3d` in this process: exit code, what it printed, and its complaints."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)

    def run_next3d(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_command(root, [str(argument) for argument in arguments], name="next3d")
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_next3d


def test_converting_says_what_it_found(run, next3d_pickle, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("average", "raw", "judge")]
    code, printed, complaints = run("convert", next3d_pickle, files[0], "--raw", files[1], "--discriminator", files[2])
    assert code == 0, complaints
    patterns = (
        r"next3d\.pkl: snapshot with G, D, G_ema; SHA-256 [0-9a-f]{64}",
        r"  not read: progress\n",
        r"generator \(running average\): Next3D, 128x128, [\d.]+ k parameters",
        r"  left out, owned by the original and never used: [\d.]+ k numbers \(.*mouth_backbone\.mapping [\d.]+ k.*\)",
        r"generator \(without averaging\): Next3D, 128x128, ",
        r"discriminator: dual discriminator, 128x128, [\d.]+ k parameters",
        r"average\.safetensors: [\d.]+ MB",
    )
    for pattern in patterns:
        assert re.search(pattern, printed), pattern
    weights = [load_generator(path).state_dict() for path in files[:2]]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert load_discriminator(files[2]).config.image_resolution == 128


def test_only_the_running_average_is_written_by_default(run, next3d_pickle, tmp_path):
    code, printed, complaints = run("convert", next3d_pickle, tmp_path / "out.safetensors")
    assert code == 0, complaints
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    assert "generator (without averaging)" in printed, "what else the file has is said all the same"


def test_a_network_that_nobody_wants_may_be_unknown(run, folder, tmp_path):
    judge = network({"strange.weight": torch.zeros(3)}, folder.configs["disc"]["D_kwargs"])
    made = generator(folder.state("eg3d"), folder.configs["eg3d"]["G_kwargs"])
    pickle = write_snapshot(tmp_path / "new.pkl", G_ema=made, D=judge)
    code, _, complaints = run("convert", pickle, tmp_path / "out.safetensors")
    assert code == 0, complaints
    assert "Warning: discriminator: left alone, " in complaints
    assert "strange.weight" in complaints
    code, _, complaints = run("convert", pickle, tmp_path / "again.safetensors", "--discriminator", tmp_path / "judge.safetensors")
    assert code == 2
    assert not (tmp_path / "again.safetensors").exists(), "all or nothing"
    assert "strange.weight" in complaints


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999], ids=["empty", "half", "all but the end"])
def test_a_truncated_file_gets_a_sentence(run, next3d_pickle, tmp_path, keep):
    data = next3d_pickle.read_bytes()
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(data[: int(len(data) * keep)])
    code, _, complaints = run("convert", broken, tmp_path / "out.safetensors")
    assert code == 2
    assert "broken.pkl" in complaints
    assert "Traceback" not in complaints
    assert len(complaints.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.pkl"]


def test_a_wrong_ending_of_the_output_is_a_sentence(run, next3d_pickle, tmp_path):
    code, _, complaints = run("convert", next3d_pickle, tmp_path / "out.pkl")
    assert code == 2
    assert ".safetensors" in complaints


def test_samples_of_an_eg3d_pickle(run, eg3d_pickle, tmp_path):
    code, printed, complaints = run("samples", "--network", eg3d_pickle, "--seeds", "0-1", "--yaw", "-20,20", "--raw", "--outdir", tmp_path)
    assert code == 0, complaints
    assert "4 files" in printed
    with Image.open(tmp_path / "seed0001.png") as image:
        assert image.size == (1024, 512)
        left, right = np.asarray(image)[:, :512].astype(int), np.asarray(image)[:, 512:].astype(int)
    assert np.abs(left - right).max() > 3, "the camera moves"


def test_samples_of_a_next3d_pickle_need_a_head(run, next3d_pickle, head, mesh, tmp_path):
    code, _, complaints = run("samples", "--network", next3d_pickle, "--seeds", "0", "--outdir", tmp_path / "out")
    assert code == 2
    assert "--obj-path" in complaints
    obj, lms = write_head(tmp_path / "head", "demo", mesh[:1], head.topology)
    posed = ("--obj-path", obj, "--lms-path", lms)
    code, _, complaints = run("samples", "--network", next3d_pickle, "--seeds", "0", "--outdir", tmp_path / "out", *posed)
    assert code == 0, complaints
    converted = tmp_path / "converted.safetensors"
    assert run("convert", next3d_pickle, converted)[0] == 0
    assert run("samples", "--network", converted, "--seeds", "0", "--outdir", tmp_path / "again", *posed)[0] == 0
    first, second = (np.asarray(Image.open(tmp_path / folder / "seed0000.png")) for folder in ("out", "again"))
    assert np.array_equal(first, second)


def test_no_file_is_written_twice_or_over_its_source(run, next3d_pickle, tmp_path):
    source = tmp_path / "source.safetensors"  # a pickle all the same: what counts is the content
    source.write_bytes(next3d_pickle.read_bytes())
    before, out = source.read_bytes(), tmp_path / "out.safetensors"
    for arguments in ([source, source], [source, out, "--raw", out], [source, out, "--discriminator", source]):
        code, _, complaints = run("convert", *arguments)
        assert code == 2
        assert "give every output a name of its own" in complaints
        assert source.read_bytes() == before
        assert not out.exists()


def test_a_network_that_cannot_be_written_gets_a_sentence(network_file, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("no space left on device")

    generator = load_generator(network_file)
    monkeypatch.setattr("next3d.checkpoint.save_file", full)
    with pytest.raises(WriteError, match=r"full\.safetensors: cannot be written \(no space left on device\)"):
        save_generator(tmp_path / "full.safetensors", generator)
    assert list(tmp_path.iterdir()) == []
