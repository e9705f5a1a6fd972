"""Run folders: `00000-demo-64-data-gpus1-batch16-gamma1`, numbered as users of this field know them; and which one a run continues."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import make_output_folder
from training.config import TrainConfig
from training.state import STATE_SUFFIX, read_progress

_STATE_NAME = re.compile(rf"network-(\d+)\{STATE_SUFFIX}")


def run_name(config: TrainConfig, description: str = "", gpus: int = 1) -> str:
    """What a run's folder is called after its number.

    Raises:
        ConfigError: the description cannot be part of a folder's name.
    """
    if re.search(r"[/\\\x00-\x1f]", description):
        raise ConfigError(f"--desc={description!r}: becomes part of a folder's name; leave out slashes")
    data = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(config.data.path).absolute().stem)
    parts = [config.preset, data, f"gpus{gpus}", f"batch{config.run.batch}", f"gamma{config.loss.gamma:g}"]
    return "-".join([*parts, description] if description else parts)


def make_run_folder(outdir: Path, name: str) -> Path:
    """Create the folder with the next free number.

    Raises:
        UserError: it cannot be created.
    """
    make_output_folder(outdir)
    return make_output_folder(outdir / f"{max(_runs(outdir), default=-1) + 1:05d}-{name}")


def newest_run(outdir: Path, name: str) -> Path | None:
    """The run folder with the highest number among those with this name; None if there is none.

    The number of processes in the name does not count: a run goes on with as many as are left.
    """
    wanted = _without_processes(name)
    named = {number: path for number, path in _runs(outdir).items() if _without_processes(path.name.partition("-")[2]) == wanted}
    return named[max(named)] if named else None


def newest_state(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The complete state in a run folder that has seen the most images; None if there is none. `say` hears of those passed over."""
    found: dict[int, Path] = {}
    for path in states_in(folder):
        try:
            found[read_progress(path)] = path
        except CheckpointError as error:
            say(f"Passed over: {error}")
    return found[max(found)] if found else None


def states_in(folder: Path) -> list[Path]:
    """Resume states of a run, oldest first."""
    numbered = {path: match for path in folder.iterdir() if (match := _STATE_NAME.fullmatch(path.name))}
    return sorted(numbered, key=lambda path: int(numbered[path][1]))


def _runs(outdir: Path) -> dict[int, Path]:
    """Numbered folders."""
    if not outdir.is_dir():
        return {}
    return {int(match[0]): path for path in outdir.iterdir() if (match := re.match(r"\d+", path.name)) and path.is_dir()}


def _without_processes(name: str) -> str:
    return re.sub(r"-gpus\d+-", "-", name, count=1)
