"""Several processes of one training on this machine: started, watched, and ended together.

Each process runs the command that a person typed, in an environment as `torchrun` makes it, so there is one way to join a group. The
launcher holds the meeting point (a store on a free port) and waits. If a process dies, the others notice within moments or are ended,
and the launcher says in one sentence which one it was and why: processes leave that sentence in a file for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dnnlib.errors import ConfigError, LostProcessError, UserError
from training.config import TrainConfig

LAUNCHER = "NEXT3D_LAUNCHER"
"""Environment variable of started processes: the launcher's process number."""
REPORTS = "NEXT3D_REPORTS"
"""Environment variable of started processes: the folder where they say why they failed."""
EXIT_LOST = 1
"""Exit code of a process whose partners are gone, and of a launcher that lost one."""
EXIT_INTERRUPTED = 130
"""Exit code of a command that a second Ctrl-C interrupts."""
PATIENCE_SECONDS = 5.0
"""After one process has failed, the others have so long to notice; a GPU that waits for a lost partner never does."""
ADVICE = "nothing is lost but the steps since the last snapshot; go on with --resume auto"


@dataclass(frozen=True)
class Failure:
    """Why a process failed."""

    rank: int
    code: int
    """Exit code; negative: minus the signal that killed it."""
    message: str | None = None
    """What it left for us."""

    @property
    def stopped(self) -> bool:
        """Whether this is how a process ends that was asked to stop before it had anything to save, or whose partner was."""
        return self.code in (-signal.SIGTERM, -signal.SIGINT, EXIT_INTERRUPTED) or (self.code == EXIT_LOST and self.message is not None)

    @property
    def weight(self) -> tuple[int, int]:
        """Smaller is nearer to the cause: bad input, then a killed process, a crash, and last those who only lost a partner."""
        kinds = [self.message is not None and self.code != EXIT_LOST, self.code < 0, self.message is None]
        return (kinds.index(True) if any(kinds) else len(kinds), self.rank)


def shared_out(config: TrainConfig, ranks: int) -> TrainConfig:
    """The configuration for several ranks: `run.batch_gpu` is what each of them takes at once.

    Raises:
        ConfigError: the batch cannot be shared out.
    """
    if ranks == 1:
        return config
    run, group = config.run, config.model.discriminator.group_size
    if run.batch % ranks:
        raise ConfigError(f"run: --batch={run.batch} cannot be shared out to {ranks} processes; give a multiple of {ranks}")
    share = run.batch // ranks
    part = run.batch_gpu or share
    if share % part:
        raise ConfigError(f"run: --batch={run.batch} is {share} for each of {ranks} processes, not a multiple of --batch-gpu={part}")
    if part % group:
        raise ConfigError(
            f"run: --batch={run.batch} is {share} for each of {ranks} processes in parts of {part}; the minibatch standard deviation "
            f"needs multiples of {group}, give a larger --batch or a smaller --mbstd-group"
        )
    return replace(config, run=replace(run, batch_gpu=part))


def own_command(arguments: Sequence[str]) -> list[str]:
    """How to run `next3d ARGUMENTS` in a new process, with the packages that this one has, whatever its working folder holds."""
    root = str(Path(__file__).resolve().parent.parent)
    code = f"import sys; sys.path[0] = {root!r}; from next3d.commands.main import main; main()"
    return [sys.executable, "-c", code, *arguments]


def start_and_watch(command: Sequence[str], count: int, asked: Callable[[], bool]) -> None:
    """Run a command in `count` processes until all have finished.

    Args:
        command: program and arguments.
        count: processes; each finds its number in RANK and LOCAL_RANK.
        asked: whether somebody wants the run to stop; processes then get SIGTERM and time to finish their step and save.

    Raises:
        UserError: a process reported bad input.
        LostProcessError: a process was killed or crashed.
    """
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="next3d-") as reports:
        shared = {"MASTER_PORT": str(store.port), REPORTS: reports, LAUNCHER: str(os.getpid())}
        processes = [_start(command, rank, count, shared) for rank in range(count)]
        try:
            codes = _watch(processes, asked)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        failures = [_failure(rank, code, Path(reports)) for rank, code in enumerate(codes) if code]
    if asked() and all(failure.stopped for failure in failures):
        return
    if failures:
        raise _error(min(failures, key=lambda failure: failure.weight))


def follow_launcher(environment: Mapping[str, str]) -> None:
    """Let a lost launcher end this process as SIGTERM would. On Linux; elsewhere, and without a launcher, nothing happens."""
    if LAUNCHER not in environment or not sys.platform.startswith("linux"):
        return
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)
    if os.getppid() != int(environment[LAUNCHER]):  # it was gone before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def leave_report(environment: Mapping[str, str], rank: int, code: int, message: str) -> bool:
    """Tell the launcher why this process ends; False if none listens."""
    if REPORTS not in environment:
        return False
    Path(environment[REPORTS], f"{rank}.json").write_text(json.dumps({"code": code, "message": message}), encoding="utf-8")
    return True


def _start(command: Sequence[str], rank: int, count: int, shared: Mapping[str, str]) -> subprocess.Popen[bytes]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "TORCHELASTIC_RESTART_COUNT": 0}
    usual = {
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",  # no machine's name needs to be resolved
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # it warns of looking for unused parameters, which is meant
    }
    environment = {**usual, **os.environ, **{name: str(value) for name, value in own.items()}, **shared}
    environment |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return subprocess.Popen(command, env=environment)


def _watch(processes: Sequence[subprocess.Popen[bytes]], asked: Callable[[], bool]) -> list[int | None]:
    """Wait until all have ended, or one has failed and the others had their time; exit codes, None for those who still run."""
    told, failed_at = False, None
    while True:
        codes = [process.poll() for process in processes]
        if None not in codes:
            return codes
        if asked() and not told:
            told = True
            for process in processes:
                process.terminate()
        if any(codes):
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > PATIENCE_SECONDS:
                return codes
        time.sleep(0.05)


def _failure(rank: int, code: int, reports: Path) -> Failure:
    try:
        found = json.loads((reports / f"{rank}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Failure(rank, code)
    return Failure(rank, int(found["code"]), found["message"])


def _error(cause: Failure) -> Exception:
    """The cause as one sentence."""
    if cause.message is not None:
        return UserError(cause.message) if cause.code != EXIT_LOST else LostProcessError(cause.message)
    if cause.code < 0:
        name = signal.Signals(-cause.code).name
        memory = " (out of memory?)" if name == "SIGKILL" else ""
        return LostProcessError(f"training: the process of rank {cause.rank} was killed by {name}{memory}; {ADVICE}.")
    return LostProcessError(
        f"training: the process of rank {cause.rank} ended with exit code {cause.code}, its own words are above; {ADVICE}."
    )
