"""Disks that fill up: no half file is ever left, the last good snapshot stays, and a run says what it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import training.recorder
from dnnlib.errors import UserError, WriteError
from next3d.checkpoint import load_generator
from tests.full_disk import no_file_longer_than
from tests.training.factory import write_published
from tests.training.runs import assert_equal_states, go, quick_config
from training.dataset import open_dataset
from training.snapshots import save_snapshot
from training.state import TrainState, new_state, read_progress, resume

CPU = torch.device("cpu")


@pytest.fixture
def state(own: Path) -> TrainState:
    return new_state(quick_config(own, 2), open_dataset(own, 32).topology, CPU)


def test_a_snapshot_that_fails_at_any_byte_leaves_the_one_before(own: Path, tmp_path: Path, state: TrainState):
    """First the network's file fails, then, when that fits, the state's: moments make it the longer one."""
    config = quick_config(own, 2)
    for optimizer in state.optimizers:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    folder = tmp_path / "run"
    path = save_snapshot(folder, state, config)
    sizes = sorted(file.stat().st_size for file in folder.iterdir())
    limits = [0, 1, 7, 8, 9, 4096, *(sizes[0] * part // 5 for part in range(1, 5)), sizes[0] - 1, sizes[0], sizes[1] // 2, sizes[1] - 1]
    old = path.read_bytes()
    for limit in limits:
        state.images += 4
        with no_file_longer_than(limit), pytest.raises(WriteError, match="cannot be written"):
            save_snapshot(folder, state, config)
        assert {file.name for file in folder.iterdir()} == {"network-000000.safetensors", "network-000000.state"}
        assert path.read_bytes() == old or limit >= sizes[0]
        assert read_progress(path) <= state.images
        load_generator(folder / "network-000000.safetensors")
    resume(path, state)


def test_a_run_tries_again_at_the_next_tick(own: Path, tmp_path: Path, monkeypatch):
    """Two failures in a row are survived; nothing is different afterwards."""
    uncut = go(quick_config(own, 8), tmp_path / "uncut", say=lambda line: None)
    attempts = []

    def unlucky(folder, state, config):
        attempts.append(state.images)
        if len(attempts) in (2, 3):
            raise WriteError("network: cannot be written (No space left on device); free some space.")
        return save_snapshot(folder, state, config)

    monkeypatch.setattr(training.recorder, "save_snapshot", unlucky)
    lines: list[str] = []
    folder = go(quick_config(own, 8, snap=1), tmp_path / "full", say=lines.append)
    assert attempts == [8, 16, 24, 32]
    told = [line for line in lines if "tries again at the next tick" in line]
    assert len(told) == 2
    assert all(f"the last good one is {folder / 'network-000000.state'}" in line for line in told)
    assert_equal_states(folder, uncut)


def test_a_run_that_cannot_save_stops(own: Path, tmp_path: Path, monkeypatch):
    saved = []

    def full(folder, state, config):
        if saved:
            raise WriteError("network: cannot be written (No space left on device); free some space.")
        saved.append(save_snapshot(folder, state, config))
        return saved[0]

    monkeypatch.setattr(training.recorder, "save_snapshot", full)
    with pytest.raises(UserError, match=r"3 snapshots in a row could not be written, so the run stops at 0.032 kimg; make room and resume"):
        go(quick_config(own, 100), tmp_path / "runs", say=lambda line: None)
    assert read_progress(saved[0]) == 8


SCRIPT = """
mount -t tmpfs -o size=2m tmpfs {disk}
{python} -m next3d train --outdir {disk}/runs --cfg tiny --data {data} --batch 4 --kimg 1 --tick 0.008 --snap 1 --threads 1
echo "code $?"
cp -r {disk}/runs {kept}
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare: a small file system cannot be mounted")
def test_a_really_full_file_system(tmp_path: Path, repository: Path):
    """The first snapshot fits into two megabytes, the next ones beside it do not."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rm is not allowed here: a small file system cannot be mounted")
    data, disk, kept = write_published(tmp_path / "faces", 8, 32), tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = SCRIPT.format(disk=disk, python=sys.executable, data=data, kept=kept)
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=200
    )
    if not kept.exists():
        pytest.skip(f"tmpfs cannot be mounted: {done.stderr.strip()}")
    assert "code 2" in done.stdout, done.stdout + done.stderr
    (error,) = done.stderr.strip().splitlines()
    assert error.startswith("Error: ")
    assert "snapshots in a row could not be written" in error
    (folder,) = kept.iterdir()
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert read_progress(folder / "network-000000.state") > 0
    load_generator(folder / "network-000000.safetensors")
    for line in (folder / "stats.jsonl").read_text().splitlines():
        json.loads(line)
