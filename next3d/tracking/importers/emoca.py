"""EMOCA's codes of photos and films (Danecek et al., "EMOCA: Emotion driven monocular face capture and animation", 2022).

`--save_codes` writes a folder per face with `shape.npy` (100), `exp.npy` (50) and `pose.npy` (6: global rotation, jaw), in DECA's spaces.
It does not save the camera, so the head is placed by the landmarks that are detected in the photo. A `cam.npy` and a `tform.npy` that
somebody put beside them count as in DECA's files.
"""

from __future__ import annotations

from pathlib import Path

from dnnlib.errors import DatasetError
from next3d.head.model import HeadModel
from next3d.tracking.importers.deca import from_codes
from next3d.tracking.importers.place import ImportedHead
from next3d.tracking.importers.reading import read_array

_NEEDED = ("shape", "exp", "pose")
_FURTHER = ("cam", "tform")


def read_emoca(folder: Path, head: HeadModel) -> ImportedHead:
    """The head of a folder of codes.

    Raises:
        DatasetError: a file is missing or not what its name says.
    """
    for name in _NEEDED:
        if not (folder / f"{name}.npy").is_file():
            raise DatasetError(f"{folder}: has no {name}.npy; run EMOCA with --save_codes 1.")
    there = [name for name in (*_NEEDED, *_FURTHER) if (folder / f"{name}.npy").is_file()]
    return from_codes({name: read_array(folder / f"{name}.npy") for name in there}, folder, head, 0)
