"""Films read frame by frame at a constant rate, through the ffmpeg that comes with imageio-ffmpeg. Memory does not grow with the length.

Frame k is what a viewer sees k / fps seconds after the first picture: the picture whose time stamp is nearest before, on a grid of constant
rate. A film of constant rate passes picture by picture; one of variable rate has pictures repeated or left out, and never drifts.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dnnlib.errors import UserError
from next3d.tracking.read import printable
from next3d.tracking.types import Pixels

FILM_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv"}
)
"""Names that count as films, lower case."""
LONGEST_SIDE = 3840
"""Pixels; larger films are reduced while they are decoded."""
_ONE_PICTURE = 25.0
"""Frames per second of a film that has a single picture."""
_FASTEST = 120.0
_LARGEST_STRETCH = 20
"""Frames of the constant rate per picture in the film above which its time stamps cannot be meant."""
_SEEKABLE = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".3gp"})
"""Containers with an index, so that reading can begin in the middle; others are decoded from their beginning."""
_NO_STAMP = ("NOPTS", str(-(2**63)))
_EMPTY_WORDS = ("Error opening", "Conversion failed", "Nothing was written", "Output file")
"""How those lines of ffmpeg's begin that do not say what is wrong."""
_RUN_UP = 3.0
"""Seconds before the first wanted frame at which reading begins."""


@dataclass(frozen=True)
class Film:
    """A film as frames of a constant rate. Get one from `open_film`."""

    path: Path
    width: int
    """Pixels as it is seen: turned as its rotation says, with square pixels."""
    height: int
    fps: float
    """Frames per second; another rate (`dataclasses.replace`) resamples the film to that."""
    count: int
    """Frames, as its time stamps promise; a damaged film may give fewer."""
    begin: float = 0.0
    """Time stamp of the first picture, seconds."""
    timed: bool = True
    """False if its time stamps cannot be used: pictures are then taken one by one."""
    notes: tuple[str, ...] = ()
    """What a person may want to know: "variable frame rate, resampled to 30 a second"."""

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Pixels]:
        """Frames start … stop-1, [H, W, 3]; the same frames whatever part is asked for. Ends early where a damaged film does.

        Raises:
            UserError: the first frame was asked for and cannot be decoded.
        """
        last = self.count if stop is None else min(stop, self.count)
        size, wanted = self.width * self.height * 3, last - start
        if wanted <= 0:
            return
        with tempfile.TemporaryFile() as said, _started(self._command(start, last), said.fileno()) as process:
            assert process.stdout is not None  # it was asked for
            try:
                for number in range(wanted):
                    data = process.stdout.read(size)
                    if len(data) < size:
                        if number == start == 0:
                            said.seek(0)
                            raise UserError(f"{printable(self.path)}: no frame can be decoded ({_last_line(said.read(), self.path)}).")
                        return
                    yield np.frombuffer(data, dtype=np.uint8).reshape(self.height, self.width, 3)
            finally:
                process.kill()

    def _command(self, start: int, stop: int) -> list[str]:
        """What ffmpeg is asked."""
        rate = Fraction(self.fps).limit_denominator(1_000_000)
        skipped = start / self.fps - _RUN_UP
        seek: list[str] = []
        if self.timed and skipped > 0 and self.path.suffix.lower() in _SEEKABLE:
            seek = ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{self.begin + skipped:.6f}"]
        times = f"setpts=PTS-({self.begin:.9f})/TB,fps={rate}:round=near" if self.timed else f"setpts=N/({float(rate):.9f}*TB),fps={rate}"
        filters = f"{times},trim=start_pts={start}:end_pts={stop},setpts=PTS-STARTPTS,scale={self.width}:{self.height}:flags=area"
        return [*_reading(self.path, seek), "-copyts", "-vf", filters, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]


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
    if file.stat().st_size == 0:
        raise UserError(f"{printable(file)}: the file is empty; copy it again from where it came.")
    times, complaint = _time_stamps(file)
    width, height, begin = _first_picture(file)
    if file.suffix.lower() in _SEEKABLE and (times >= begin - 1e-6).any():
        times = times[times >= begin - 1e-6]  # an edit list leaves out what comes before
    own, steady = _rate(times)
    rate = fps or own
    notes = []
    count = max(1, round((times[-1] - times[0]) * rate) + round(rate / own)) if len(times) > 1 else 1
    timed = count <= _LARGEST_STRETCH * len(times) * max(1, rate / own)
    if not timed:
        rate = own = fps or _ONE_PICTURE
        count = len(times)
        notes.append(f"its time stamps are damaged: pictures are taken one by one, as {rate:g} a second")
    elif not steady:
        notes.append(f"variable frame rate, resampled to {rate:.5g} a second")
    if complaint:
        notes.append(f"damaged ({complaint})")
    return Film(file, width, height, rate, count, begin, timed, tuple(notes))


