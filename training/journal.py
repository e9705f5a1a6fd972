"""What a run writes down: `stats.jsonl`, TensorBoard's event file and, where it is asked for, Weights & Biases.

A full disk does not end a run here: records wait in memory until there is room.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from dnnlib.errors import UserError, WriteError
from dnnlib.files import AppendFile, atomic_write
from next3d.media.images import to_pixels

STATS = "stats.jsonl"
_log = logging.getLogger(__name__)


class Journal:
    """The diary of one run folder. One process writes it.

    Args:
        folder: the run's.
        images: images that the run has seen. A folder that was used before keeps its records up to there; later ones belong to steps that
            will be made again.
        say: hears of a disk that is full, once.
        project: of Weights & Biases; None does without.
        settings: the run's configuration, for Weights & Biases.

    Raises:
        UserError: the package wandb is missing.
    """

    def __init__(
        self,
        folder: Path,
        images: int,
        say: Callable[[str], None],
        *,
        project: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._say = say
        self._complained = False
        self._wandb: Any = None if project is None else _open_wandb(project, folder, settings or {})
        stats = folder / STATS
        forget_after(stats, images)
        self._stats = AppendFile(stats)
        self._board = _open_board(folder, images)

    def write(self, images: int, figures: Mapping[str, float], pictures: Mapping[str, Tensor] | None = None) -> None:
        """One record: figures by name, and pictures [3, H, W] in [-1, 1] by name (not for `stats.jsonl`, which has no empty records)."""
        record = {"images": images, "kimg": images / 1000, "timestamp": time.time(), **figures}
        record = {name: value for name, value in record.items() if math.isfinite(value)}  # JSON has no others
        drawn = {name: Image.fromarray(to_pixels(picture)) for name, picture in (pictures or {}).items()}
        try:
            if figures:
                self._stats.append(json.dumps(record).encode() + b"\n")
            if self._board is not None:
                self._board.write(images, figures, drawn)
        except WriteError as error:
            if not self._complained:
                self._say(f"{error} The run goes on; what should be there is written as soon as it fits.")
            self._complained = True
        if self._wandb is not None:
            self._log_online(images, record, drawn)

    def _log_online(self, images: int, record: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        import wandb

        self._wandb.log({**record, **{name: wandb.Image(picture) for name, picture in pictures.items()}}, step=images)

    def close(self) -> None:
        """Close all files."""
        self._stats.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def forget_after(path: Path, images: int) -> None:
    """Drop records of steps later than `images`, which will be made again, and lines that are not whole."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["images"] <= images:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    with atomic_write(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


class _Board:
    """TensorBoard's event file, written in this thread: its own writer uses one of its own, which cannot go on after a full disk."""

    def __init__(self, path: Path, images: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._file = AppendFile(path)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if images > 0:  # what an earlier process wrote about later steps is not shown
            self._append(Event(wall_time=time.time(), step=images + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, images: int, figures: Mapping[str, float], pictures: Mapping[str, Image.Image]) -> None:
        """Scalars and pictures at one step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        for name, picture in pictures.items():
            coded = BytesIO()
            picture.save(coded, format="PNG")
            shown = Summary.Image(width=picture.width, height=picture.height, colorspace=3, encoded_image_string=coded.getvalue())
            values.append(Summary.Value(tag=name, image=shown))
        self._append(Event(wall_time=time.time(), step=images, summary=Summary(value=values)))

    def _append(self, event: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        self._file.append(record.getvalue())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _open_board(folder: Path, images: int) -> _Board | None:
    """An event file, or None with a message where the package is missing."""
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401
    except ImportError:
        _log.warning("TensorBoard files are not written: the package tensorboard is missing ('pip install tensorboard').")
        return None
    try:
        return _Board(folder / f"events.out.tfevents.{time.time():.6f}", images)
    except WriteError as error:
        _log.warning("TensorBoard files are not written: %s", error)
        return None


def _open_wandb(project: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases under the folder's name; a run that goes on in its folder goes on there, too."""
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "--wandb: the package wandb is missing; install it with pip install 'next3d[wandb]' or leave --wandb out."
        ) from error
    identity = folder / "wandb-id.txt"
    if not identity.exists():
        with atomic_write(identity) as temporary:
            temporary.write_text(secrets.token_hex(8), encoding="utf-8")
    own = identity.read_text(encoding="utf-8").strip()
    return wandb.init(project=project, name=folder.name, id=own, dir=str(folder), config=dict(settings), resume="allow")
