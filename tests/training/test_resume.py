"""Where a run goes on, and that what it goes on to is what it would have been."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import training.loop
from dnnlib.errors import ConfigError, UserError
from next3d.commands.main import run_command
from next3d.commands.train import train as command
from tests.processes import run_ranks
from tests.training.runs import assert_equal_states, go, quick_config
from training.config import TrainConfig, default_config
from training.dataset import open_dataset
from training.folders import newest_run, run_name, states_in
from training.interrupt import Stopped, StopRequest
from training.snapshots import prune
from training.state import new_state, read_progress, resume, save_state

CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is cleaned up that a signal would not clean up."""


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the run die in the middle of a step."""
    inner = training.loop.Trainer.step

    def dies(trainer, batch):
        inner(trainer, batch)
        if trainer.state.step == step:
            raise Killed

    monkeypatch.setattr(training.loop.Trainer, "step", dies)


@pytest.fixture
def finished(own: Path, tmp_path: Path) -> Path:
    """A run of one step."""
    return go(quick_config(own, 1), tmp_path / "finished", say=lambda line: None)


def test_auto_goes_on_bit_by_bit_in_the_same_folder(own: Path, tmp_path: Path):
    """Killed twice: before the first snapshot and between two."""
    uncut = go(quick_config(own, 6), tmp_path / "uncut", say=lambda line: None)
    for step in (1, 5):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            killed_at(patch, step)
            go(quick_config(own, 6), tmp_path / "cut", "auto")
    lines: list[str] = []
    folder = go(quick_config(own, 6), tmp_path / "cut", "auto", lines.append)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [folder.name]
    assert f"Continuing {folder / 'network-000000.state'}" in lines
    assert_equal_states(folder, uncut)
    records = [[json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()] for run in (folder, uncut)]
    assert [record["images"] for record in records[0]] == [8, 16, 24]
    losses = [[{name: value for name, value in record.items() if "loss/" in name} for record in run] for run in records]
    assert losses[0] == losses[1]


def adaptive(own: Path, **run) -> TrainConfig:
    """Six steps with augmentation whose strength moves with every second one."""
    config = quick_config(own, 6, **run)
    return replace(config, augment=replace(config.augment, kind="ada", p=0.2, interval=2, speed_kimg=0.1))


def stops_after_each_step(config: TrainConfig, outdir: Path) -> str:
    """A run that is asked to stop in every step and goes on again, until it has reached its goal."""
    inner = training.loop.Trainer.step

    def asked(trainer, batch):
        inner(trainer, batch)
        request.asked = True

    training.loop.Trainer.step = asked
    try:
        while True:
            with suppress(Stopped), StopRequest() as request:
                return str(go(config, outdir, "auto", lambda line: None, request))
    finally:
        training.loop.Trainer.step = inner


def test_a_run_cut_after_every_step_equals_the_uncut_one(own: Path, tmp_path: Path):
    config = adaptive(own)
    uncut = go(config, tmp_path / "uncut", say=lambda line: None)
    cut = stops_after_each_step(config, tmp_path / "cut")
    assert_equal_states(Path(cut), uncut)
    assert load_file(uncut / "network-000000.state")["counter.augment.strength"] != 0.2


def test_auto_with_nothing_left_to_do_does_nothing(own: Path, finished: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    lines: list[str] = []
    assert go(quick_config(own, 1), finished.parent, "auto", lines.append) == finished
    assert lines[-1].endswith("has already seen 0.004 kimg; nothing is left to do.")
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_auto_passes_over_what_cannot_be_read(own: Path, finished: Path):
    whole = finished / "network-000000.state"
    (finished / "network-000007.state").write_bytes(whole.read_bytes()[:-1])
    (finished / "network-000008.state").write_bytes(b"")
    lines: list[str] = []
    go(quick_config(own, 1), finished.parent, "auto", lines.append)
    assert sum(line.startswith("Passed over: ") for line in lines) == 2
    assert f"Continuing {whole}" in lines


def test_the_newest_run_of_a_name_whatever_the_number_of_processes(tmp_path: Path):
    for name in (
        "00000-tiny-own-gpus1-batch4",
        "00003-tiny-own-gpus2-batch4",
        "00007-tiny-own-gpus1-batch8",
        "00009-tiny-own-gpus1-batch4-x",
    ):
        (tmp_path / name).mkdir()
    found = newest_run(tmp_path, "tiny-own-gpus8-batch4")
    assert found is not None
    assert found.name.startswith("00003-")
    assert newest_run(tmp_path, "other") is None
    assert newest_run(tmp_path / "missing", "other") is None


def two_ranks(config, outdir: Path, kill_at: int | None) -> str:
    """One rank of a run; rank 1 dies in the middle of a step."""
    if kill_at is not None and os.environ["RANK"] == "1":
        inner = training.loop.Trainer.step

        def dies(trainer, batch):
            if trainer.state.step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            inner(trainer, batch)

        training.loop.Trainer.step = dies  # this process ends here
    return str(go(config, outdir, "auto", lambda line: None))


def test_two_ranks_one_killed_continue_bit_by_bit(own: Path, tmp_path: Path):
    config = adaptive(own, batch=8, tick=0.016, kimg=0.032)  # four steps
    folders = run_ranks(two_ranks, 2, config, tmp_path / "uncut", None)
    assert folders[0] == folders[1]
    with pytest.raises(AssertionError, match=r"rank . (died|failed)"):
        run_ranks(two_ranks, 2, config, tmp_path / "cut", 3)
    (state,) = tmp_path.glob("cut/*/*.state")
    assert read_progress(state) == 16
    again = run_ranks(two_ranks, 2, config, tmp_path / "cut", None)
    assert_equal_states(Path(again[0]), Path(folders[0]))


def test_counters_travel_with_the_state(own: Path, tmp_path: Path):
    config = default_config("tiny", str(own))
    topology = open_dataset(own, 32).topology
    first = new_state(config, topology, CPU)
    first.counters |= {"strength": torch.tensor(0.25, dtype=torch.float64), "signs": torch.arange(3)}
    save_state(tmp_path / "a.state", first, config)
    second = new_state(config, topology, CPU)
    resume(tmp_path / "a.state", second)
    assert second.counters.keys() == first.counters.keys()
    for name, value in first.counters.items():
        assert second.counters[name].dtype == value.dtype
        assert torch.equal(second.counters[name], value)


def test_the_newest_states_and_all_networks_stay(own: Path, tmp_path: Path):
    config = default_config("tiny", str(own))
    state = new_state(config, open_dataset(own, 32).topology, CPU)
    for kimg in (9, 10, 200):
        state.images = kimg * 1000
        save_state(tmp_path / f"network-{kimg:06d}.state", state, config)
        (tmp_path / f"network-{kimg:06d}.safetensors").touch()
    damaged = tmp_path / "network-999999.state"
    damaged.write_bytes(b"half")
    removed = prune(tmp_path, 2)
    assert [path.name for path in removed] == ["network-000009.state"]
    assert [path.name for path in states_in(tmp_path)] == ["network-000010.state", "network-000200.state", damaged.name]
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_a_signal_during_start_up_ends_it_at_once():
    with pytest.raises(Stopped, match="before the first step"), StopRequest():
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_echo_of_the_first_signal_is_not_a_second_one():
    with StopRequest(echo=60) as stop:
        stop.begin()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["start", "step"])
def test_the_command_stops_with_code_0(own: Path, tmp_path: Path, capsys, monkeypatch, when: str, number: int):
    name = "new_state" if when == "start" else "progress_line"
    inner = getattr(training.loop, name)

    def struck(*arguments, **named):
        monkeypatch.setattr(training.loop, name, inner)  # once is enough: a second SIGINT would not wait
        os.kill(os.getpid(), number)
        return inner(*arguments, **named)

    monkeypatch.setattr(training.loop, name, struck)
    arguments = f"--outdir {tmp_path / 'runs'} --cfg tiny --data {own} --batch 4 --kimg 100 --tick 0.004 --threads 1"
    assert run_command(command, arguments.split()) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    if when == "start":
        assert last == "Stopped before the first step; nothing was lost."
        assert not (tmp_path / "runs").exists()
    else:
        (state,) = tmp_path.rglob("*.state")
        assert last == f"Stopped after {read_progress(state) / 1000:g} kimg; resume with --resume {state}"


def test_a_state_from_the_future_is_no_start_without_more_to_do(own: Path, finished: Path):
    with pytest.raises(UserError, match="give a larger --kimg"):
        go(quick_config(own, 1), finished.parent, finished / "network-000000.state")


def test_run_names_count_processes(own: Path):
    assert run_name(default_config("tiny", str(own)), gpus=8) == "tiny-own-gpus8-batch8-gamma0.2"
    with pytest.raises(ConfigError, match="--desc='a/b': becomes part of a folder's name"):
        run_name(default_config("tiny", str(own)), "a/b")