def _rate(times: npt.NDArray[np.float64]) -> tuple[float, bool]:
    """Frames per second of a film whose pictures appear at times [N] (seconds, ascending), and whether that is constant."""
    steps = np.diff(times)
    steps = steps[steps > 1e-6]
    if len(steps) == 0:
        return _ONE_PICTURE, True
    even = (times[-1] - times[0]) / len(steps)
    steady = bool(np.abs(times - times[0] - even * np.arange(len(times))).max() < 0.6 * even) if len(steps) == len(times) - 1 else False
    exact = 1 / even if steady else 1 / float(np.median(steps))
    usual = min((float(round(exact / base) * base) for base in (Fraction(1), Fraction(1000, 1001))), key=lambda rate: abs(rate - exact))
    if usual > 0 and abs(usual - exact) * (times[-1] - times[0]) < 0.25:  # not a quarter of a frame apart at the end
        exact = usual
    return min(exact, _FASTEST), steady


def _time_stamps(path: Path) -> tuple[npt.NDArray[np.float64], str]:
    """When each picture appears, seconds, ascending, and what ffmpeg complained about. Nothing is decoded.

    Raises:
        UserError: there are no pictures.
    """
    done = subprocess.run(
        [*_reading(path, []), "-copyts", "-c", "copy", "-f", "framecrc", "-"], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    base, stamps = Fraction(1), []
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith("#tb 0:"):
            base = Fraction(line.split(":", 1)[1].strip())
        elif not line.startswith("#"):
            stamps.append([field.strip() for field in line.split(",")[1:3]])  # when it is decoded, when it is shown
    column = 0 if any(shown in _NO_STAMP for _, shown in stamps) else 1
    known = [int(stamp[column]) for stamp in stamps if stamp[column] not in _NO_STAMP]
    times = np.sort(np.array(known, dtype=np.float64)) * float(base)
    if len(times) == 0:
        if b"matches no streams" in done.stderr:
            raise UserError(f"{printable(path)}: no pictures in it, only sound or other data.")
        raise UserError(f"{printable(path)}: not a film that can be read, or damaged ({_last_line(done.stderr, path)}).")
    return times, _last_line(done.stderr, path) if done.stderr.strip() else ""


def _first_picture(path: Path) -> tuple[int, int, float]:
    """Width and height of the first picture as it is seen, and its time stamp in seconds.

    Raises:
        UserError: it cannot be decoded.
    """
    limit = f"min(1\\,{LONGEST_SIDE}/max(iw*sar\\,ih))"
    filters = f"scale=round(iw*sar*{limit}):round(ih*{limit}),setsar=1,showinfo"
    command = [*_reading(path, [], level="info"), "-copyts", "-vf", filters, "-frames:v", "1", "-c:v", "ppm", "-f", "image2pipe", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    size = re.match(rb"P6\s+(\d+)\s+(\d+)\s", done.stdout)
    if size is None:
        raise UserError(f"{printable(path)}: no frame can be decoded ({_last_line(done.stderr, path)}).")
    time = re.search(rb"Parsed_showinfo.* pts_time:\s*(-?[\d.]+)", done.stderr)
    return int(size[1]), int(size[2]), float(time[1]) if time else 0.0


def _reading(path: Path, seek: list[str], *, level: str = "error") -> list[str]:
    """The first half of a command: ffmpeg, the film's first stream of pictures (covers are none), nothing from the net."""
    import imageio_ffmpeg

    try:
        program = str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise UserError(f"Films need ffmpeg, and there is none ({error}); pip install imageio-ffmpeg, or install ffmpeg.") from error
    quiet = ["-hide_banner", "-nostdin", "-nostats", "-v", level, "-threads", "1", "-protocol_whitelist", "file,pipe"]
    return [program, *quiet, *seek, "-i", f"file:{path}", "-map", "0:V:0"]


def _started(command: list[str], errors: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL)


def _last_line(said: bytes, path: Path) -> str:
    """The last thing that ffmpeg said, without addresses and the path."""
    lines = [re.sub(r"^\[[^\]]*\] *", "", line) for line in said.decode(errors="replace").splitlines() if line.strip()]
    text = next((line for line in reversed(lines) if not line.startswith(_EMPTY_WORDS)), "no reason given")
    return printable(text.replace(f"file:{os.fspath(path)}", "it"))[:120]
