"""Films read frame by frame at a constant rate, through the ffmpeg that comes with imageio-ffmpeg. Memory does not grow with the length."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dnnlib.errors import UserError
from next3d.tracking.read import printable
from next3d.tracking.types import Pixels

FILM_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"}
)
"""Names that count as films, lower case."""


@dataclass(frozen=True)
class Film:
    """A film whose frame k is what a viewer sees k / fps seconds after its first picture."""

    path: Path
    width: int
    height: int
    fps: float
    """Frames per second; a film of variable rate is resampled to it without drift."""
    count: int
    """Frames, as its time stamps promise; a damaged film may give fewer."""
    notes: tuple[str, ...] = ()
    """What a person may want to know: "variable frame rate, resampled to 30 a second"."""

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Pixels]:
        """Frames start ... stop-1, upright, [H, W, 3]. The same frames whatever part is asked for.

        Raises:
            UserError: not one frame can be decoded.
        """
        command = [_ffmpeg(), "-v", "error", "-nostdin", "-i", str(self.path), "-map", "0:v:0", "-an", "-sn"]
        command += [
            "-vf",
            f"setpts=PTS-STARTPTS,fps={self.fps:.6f},scale={self.width}:{self.height}",
            "-pix_fmt",
            "rgb24",
            "-f",
            "rawvideo",
            "-",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as process:
            assert process.stdout is not None  # it was asked for
            size, number = self.width * self.height * 3, 0
            try:
                while stop is None or number < stop:
                    data = process.stdout.read(size)
                    if len(data) < size:
                        break
                    if number >= start:
                        yield np.frombuffer(data, dtype=np.uint8).reshape(self.height, self.width, 3)
                    number += 1
            finally:
                process.kill()


def open_film(path: str | Path, *, fps: float | None = None) -> Film:
    """Look into a film.

    Args:
        path: any container and codec that ffmpeg knows.
        fps: rate to resample to; None keeps the film's own.

    Raises:
        UserError: missing, empty, damaged, or without pictures.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{printable(file)}: no such file.")
    text = subprocess.run(
        [_ffmpeg(), "-nostdin", "-i", str(file)], capture_output=True, stdin=subprocess.DEVNULL, check=False
    ).stderr.decode(errors="replace")
    size, rate, time = (
        re.search(r"Video:.*?, (\d{2,5})x(\d{2,5})", text),
        re.search(r"([\d.]+) fps", text),
        re.search(r"Duration: (\d+):(\d+):([\d.]+)", text),
    )
    if size is None or rate is None or time is None:
        raise UserError(f"{printable(file)}: not a film that can be read.")
    own = fps or float(rate[1])
    seconds = int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3])
    return Film(file, int(size[1]), int(size[2]), own, max(1, round(seconds * own)))


def _ffmpeg() -> str:
    """The program's path."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())
