"""The files of other trackers as named arrays, read without running anything that is in them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.head.flame_files import as_array, read_record
from next3d.head.model import HeadModel, HeadParams, Joint

ENDINGS = (".npz", ".mat", ".npy", ".pkl")
Numbers = npt.NDArray[np.float64]
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    NotImplementedError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_codes(path: Path, wanted: Collection[str]) -> Mapping[str, Any]:
    """Those of the `wanted` entries that a file holds: .npz, .mat, or a dictionary in a .npy or .pkl file. The others may be large.

    Raises:
        DatasetError, PickleError, ConfigError: it cannot be read, or would have to be executed.
    """
    suffix = path.suffix.lower()
    if suffix in (".npy", ".pkl"):
        return read_record(path)
    try:
        if suffix == ".mat":
            return dict(scipy.io.loadmat(str(path), variable_names=list(wanted)))
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key in wanted}
    except NotImplementedError as error:
        raise DatasetError(f"{path}: is a MATLAB file of version 7.3; save it with scipy.io.savemat.") from error
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: cannot be read as {suffix[1:]} ({error}); save it again, as plain arrays.") from error


def read_array(path: Path) -> Numbers:
    """The array in a .npy file.

    Raises:
        DatasetError: it cannot be read, or holds objects instead of numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise DatasetError(f"{path}: is not an .npy file of plain numbers ({error}); save it again with numpy.save.") from error
    return as_array({path.stem: array}, path.stem, path).astype(np.float64)


def row_of(codes: Mapping[str, Any], key: str, path: Path, width: int, row: int = 0) -> Numbers:
    """Row `row` [width] of an array [..., width]; a single row counts for every one.

    Raises:
        DatasetError: missing, of another width, or too short.
    """
    array = as_array(codes, key, path).astype(np.float64)
    if array.size == 0 or array.size % width:
        raise DatasetError(f"{path}: '{key}' has shape {list(array.shape)}, expected {width} numbers per head.")
    rows = array.reshape(-1, width)
    if len(rows) > 1 and row >= len(rows):
        raise DatasetError(f"{path}: '{key}' has {len(rows)} rows, but row {row} is wanted; is it the file of a shorter film?")
    return rows[row if len(rows) > 1 else 0]


def last_size(codes: Mapping[str, Any], key: str, path: Path, largest: int) -> int:
    """Length of an array's last axis.

    Raises:
        DatasetError: missing, or longer than the head model has directions.
    """
    array = as_array(codes, key, path)
    size = array.shape[-1] if array.ndim else 0
    if not 0 < size <= largest:
        raise DatasetError(f"{path}: '{key}' has shape {list(array.shape)}, expected up to {largest} numbers per head.")
    return size


def flame_params(
    head: HeadModel, shape: Numbers, expression: Numbers, rotations: Mapping[Joint, Numbers], translation: Numbers | None = None
) -> HeadParams:
    """Parameters of one FLAME head: first shape and expression coefficients, the others are 0; translation [3] in world units."""
    neutral = head.neutral(1)
    pose = neutral.pose.clone()
    for joint, rotation in rotations.items():
        pose[0, joint] = _tensor(rotation, pose)
    moved = neutral.translation if translation is None else _tensor(translation, pose)[None]
    return HeadParams(_padded(shape, neutral.shape), _padded(expression, neutral.expression), pose, moved, neutral.scale)


def _padded(values: Numbers, like: Tensor) -> Tensor:
    full = torch.zeros_like(like)
    full[0, : len(values)] = _tensor(values, like)
    return full


def _tensor(values: Numbers, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
