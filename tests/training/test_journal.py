"""What a run writes down, and what becomes of it when the run goes on elsewhere or the disk is full."""

from __future__ import annotations

import json
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import training.loop
from dnnlib.errors import UserError, WriteError
from dnnlib.files import AppendFile
from tests.training.runs import CPU, assert_equal_states, go, quick_config
from training.anomalies import SKIPPED_STEPS, WINDOW, Anomalies
from training.dataset import open_dataset
from training.journal import Journal
from training.report import Clock, Statistics, progress_line
from training.snapshots import build_grid
from training.state import new_state
from training.trainer import SkippedStep

PICTURE = torch.linspace(-1, 1, 48).view(3, 4, 4)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


def write(folder: Path, images: int, *steps: int, **options: Any) -> list[str]:
    said: list[str] = []
    journal = Journal(folder, images, said.append, **options)
    for step in steps:
        journal.write(step, {"loss/generator": step / 8, "odd": float("nan")}, {"pictures/heads": PICTURE})
    journal.close()
    return said


def test_a_run_that_goes_on_forgets_what_it_makes_again(tmp_path: Path):
    write(tmp_path, 0, 8, 16, 24)
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write('{"images": 3')  # a power failure
    write(tmp_path, 16, 24, 32)
    assert [record["images"] for record in records(tmp_path)] == [8, 16, 24, 32]
    assert records(tmp_path)[0] == {"images": 8, "kimg": 0.008, "timestamp": records(tmp_path)[0]["timestamp"], "loss/generator": 1.0}


def test_tensorboard_shows_figures_and_pictures_once(tmp_path: Path):
    """The events of steps that are made again are replaced."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write(tmp_path, 0, 8, 16, 24)
    write(tmp_path, 16, 24, 32)
    board = accumulator.EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss/generator")] == [(8, 1), (16, 2), (24, 3), (32, 4)]
    pictures = board.Images("pictures/heads")
    assert [picture.step for picture in pictures] == [8, 16, 24, 32]
    assert (pictures[0].width, pictures[0].height) == (4, 4)


def test_a_full_disk_is_told_once_and_nothing_is_lost(tmp_path: Path, monkeypatch):
    journal_says: list[str] = []
    journal = Journal(tmp_path, 0, journal_says.append)
    append, full = AppendFile._write, [True]

    def refuse(file, record):
        if full[0]:
            raise OSError(28, "No space left on device")
        append(file, record)

    monkeypatch.setattr(AppendFile, "_write", refuse)
    journal.write(8, {"a": 1.0})
    journal.write(16, {"a": 2.0})
    full[0] = False
    journal.write(24, {"a": 3.0})
    journal.close()
    assert [record["a"] for record in records(tmp_path)] == [1, 2, 3]
    assert len(journal_says) == 1
    assert "No space left on device" in journal_says[0]


class StandIn(ModuleType):
    """As much of the package wandb as a run uses."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **settings: Any) -> StandIn:
        self.started = settings
        return self

    def log(self, record: dict[str, Any], step: int) -> None:
        self.logged.append((step, record))

    def finish(self) -> None:
        self.finished += 1

    def Image(self, picture: Any) -> tuple[int, int]:
        return picture.size


