"""Camera labels of a data set: read from `dataset.json` and checked when the data set is opened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.config import LABEL_SIZE
from training.storage import Storage

INDEX_NAME = "dataset.json"
FLOAT32_MAX = torch.finfo(torch.float32).max


def read_index(storage: Storage, name: str) -> dict[str, Any]:
    """The JSON object in a `dataset.json`.

    Raises:
        DatasetError: not JSON, or not an object.
    """
    shown = storage.display(name)
    try:
        index = json.loads(storage.read(name))
    except ValueError as error:
        raise DatasetError(f"{shown}: is not valid JSON ({error}); make the data set again.") from error
    if not isinstance(index, dict):
        raise DatasetError(f"{shown}: holds a {type(index).__name__}, expected an object with an entry 'labels'; make the data set again.")
    return index


def read_labels(index: dict[str, Any], shown: str) -> dict[str, Any]:
    """Image name to label, unchecked, from the entry `labels`: a list of [name, numbers] or an object.

    Raises:
        DatasetError: the entry is missing or of another form.
    """
    labels = index.get("labels")
    if isinstance(labels, list) and all(isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in labels):
        labels = dict(labels)
    if not isinstance(labels, dict) or not labels:
        raise DatasetError(f"{shown}: the entry 'labels' must be a list of [image name, {LABEL_SIZE} numbers]; make the labels again.")
    return {name.replace("\\", "/"): label for name, label in labels.items()}


def check_label(label: Any, image: str, shown: str) -> Sequence[float]:
    """One label, if it is a camera: 25 finite numbers, a rotation, intrinsics normalised by the image size.

    Args:
        label: what `dataset.json` says for the image; None where it says nothing.
        image: the image's name, for messages.
        shown: the name of `dataset.json`, for messages.

    Raises:
        DatasetError: it is none.
    """
    advice = "correct the label or remove the image."
    if label is None:
        raise DatasetError(f"{image}: has no label in {shown}; add its {LABEL_SIZE} camera numbers there or remove the image.")
    if not isinstance(label, list) or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in label):
        raise DatasetError(f"{image}: its label in {shown} is not a list of numbers, expected {LABEL_SIZE} of them; {advice}")
    if len(label) != LABEL_SIZE:
        raise DatasetError(f"{image}: its label in {shown} has {len(label)} numbers, expected {LABEL_SIZE}; {advice}")
    if not all(abs(x) <= FLOAT32_MAX for x in label):  # not NaN, and none of JSON's whole numbers that no float can hold
        raise DatasetError(f"{image}: its label in {shown} contains NaN or infinity, expected {LABEL_SIZE} finite numbers; {advice}")
    return label


def check_cameras(labels: Tensor, images: Sequence[str], shown: str) -> None:
    """Make sure that the labels [N, 25] are camera-to-world matrices followed by normalised intrinsics.

    Raises:
        DatasetError: naming the first image whose label is none.
    """
    rotation = labels[:, :16].reshape(-1, 4, 4)[:, :3, :3]
    off = (rotation @ rotation.transpose(1, 2) - torch.eye(3)).abs().amax(dim=(1, 2))
    focal, centre, corner = labels[:, [16, 20]], labels[:, [18, 21]], labels[:, 24]
    wrong = (off > 0.01) | (focal <= 0).any(1) | (focal > 100).any(1) | (centre.abs() > 10).any(1) | ((corner - 1).abs() > 1e-3)
    if wrong.any():
        name = images[int(wrong.nonzero()[0])]
        raise DatasetError(
            f"{name}: its label in {shown} is not a camera, expected a 4x4 camera-to-world matrix with a rotation in it and 3x3 intrinsics "
            "normalised by the image size; correct the label or remove the image."
        )
