"""The files of a run, written by one process: pictures, snapshots, the journal. What cannot be written does not end a run at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from dnnlib.errors import UserError, WriteError
from dnnlib.files import FolderClaim, atomic_write, remove_leftovers
from next3d.config import to_json
from next3d.generator import Generator
from next3d.media.images import save_png
from training.anomalies import SKIPPED_STEPS
from training.config import TrainConfig
from training.journal import Journal, forget_after
from training.snapshots import SampleGrid, prune, save_snapshot
from training.state import TrainState

ATTEMPTS = 3
"""A snapshot that cannot be written is tried again at the next ticks; after so many failures in a row the run stops."""


class Recorder:
    """A run folder and what goes into it.

    Args:
        folder: the run's; files of an earlier process are gone on with.
        config: the whole run.
        grid: what pictures show.
        source: the state that the run continues, the last good one until there is a newer; None if there is none.
        images: images that the run has seen.
        say: receives lines for people.

    Raises:
        UserError: the folder cannot be written to, or another process is writing there.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, grid: SampleGrid, source: Path | None, images: int, say: Callable[[str], None]
    ) -> None:
        self.folder, self.config, self.grid, self.say = folder, config, grid, say
        self._claim = FolderClaim(folder)
        remove_leftovers(folder)
        forget_after(folder / SKIPPED_STEPS, images - 1)
        self.saved = source
        with atomic_write(folder / "config.json") as temporary:
            temporary.write_text(to_json(config) + "\n", encoding="utf-8")
        self._journal = Journal(folder, images, say, project=config.run.wandb, settings=asdict(config))
        self._failures = 0

    def begin(self, average: Generator) -> None:
        """Pictures of the beginning; those that are there already stay."""
        if not (self.folder / "reals.png").exists():
            self.grid.save_reals(self.folder / "reals.png")
        for name, picture in self._pictures(average).items():
            path = self.folder / f"{name}_init.png"
            if not path.exists():
                save_png(path, picture)

    def save(self, state: TrainState, *, last: bool) -> bool:
        """Try to write a snapshot; says whether it is there. Old states go afterwards, never before.

        Raises:
            UserError: this was the last chance, or it has failed too often.
        """
        try:
            self.saved = save_snapshot(self.folder, state, self.config)
        except (WriteError, OSError) as error:
            self._failed(error, state.images, last=last)
            return False
        self._failures = 0
        if self.config.run.keep is not None:
            prune(self.folder, self.config.run.keep)
        return True

    def draw(self, state: TrainState) -> dict[str, Tensor]:
        """Write the pictures of a snapshot; returns them by name."""
        pictures = self._pictures(state.average)
        for name, picture in pictures.items():
            try:
                save_png(self.folder / f"{name}{state.images // 1000:06d}.png", picture)
            except WriteError as error:
                self.say(str(error))
        return pictures

    def write(self, images: int, figures: dict[str, float], pictures: dict[str, Tensor] | None = None) -> None:
        """A record of the journal."""
        self._journal.write(images, figures, {f"pictures/{name}": picture for name, picture in (pictures or {}).items()})

    def close(self) -> None:
        """Close the journal and let the folder go."""
        self._journal.close()
        self._claim.release()

    def _pictures(self, average: Generator) -> dict[str, Tensor]:
        return {"fakes": self.grid.fakes(average), "heads": self.grid.heads(average)}

    def _failed(self, error: Exception, images: int, *, last: bool) -> None:
        self._failures += 1
        text = str(error).rstrip(".")
        have = "there is no snapshot yet" if self.saved is None else f"the last good one is {self.saved}"
        if last or self._failures >= ATTEMPTS:
            tried = "The last snapshot" if last else f"{self._failures} snapshots in a row"
            again = "make room and start again" if self.saved is None else f"make room and resume with --resume {self.saved}"
            raise UserError(f"{text}. {tried} could not be written, so the run stops at {images / 1000:g} kimg; {again}.") from error
        self.say(f"{text}. The run goes on and tries again at the next tick; {have}.")