def test_weights_and_biases_get_the_same(tmp_path: Path, monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    folder = tmp_path / "00000-tiny"
    folder.mkdir()
    write(folder, 0, 8, project="heads", settings={"preset": "tiny"})
    assert stand_in.started["project"] == "heads"
    assert stand_in.started["name"] == "00000-tiny"
    assert stand_in.started["config"] == {"preset": "tiny"}
    ((step, record),) = stand_in.logged
    assert step == 8
    assert record["loss/generator"] == 1
    assert record["pictures/heads"] == (4, 4)
    assert stand_in.finished == 1
    first = stand_in.started["id"]
    write(folder, 8, 16, project="heads")
    assert stand_in.started["id"] == first, "a run that goes on is one curve"


def test_weights_and_biases_are_imported_only_when_asked_for(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    write(tmp_path, 0, 8)
    with pytest.raises(UserError, match=r"--wandb: the package wandb is missing; install it with pip install 'next3d\[wandb\]'"):
        write(tmp_path, 0, 8, project="heads")


def test_a_tick_says_how_fast_how_long_and_how_well():
    figures = Clock(goal=4000, images=0).tick(1000) | {"loss/generator": 0.5, "augment/strength": 0.25}
    line = progress_line(1032, figures)
    for part in ("kimg 1.032", "images/s", "s/kimg", "left ", "memory ", "loss G 0.500", "augment 0.250"):
        assert part in line
    assert {"memory/cpu_gib", "memory/cpu_peak_gib", "time/seconds_left"} <= figures.keys()
    assert figures["memory/cpu_gib"] <= figures["memory/cpu_peak_gib"] * 1.01
    assert figures["time/seconds_left"] == pytest.approx(3 * figures["time/seconds_per_kimg"])


def test_means_leave_out_what_is_not_finite():
    statistics = Statistics()
    statistics.add("a", torch.tensor([1.0, float("nan"), 3.0]))
    statistics.add("a", torch.tensor([5.0, float("inf")]))
    statistics.add("b", torch.tensor(float("nan")))
    assert statistics.take() == {"a": 3.0}
    assert statistics.take() == {}


def skipped(step: int) -> SkippedStep:
    return SkippedStep(step, step * 4, (0, 2), {"loss/generator": float("inf"), "loss/real": 0.5})


def test_skipped_steps_are_written_down_by_name(tmp_path: Path):
    said: list[str] = []
    Anomalies(20, "abc".__getitem__, tmp_path, said.append).judge([skipped(7)], None)
    (record,) = [json.loads(line) for line in (tmp_path / SKIPPED_STEPS).read_text().splitlines()]
    assert record == {"step": 7, "images": 28, "items": [0, 2], "losses": {"loss/generator": "inf", "loss/real": 0.5}, "names": ["a", "c"]}
    assert said == ["Steps skipped: 1, from step 7 on: loss/generator was not a finite number. Their samples are in skipped-steps.jsonl."]


def test_rare_skipped_steps_are_tolerated_and_many_are_not(tmp_path: Path):
    anomalies = Anomalies(3, str, None, lambda line: None)
    for step in range(0, 50 * WINDOW, WINDOW // 3 + 1):
        anomalies.judge([skipped(step)], None)
    assert anomalies.total == 150
    with pytest.raises(UserError, match=r"\d of the last 1000 steps .* more than --max-skipped 3; resume from last\.state with a lower"):
        anomalies.judge([skipped(50 * WINDOW + number) for number in range(4)], Path("last.state"))


def test_a_sheet_has_a_face_per_row_and_a_head_per_column(own: Path):
    """All cells of a row are the same latents under the same condition; down a column, heads and cameras are the same."""
    config = quick_config(own, 2)
    dataset = open_dataset(own, 32)
    asked: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    generator = new_state(config, dataset.topology, CPU).average

    def watched(z, c, mesh, *, camera):
        asked.append((z, c, camera.to_label()))
        return type(generator).forward(generator, z, c, mesh, camera=camera)

    generator.forward = watched
    picture = build_grid(dataset, config).heads(generator)
    assert picture.shape == (3, 4 * 32, 6 * 32)
    latents, conditions, cameras = (torch.cat(parts).view(4, 6, -1) for parts in zip(*asked, strict=True))
    assert (latents == latents[:, :1]).all()
    assert (conditions == conditions[:1, :1]).all()
    assert (cameras == cameras[:1]).all()
    assert len(cameras[0].unique(dim=0)) == 6


def test_a_loader_process_that_is_killed_costs_nothing(own: Path, tmp_path: Path, monkeypatch):
    """The run goes on with new ones, and ends like one that was left alone."""
    uncut = go(quick_config(own, 4), tmp_path / "uncut", say=lambda line: None)
    config = quick_config(own, 4)
    config = replace(config, data=replace(config.data, workers=1))
    inner = training.loop.Trainer.step

    def kills(trainer, batch):
        if trainer.state.step == 1:
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
        inner(trainer, batch)

    monkeypatch.setattr(training.loop.Trainer, "step", kills)
    assert_equal_states(go(config, tmp_path / "killed", say=lambda line: None), uncut)


def test_no_room_for_a_new_file(tmp_path: Path):
    with pytest.raises(WriteError, match="cannot be written"):
        AppendFile(tmp_path / "missing" / "log")
