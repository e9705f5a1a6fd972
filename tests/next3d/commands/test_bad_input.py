"""Mistakes in the input of `next3d train` and `next3d data` are one line that names the thing, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from next3d.commands.main import root, run_command

TRAIN = ("train", "--outdir", "{tmp}/runs", "--cfg", "tiny", "--data", "{tmp}/data.zip", "--threads", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*TRAIN, "--cfg", "demo-65"), "demo-65"),
        ((*TRAIN, "--data", "{tmp}/missing.zip"), "{tmp}/missing.zip"),
        (TRAIN, "{tmp}/data.zip"),
        ((*TRAIN, "--data", "{tmp}/empty"), "{tmp}/empty"),
        ((*TRAIN, "--outdir", "{tmp}/data.zip/runs"), "not a folder"),
        ((*TRAIN, "--resume", "{tmp}/missing.state"), "missing.state"),
        (("data", "synthetic", "--num", "1", "--out", "{tmp}/data.zip/new.zip"), "{tmp}/data.zip"),
        (("data", "synthetic", "--num", "1", "--out", "{tmp}/data.zip"), "{tmp}/data.zip"),
        (("data", "check", "{tmp}/data.zip"), "{tmp}/data.zip"),
        (("data", "check", "{tmp}/missing.zip"), "{tmp}/missing.zip"),
    ],
    ids=[
        "unknown preset",
        "missing data",
        "cut zip",
        "no labels",
        "unwritable outdir",
        "missing state",
        "unwritable data",
        "existing data",
        "check cut zip",
        "check missing",
    ],
)
def test_one_line_and_nothing_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], message: str
):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    (tmp_path / "data.zip").write_bytes(b"PK\x03\x04 and then the connection broke")
    (tmp_path / "empty").mkdir()
    code = run_command(root, [argument.format(tmp=tmp_path) for argument in arguments], name="next3d")
    printed = capsys.readouterr().err
    assert code == 2
    assert printed.startswith("Error: ") or arguments[1] == "check", "a check lists problems instead"
    assert len(printed.splitlines()) == 1
    assert message.format(tmp=tmp_path) in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.zip", "empty"]
