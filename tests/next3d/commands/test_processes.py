"""How a command finds out which process of a run it is, and how errors of one process reach a person."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import torch

from dnnlib.errors import ConfigError, LostProcessError, UserError
from next3d.commands.processes import find_place, told_to_launcher

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, no GPU, no launcher; and the number of threads stays what it is."""
    for name in (*TORCHRUN, "NEXT3D_REPORTS", "NEXT3D_LAUNCHER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("next3d.commands.processes.physical_cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.set_num_threads", lambda count: given.append(count))
    given.clear()


given: list[int] = []
"""Numbers of threads that were asked for."""


@pytest.mark.parametrize(
    ("gpus", "environment", "threads", "expected"),
    [
        (1, {}, None, (0, 1, False, 8)),
        (4, {}, None, (0, 4, True, 2)),
        (4, {}, 3, (0, 4, True, 3)),
        (1, TORCHRUN, None, (5, 8, False, 2)),
    ],
    ids=["alone", "launches", "launches with threads", "torchrun"],
)
def test_places(gpus, environment, threads, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = find_place(gpus, given=gpus > 1, threads=threads)
    assert (place.rank, place.ranks, place.launches, given[-1]) == expected
    assert place.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("gpus", "environment", "message"),
    [
        (3, TORCHRUN, "--gpus=3: a launcher has already started 8 processes; leave --gpus out"),
        (1, {**TORCHRUN, "LOCAL_WORLD_SIZE": "few"}, "LOCAL_WORLD_SIZE=few, expected a number"),
        (1, {"RANK": "0"}, "start with torchrun"),
    ],
    ids=["another number", "no number", "incomplete"],
)
def test_environments_that_cannot_be(gpus, environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        find_place(gpus, given=True, threads=None)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--gpus=4: this machine shows 2 GPUs; start as many processes at most"):
        find_place(4, given=True, threads=None)
    assert find_place(2, given=True, threads=None).device == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("bad file"), 2), (LostProcessError("partner is gone"), 1)], ids=["bad input", "lost"]
)
def test_errors_go_to_the_launcher_or_name_their_rank(error, code, tmp_path: Path, monkeypatch):
    with pytest.raises(type(error), match=f"^{error}$"), told_to_launcher():
        raise error
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(type(error), match=f"^rank 5: {error}$"), told_to_launcher():
        raise error
    monkeypatch.setenv("NEXT3D_REPORTS", str(tmp_path))
    with pytest.raises(click.exceptions.Exit) as caught, told_to_launcher():
        raise error
    assert caught.value.exit_code == code
    assert json.loads((tmp_path / "5.json").read_text()) == {"code": code, "message": str(error)}
