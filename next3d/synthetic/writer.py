"""Portraits with their ground truth as the files of a data set (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from next3d.media.portrait_files import EncodedPortrait, png_bytes
from next3d.synthetic.portrait import SEGMENTATION_CLASSES, Portrait

DEPTH_UNIT = 1e-4
"""World units per step of the 16-bit depth images."""
NOTES: Mapping[str, object] = {"segmentation_classes": list(SEGMENTATION_CLASSES), "depth_unit": DEPTH_UNIT}
"""What a data set's description says about these files."""


def encode(portrait: Portrait, *, identity: int = 0, name: str = "") -> EncodedPortrait:
    """Compress the images of one portrait."""
    depth = np.rint(portrait.depth / DEPTH_UNIT).clip(0, 65535).astype(np.uint16)
    files = {"images": png_bytes(portrait.image), "segmentation": png_bytes(portrait.segmentation), "depth": png_bytes(depth)}
    landmarks = {"landmarks_2d": portrait.landmarks_2d, "landmarks_3d": portrait.landmarks_3d}
    if portrait.further is not None:
        files["normals"] = png_bytes(encode_normals(portrait.further.normals))
        landmarks |= {"dense_2d": portrait.further.dense_2d, "dense_3d": portrait.further.dense_3d}
    return EncodedPortrait(files, portrait.label, portrait.head, landmarks, identity, name)


def encode_normals(normals: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Unit vectors [H, H, 3] to bytes, 128 + 127 n; no normal, which is the zero vector, to 0."""
    there = (normals != 0).any(axis=2, keepdims=True)
    return np.where(there, np.rint(128 + 127 * normals), 0).astype(np.uint8)
