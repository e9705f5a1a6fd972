"""What became of photos and frames: rows of facts, and a file that keeps those of one portion of the work until the data set is written."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dnnlib.files import atomic_write
from next3d.tracking.quality import Measures, Quality
from next3d.tracking.types import CropFrame

Table = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One face in a photo, one frame of a film, or a photo or film without any."""

    source: str
    """Name of the photo or film."""
    face: int = 0
    """Of a photo with several faces, the largest first."""
    frame: int | None = None
    """Of a film, from 0, at the rate at which it is read."""
    seconds: float | None = None
    """From the film's beginning."""
    photo: tuple[int, int] | None = None
    """Width and height of the photo or frame."""
    crop: CropFrame | None = None
    error: float | None = None
    """Mean distance of the fitted from the detected points, as a part of the distance of the outer eye corners."""
    gaze: tuple[float, ...] = ()
    """Yaw and pitch of the left, then of the right eye, radians: positive looks towards +x, and down."""
    jaw: float | None = None
    """How far the jaw is open, radians."""
    blink: float | None = None
    """How far the eyes are shut; None where the head model has no name for it."""
    bridged: bool = False
    """No face was seen in this frame; its neighbours say where it is."""
    quality: Quality | None = None
    """The verdict; None where there was nothing to judge."""
    problem: str = ""
    """Why it could not be read, as a sentence."""
    notes: tuple[str, ...] = ()
    """What was done to the photo: "first of 12 frames"."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Kind of picture (`images`, `matte`, `preview`) → its name in the portion's file."""

    @property
    def kept(self) -> bool:
        """Whether it is part of the data set."""
        return "images" in self.files


@dataclass(frozen=True)
class Portion:
    """Results of one portion of the work."""

    rows: Sequence[Row]
    """In the order of the work."""
    numbers: Mapping[str, Table]
    """For every row that is kept, in their order: `label` [K, 25]; the fields of head parameters; `landmarks_2d` [K, 68, 2],
    `landmarks_3d` [K, 68, 3], `detected` [K, 478, 3]. Empty where none is kept."""
    files: Mapping[str, bytes]
    """Pictures by name."""


def save_portion(path: Path, portion: Portion) -> None:
    """Write a portion; it is there as a whole or not at all."""
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("rows.json", json.dumps([asdict(row) for row in portion.rows]))
        for name, table in portion.numbers.items():
            archive.writestr(f"numbers/{name}.npy", _npy(table))
        for name, content in portion.files.items():
            archive.writestr(f"files/{name}", content)


def load_portion(path: Path) -> Portion:
    """Rows and numbers of a portion; pictures stay in the file (`read_picture`)."""
    with zipfile.ZipFile(path) as archive:
        rows = [_row(entry) for entry in json.loads(archive.read("rows.json"))]
        names = [name for name in archive.namelist() if name.startswith("numbers/")]
        numbers = {name[8:-4]: np.load(io.BytesIO(archive.read(name)), allow_pickle=False) for name in names}
    return Portion(rows, numbers, {})


def read_pictures(path: Path, names: Sequence[str]) -> Iterator[bytes]:
    """Some pictures of a portion's file."""
    with zipfile.ZipFile(path) as archive:
        for name in names:
            yield archive.read(f"files/{name}")


def _npy(table: npt.NDArray[np.generic]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(table), allow_pickle=False)
    return content.getvalue()


def _row(entry: dict[str, object]) -> Row:
    """What `asdict` made of a row, back."""
    values = dict(entry)
    quality, crop = values["quality"], values["crop"]
    if isinstance(quality, dict):
        measures = quality["measures"]
        verdict = Quality(quality["score"], tuple(quality["reasons"]), Measures(**measures) if measures else None)
        values["quality"] = verdict
    if isinstance(crop, dict):
        values["crop"] = CropFrame(**crop)
    for name in ("photo", "gaze", "notes"):
        value = values[name]
        values[name] = tuple(value) if isinstance(value, list) else value
    return Row(**values)  # type: ignore[arg-type]  # JSON gives back what `asdict` took


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Write named arrays; the file is whole or absent."""
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", _npy(array))


def load_arrays(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[np.generic]]:
    """What `save_arrays` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
