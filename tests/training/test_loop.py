from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib.errors import CheckpointError, UserError
from next3d.checkpoint import load_generator
from next3d.config import preset
from training.config import TrainConfig, default_config
from training.dataset import open_dataset
from training.folders import make_run_folder, run_name
from training.interrupt import Stopped, StopRequest
from training.loop import train
from training.report import format_time

CPU = torch.device("cpu")


def short_config(path: Path, *, images: int = 24, batch: int = 8) -> TrainConfig:
    config = default_config("tiny", str(path))
    return replace(
        config,
        run=replace(config.run, batch=batch, kimg=images / 1000, tick=0.016, snap=1),
        loss=replace(config.loss, density_points=32),
    )


def start(config: TrainConfig, outdir: Path, resume_from: Path | None = None, lines: list[str] | None = None) -> Path:
    dataset = open_dataset(config.data.path, 32)
    say = (lines if lines is not None else []).append
    return train(config, dataset, outdir, name=run_name(config), device=CPU, resume_from=resume_from, say=say)


def test_a_run_on_published_data_leaves_everything_it_promises(published: Path, tmp_path: Path):
    """200 samples with nested folders, spaces, all colour modes and missing landmark files."""
    lines: list[str] = []
    folder = start(short_config(published), tmp_path / "runs", lines=lines)
    assert folder.name.startswith("00000-tiny-published")
    names = {path.name for path in folder.iterdir() if not path.name.startswith("events.")}
    assert names == {
        "config.json",
        "stats.jsonl",
        "reals.png",
        "fakes_init.png",
        "fakes000000.png",
        "heads_init.png",
        "heads000000.png",
        "network-000000.safetensors",
        "network-000000.state",
    }
    records = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [record["images"] for record in records] == [16, 24]
    assert all(np.isfinite(record["loss/generator"]) for record in records)
    assert sum("images/s" in line and "left" in line for line in lines) == 2
    network = load_generator(folder / "network-000000.safetensors")
    assert replace(network.config, head="") == replace(preset("tiny").generator, head="")
    with Image.open(folder / "reals.png") as reals, Image.open(folder / "fakes000000.png") as fakes:
        assert reals.size == fakes.size


def test_resuming_from_files_equals_the_uncut_run(published: Path, tmp_path: Path):
    uncut = start(short_config(published, images=40), tmp_path / "uncut")
    cut = start(short_config(published, images=16), tmp_path / "cut")
    continued = start(short_config(published, images=40), tmp_path / "cut", cut / "network-000000.state")
    assert continued.name.startswith("00001-")
    whole, rest = load_generator(uncut / "network-000000.safetensors"), load_generator(continued / "network-000000.safetensors")
    assert all(torch.equal(value, rest.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_finished_run_says_so(published: Path, tmp_path: Path):
    folder = start(short_config(published, images=8), tmp_path)
    with pytest.raises(UserError, match=r"network-000000\.state: has already seen 0\.008 kimg; give a larger --kimg"):
        start(short_config(published, images=8), tmp_path, folder / "network-000000.state")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_network_file_gives_a_start_not_a_continuation(published: Path, tmp_path: Path):
    first = start(short_config(published, images=8), tmp_path)
    second = start(short_config(published, images=8), tmp_path, first / "network-000000.safetensors")
    with Image.open(first / "fakes000000.png") as end, Image.open(second / "fakes_init.png") as begin:
        assert np.array_equal(np.asarray(end), np.asarray(begin))


def test_a_signal_ends_the_step_and_saves(published: Path, tmp_path: Path):
    """SIGTERM: the run stops early, everything is saved, and the last line says how to go on."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("kimg"):
            os.kill(os.getpid(), signal.SIGTERM)

    config = short_config(published, images=4000)
    with pytest.raises(Stopped) as stopped:
        train(config, open_dataset(published, 32), tmp_path, name="x", device=CPU, say=say)
    (folder,) = (path for path in tmp_path.iterdir() if path.name.endswith("-x"))
    state = folder / "network-000000.state"
    assert str(stopped.value).endswith(f"resume with --resume {state}")
    assert state.is_file()
    assert json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])["images"] < 100


def test_handlers_are_put_back_and_a_second_ctrl_c_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        stop.begin()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_losses_that_stay_not_finite_end_the_run(published: Path, tmp_path: Path):
    """Every step after the first is skipped; the samples of each are written down by name."""
    config = short_config(published, images=64)
    config = replace(config, generator_optimizer=replace(config.generator_optimizer, lr=1e30), run=replace(config.run, max_skipped=2))
    lines: list[str] = []
    with pytest.raises(UserError, match=r"steps were skipped because loss/\w+ was not a finite number, more than --max-skipped 2;"):
        start(config, tmp_path, lines=lines)
    (record,) = tmp_path.rglob("skipped-steps.jsonl")
    steps = [json.loads(line) for line in record.read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert steps[0]["images"] == 8
    assert len(steps[0]["names"]) == 8
    assert set(steps[0]["names"]) <= set(open_dataset(published, 32).names)
    assert any(isinstance(value, str) for value in steps[0]["losses"].values())
    assert any(line.startswith("Steps skipped: 1, from step 1 on: loss/") for line in lines)


def test_a_state_of_another_architecture_is_refused(published: Path, tmp_path: Path):
    folder = start(short_config(published, images=8), tmp_path)
    config = short_config(published)
    wider = replace(config.model.discriminator, channel_max=8)
    config = replace(config, model=replace(config.model, discriminator=wider))
    with pytest.raises(CheckpointError, match=r"network-000000\.state: .*of another architecture"):
        start(config, tmp_path / "second", folder / "network-000000.state")
    assert not (tmp_path / "second").exists()


def test_run_folders_are_numbered_on(tmp_path: Path):
    (tmp_path / "00007-old").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "00009-a-file").touch()
    assert make_run_folder(tmp_path, "name").name == "00008-name"
    assert make_run_folder(tmp_path / "new", "name").name == "00000-name"


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7s"), (59.9, "1m 00s"), (125, "2m 05s"), (3720, "1h 02m")])
def test_times_read_well(seconds, text):
    assert format_time(seconds) == text


def test_sample_as_published(shared_dir: Path, tmp_path: Path):
    """A few steps on real files of the published layout, at a reduced network size."""
    lines: list[str] = []
    config = short_config(shared_dir / "next3d-layout-sample", images=8, batch=4)
    folder = start(config, tmp_path, lines=lines)
    assert (folder / "network-000000.safetensors").is_file()
    assert load_generator(folder / "network-000000.safetensors").topology.faces.shape == (9976, 3)
