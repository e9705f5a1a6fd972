"""A process of a run is killed; torchrun starts all of them again, and the run ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.processes import run_ranks
from tests.training.factory import write_published
from tests.training.runs import assert_equal_states, go
from training.conditions import fitted
from training.config import TrainConfig, default_config, with_changes
from training.dataset import open_dataset
from training.launch import shared_out
from training.state import read_progress

FLAGS = ["--cfg", "tiny", "--batch", "8", "--tick", "0.016", "--snap", "1", "--kimg", "0.064", "--threads", "1", "--resume", "auto"]


def config_of(data: Path) -> TrainConfig:
    """What the flags make, for two processes."""
    config = with_changes(default_config("tiny", str(data)), {"run.batch": 8, "run.tick": 0.016, "run.snap": 1, "run.kimg": 0.064})
    return fitted(shared_out(config, 2), open_dataset(data, 32))


def uncut(config: TrainConfig, outdir: Path) -> str:
    """One rank of a run that nobody disturbs."""
    return str(go(config, outdir, None, lambda line: None))


def torchrun(data: Path, outdir: Path, repository: Path, restarts: int) -> subprocess.Popen[str]:
    """Two processes of the command."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--max-restarts={restarts}"]
    launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--monitor-interval=0.1"]
    command = [str(repository / "train.py"), "--data", str(data), "--outdir", str(outdir), *FLAGS]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*launcher, *command], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_state(outdir: Path, process: subprocess.Popen[str]) -> Path:
    """The first snapshot."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if found := list(outdir.glob("*/network-*.state")):
            return found[0]
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.mark.slow
def test_a_killed_rank_costs_nothing_but_the_steps_since_the_last_snapshot(tmp_path: Path, repository: Path):
    data = write_published(tmp_path / "faces", 8, 32)
    reference = run_ranks(uncut, 2, config_of(data), tmp_path / "uncut")[0]
    launched = torchrun(data, tmp_path / "cut", repository, restarts=1)
    state = wait_for_state(tmp_path / "cut", launched)
    workers = sorted(psutil.Process(launched.pid).children(), key=lambda child: child.pid)
    os.kill(workers[-1].pid, signal.SIGKILL)
    assert 0 < read_progress(state) < 64, "the run was over before it was disturbed"
    printed = launched.communicate(timeout=120)[0]
    assert launched.returncode == 0, printed
    assert f"Continuing {state}" in printed
    assert_equal_states(state.parent, Path(reference))
    assert [path.parent for path in (tmp_path / "cut").rglob("*.state")] == [state.parent]
