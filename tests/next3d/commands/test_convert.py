"""`next3d convert --half`: our own networks at half their size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from next3d.checkpoint import load_animatable, read_network_metadata

Run = Callable[..., tuple[int, str]]


def test_a_network_of_ours_at_half_its_size(run: Run, network_file: Path, tmp_path: Path):
    out = tmp_path / "half.safetensors"
    assert run("convert", network_file, out, "--half") == (0, "")
    assert out.stat().st_size < network_file.stat().st_size
    assert read_network_metadata(out) == read_network_metadata(network_file)
    for name, value in load_animatable(network_file).state_dict().items():
        assert (load_animatable(out).state_dict()[name] - value).abs().max() <= 1e-3 * value.abs().max(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [((), "a network of ours already"), (("--half", "--raw", "raw.safetensors"), "for published pickles")],
    ids=["as it is", "raw"],
)
def test_what_makes_no_sense_is_a_sentence(run: Run, network_file: Path, tmp_path: Path, options, message):
    code, printed = run("convert", network_file, tmp_path / "out.safetensors", *options)
    assert code == 2
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_pickles_are_converted_first(run: Run, tmp_path: Path):
    (tmp_path / "published.pkl").write_bytes(b"\x80\x04.")
    code, printed = run("convert", tmp_path / "published.pkl", tmp_path / "out.safetensors", "--half")
    assert code == 2
    assert "convert it first" in printed
