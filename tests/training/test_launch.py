from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import training.launch
from dnnlib.errors import ConfigError, LostProcessError, UserError
from tests.training.factory import write_published
from training.config import TrainConfig, default_config
from training.launch import ADVICE, EXIT_LOST, REPORTS, own_command, shared_out, start_and_watch


def never() -> bool:
    return False


def python(code: str) -> list[str]:
    """A process that knows its rank; no torch, so that it starts at once."""
    return [sys.executable, "-c", f"import os, pathlib, signal, sys, time\nrank = int(os.environ['RANK'])\n{code}"]


def report(rank: int, code: int, message: str) -> str:
    """Code with which one rank leaves a report as `leave_report` does."""
    line = f'{{"code": {code}, "message": "{message}"}}'
    return f"if rank == {rank}:\n    pathlib.Path(os.environ[{REPORTS!r}], f'{rank}.json').write_text({line!r})\n    sys.exit({code})\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.launch, "PATIENCE_SECONDS", 0.3)


def test_processes_learn_who_they_are(tmp_path: Path):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    code = f"pathlib.Path({str(tmp_path)!r}, str(rank)).write_text(' '.join(os.environ[name] for name in {names}))"
    start_and_watch(python(code), 3, never)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {str(rank): f"{rank} {rank} 3 3 127.0.0.1" for rank in range(3)}


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)",
            LostProcessError,
            f"rank 1 was killed by SIGKILL .*{ADVICE}",
        ),
        ("sys.exit(3 if rank == 1 else 0)", LostProcessError, "rank 1 ended with exit code 3"),
        (report(1, 2, "bad file") + report(0, EXIT_LOST, "partner is gone"), UserError, "^bad file$"),
        (
            report(0, EXIT_LOST, "partner is gone") + "os.kill(os.getpid(), signal.SIGSEGV)",
            LostProcessError,
            "rank 1 was killed by SIGSEGV",
        ),
    ],
    ids=["killed", "crashed", "bad input and its echo", "killed and its echo"],
)
def test_one_sentence_says_why_a_run_ended(code, kind, message):
    """And it ends soon, although others wait."""
    begun = time.monotonic()
    with pytest.raises(kind, match=message):
        start_and_watch(python(code), 2, never)
    assert time.monotonic() - begun < 30


def test_a_stop_is_passed_on(tmp_path: Path):
    """Every process gets SIGTERM; what they do about it is their success."""
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        f"pathlib.Path({str(tmp_path)!r}, str(rank)).touch()\ntime.sleep(60)\nsys.exit(1)"
    )
    start_and_watch(python(code), 2, lambda: len(list(tmp_path.iterdir())) == 2)


def test_a_stop_before_anything_was_ready_is_no_failure():
    """Who is not reached by the signal would fail."""
    start_and_watch(python("time.sleep(60)\nsys.exit(1)"), 2, lambda: True)


def config(batch: int, batch_gpu: int | None, group: int) -> TrainConfig:
    plain = default_config("tiny", "data")
    model = replace(plain.model, discriminator=replace(plain.model.discriminator, group_size=group))
    return replace(plain, model=model, run=replace(plain.run, batch=batch, batch_gpu=batch_gpu))


@pytest.mark.parametrize(
    ("batch", "batch_gpu", "ranks", "part"),
    [(32, None, 8, 4), (32, 4, 2, 4), (32, 8, 4, 8), (8, None, 1, None)],
    ids=["one part", "four parts", "just fits", "alone"],
)
def test_shares_of_a_batch(batch, batch_gpu, ranks, part):
    assert shared_out(config(batch, batch_gpu, 4), ranks).run.batch_gpu == part


@pytest.mark.parametrize(
    ("batch", "batch_gpu", "ranks", "message"),
    [
        (32, None, 3, "--batch=32 cannot be shared out to 3 processes"),
        (32, 16, 4, "is 8 for each of 4 processes, not a multiple of --batch-gpu=16"),
        (16, None, 8, "in parts of 2; the minibatch standard deviation needs multiples of 4"),
    ],
    ids=["uneven", "part larger than share", "groups cut"],
)
def test_batches_that_cannot_be_shared_out(batch, batch_gpu, ranks, message):
    with pytest.raises(ConfigError, match=message):
        shared_out(config(batch, batch_gpu, 4), ranks)


def test_two_ranks_from_the_command_line(tmp_path: Path):
    """One run folder, named after both; the second rank's bad news arrive once, as a sentence."""
    data = write_published(tmp_path / "faces", 8, 32)
    arguments = ["train", "--outdir", str(tmp_path / "runs"), "--cfg", "tiny", "--data", str(data), "--batch", "4", "--mbstd-group", "2"]
    arguments += ["--kimg", "0.008", "--density-reg", "0", "--threads", "1", "--gpus", "2"]
    done = subprocess.run(own_command(arguments), capture_output=True, text=True, cwd=tmp_path, env={**os.environ}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Run folder:") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "00000-tiny-faces-gpus2-batch4-gamma0.2"
    assert (folder / "network-000000.state").is_file()
    assert 'batch_gpu": 2' in (folder / "config.json").read_text()
