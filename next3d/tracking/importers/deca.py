"""DECA's codes of photos (Feng et al., "Learning an animatable detailed 3D face model from in-the-wild images", 2021).

A file per picture, `NAME.mat`, `.npz`, `.npy` or `.pkl`, anywhere below the folder: the dictionary of codes that the encoder returns,
with `shape` (up to 300 numbers; DECA has 100), `exp` (up to 100; 50), `pose` (6: global rotation, jaw), and
`cam` (3: scale s and t; a point X is seen at s (X + t) in a square crop of 224 pixels that spans -1 to 1, y up).
Where in the photo that crop was is said by `tform` (3×3): from photo to crop as its data loader makes it, or inverted and transposed as its
demonstration uses it; the form tells which. Without `cam` or `tform` the head is placed by the landmarks that are detected in the photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.errors import DatasetError
from next3d.head.model import HeadModel, Joint
from next3d.tracking.importers.place import ImportedHead, WeakPerspective
from next3d.tracking.importers.reading import Numbers, flame_params, last_size, read_codes, row_of

CROP_SIZE = 224
"""Pixels of the square that the encoder sees."""


def read_deca(path: Path, head: HeadModel, row: int = 0) -> ImportedHead:
    """The head in a file of codes; `row` of a file that holds several.

    Raises:
        DatasetError, PickleError: damaged, or without the codes.
    """
    codes = read_codes(path, ("shape", "exp", "pose", "cam", "tform", "verts", "trans_verts"))
    if "pose" not in codes and ("verts" in codes or "trans_verts" in codes):
        raise DatasetError(f"{path}: holds DECA's meshes, not its codes; save what encode() returns (shape, exp, pose, cam).")
    return from_codes(codes, path, head, row)


def from_codes(codes: Mapping[str, Any], path: Path, head: HeadModel, row: int) -> ImportedHead:
    """The head of a dictionary of codes; see `read_deca`."""
    neutral = head.neutral(1)
    shape = row_of(codes, "shape", path, last_size(codes, "shape", path, neutral.shape.shape[1]), row)
    expression = row_of(codes, "exp", path, last_size(codes, "exp", path, neutral.expression.shape[1]), row)
    pose = row_of(codes, "pose", path, 6, row)
    params = flame_params(head, shape, expression, {Joint.GLOBAL: pose[:3], Joint.JAW: pose[3:]})
    view = None
    if "cam" in codes and "tform" in codes:
        view = _view(row_of(codes, "cam", path, 3, row), row_of(codes, "tform", path, 9, row).reshape(3, 3), path)
    return ImportedHead(params, view, lacks_gaze=True)


def _view(cam: Numbers, tform: Numbers, path: Path) -> WeakPerspective:
    """The orthographic camera in the photo's pixels."""
    to_photo = crop_to_photo(tform, path)
    half = CROP_SIZE / 2
    origin = to_photo @ np.array([half * (1 + cam[0] * cam[1]), half * (1 - cam[0] * cam[2]), 1.0])
    return WeakPerspective(float(cam[0] * half * np.sqrt(abs(np.linalg.det(to_photo[:2, :2])))), float(origin[0]), float(origin[1]))


def crop_to_photo(tform: Numbers, path: Path) -> Numbers:
    """The matrix [3, 3] that takes columns (x, y, 1) of the crop to the photo, of either form of `tform`.

    Raises:
        DatasetError: it is neither.
    """
    if np.allclose(tform[2], (0, 0, 1), atol=1e-6) and abs(np.linalg.det(tform)) > 1e-12:
        return np.asarray(np.linalg.inv(tform))
    if np.allclose(tform[:, 2], (0, 0, 1), atol=1e-6) and abs(np.linalg.det(tform)) > 1e-12:
        return tform.T
    raise DatasetError(f"{path}: 'tform' is not the transformation of a crop; expected 3 x 3 numbers with a last row or column of 0, 0, 1.")
