"""VHAP's tracks of films (Qian, "Versatile head alignment with adaptive appearance priors", 2024).

Two kinds of files, as its documentation describes them:

- `tracked_flame_params_N.npz`, what the tracker itself writes: `shape` [300] and, for T frames, `expr` [T, 100], `rotation`, `neck_pose`,
  `jaw_pose`, `translation` [T, 3] and `eyes_pose` [T, 6], left eye first; metres and axis-angle. The file does not say where the camera
  stands; for films of one camera it looks along -z, and the head is placed by the landmarks that are detected in the frame.
- a data set that it exported: `transforms.json` with, for each frame, `timestep_index`, `transform_matrix` (camera to world, OpenGL
  axes), `fl_x`, `fl_y`, `cx`, `cy` in pixels, and `flame_param_path`, an .npz file with the entries above for this frame alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.errors import DatasetError
from next3d.head.flame_files import as_array
from next3d.head.model import OBJECT_TO_WORLD, HeadModel, Joint
from next3d.tracking.importers.place import ImportedHead, Pinhole
from next3d.tracking.importers.reading import flame_params, last_size, read_codes, row_of

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


_ENTRIES = ("shape", "expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation")


class Track:
    """What the tracker itself wrote of a film."""

    def __init__(self, path: Path) -> None:
        """Read it; raises DatasetError where it is damaged or has no frames."""
        self.path = path
        self._codes = read_codes(path, _ENTRIES)
        self._length = as_array(self._codes, "rotation", path).size // 3

    def __len__(self) -> int:
        return self._length

    def read(self, index: int, head: HeadModel) -> ImportedHead | None:
        """The head of a frame; None beyond the last.

        Raises:
            DatasetError: an entry is missing or damaged.
        """
        return _head(self._codes, self.path, head, index, None) if index < self._length else None


class ExportedTrack:
    """An exported data set of one camera."""

    def __init__(self, path: Path) -> None:
        """Read `transforms.json`; raises DatasetError where it is not what VHAP writes."""
        self.path = path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self._common = {key: value for key, value in content.items() if key != "frames"}
            self._frames = {int(frame["timestep_index"]): frame for frame in content["frames"]}
            count = len(content["frames"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{path}: is not the transforms.json of a data set that VHAP exported ({error!r}).") from error
        if count != len(self._frames):
            raise DatasetError(f"{path}: has several cameras per frame; export one camera alone.")

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, index: int, head: HeadModel) -> ImportedHead | None:
        """The head of a frame; None where the track has none.

        Raises:
            DatasetError: an entry or its file is missing or damaged.
        """
        frame = self._frames.get(index)
        if frame is None:
            return None
        try:
            entry = {**self._common, **frame}
            matrix = np.array(entry["transform_matrix"], dtype=np.float64).reshape(4, 4) @ _OPENGL
            focal = float(entry["fl_x"]), float(entry.get("fl_y", entry["fl_x"]))
            centre = float(entry["cx"]), float(entry["cy"])
            params = self._inside(str(entry["flame_param_path"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{self.path}: frame {index} is not as VHAP exports it ({error!r}).") from error
        if not (np.isfinite(matrix).all() and np.isfinite([*focal, *centre]).all() and min(focal) > 0):
            raise DatasetError(f"{self.path}: the camera of frame {index} is not finite.")
        return _head(read_codes(params, _ENTRIES), params, head, 0, Pinhole(matrix, focal, centre))

    def _inside(self, name: str) -> Path:
        """A path below this folder; a ValueError for any other."""
        path = (self.path.parent / name).resolve()
        if not path.is_relative_to(self.path.parent.resolve()):
            raise ValueError(f"{name} leaves the folder")
        return path


def _head(codes: Mapping[str, Any], path: Path, head: HeadModel, row: int, view: Pinhole | None) -> ImportedHead:
    neutral = head.neutral(1)
    eyes = row_of(codes, "eyes_pose", path, 6, row) if "eyes_pose" in codes else None
    rotations = {
        Joint.GLOBAL: row_of(codes, "rotation", path, 3, row),
        Joint.NECK: row_of(codes, "neck_pose", path, 3, row),
        Joint.JAW: row_of(codes, "jaw_pose", path, 3, row),
    }
    if eyes is not None:
        rotations |= {Joint.LEFT_EYE: eyes[:3], Joint.RIGHT_EYE: eyes[3:]}
    params = flame_params(
        head,
        row_of(codes, "shape", path, last_size(codes, "shape", path, neutral.shape.shape[1])),
        row_of(codes, "expr", path, last_size(codes, "expr", path, neutral.expression.shape[1]), row),
        rotations,
        row_of(codes, "translation", path, 3, row) * OBJECT_TO_WORLD,
    )
    return ImportedHead(params, view, lacks_gaze=eyes is None)
