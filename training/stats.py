"""What is in a data set: sizes, cameras, heads, brightness, as numbers that can be compared between data sets."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.head.model import HeadParams
from training.check import Progress, Rows, chunks, useful_workers
from training.dataset import PortraitDataset, open_dataset
from training.heads import ParameterHeads
from training.images import image_size
from training.parallel import map_in_order
from training.storage import StorageError

OPEN_JAW = 0.1
"""Radians from which a jaw counts as open."""
SHUT = 0.5
"""Strength of a blink from which an eye counts as shut."""
AVERTED = 0.2
"""Radians from straight ahead from which a gaze counts as averted."""
LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of sRGB values (ITU-R BT.709)."""
_JAW, _EYES = 2, (3, 4)


@dataclass(frozen=True)
class Spread:
    """How one quantity is distributed."""

    mean: float
    std: float
    low: float
    """5th percentile."""
    high: float
    """95th percentile."""
    least: float
    most: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """From at least one number."""
        low, high = np.percentile(values, [5, 95])
        numbers = (values.mean(), values.std(), low, high, values.min(), values.max())
        return cls(*(float(number) for number in numbers))


@dataclass
class DatasetStats:
    """The figures. Angles are in degrees: these are for people."""

    path: str
    count: int
    """Items."""
    resolution: int
    heads: str
    """Name of the head model, or "meshes"."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Images by their width and height."""
    formats: dict[str, int] = field(default_factory=dict)
    """Images by the ending of their names."""
    image_bytes: float = 0.0
    """Mean size of an image file."""
    left_out: dict[str, int] = field(default_factory=dict)
    identities: int | None = None
    """Different people; None where the data set does not say."""
    spreads: dict[str, Spread] = field(default_factory=dict)
    """By the name of the quantity; its unit is the name's last word."""
    shares: dict[str, float] = field(default_factory=dict)
    """Parts of all items, 0 to 1."""
    broken: list[str] = field(default_factory=list)
    """One sentence per item that cannot be read."""

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {**vars(self), "spreads": {name: vars(spread) for name, spread in self.spreads.items()}}

    def table(self) -> str:
        """Everything, to be read."""
        sizes = ", ".join(f"{number} of {size}" for size, number in self.sizes.items())
        formats = ", ".join(f"{number} {suffix}" for suffix, number in self.formats.items())
        lines = [
            f"{self.path}: {self.count} images ({sizes}; {formats}; {self.image_bytes / 1000:.1f} kB each), heads: {self.heads}",
            f"people: {'not known' if self.identities is None else self.identities}; broken: {len(self.broken)}",
            *(f"left out {reason}: {number}" for reason, number in self.left_out.items() if number),
            f"{'':<34}{'mean':>9}{'std':>9}{'5 %':>9}{'95 %':>9}{'least':>9}{'most':>9}",
        ]
        for name, spread in self.spreads.items():
            lines.append(f"{name:<34}" + "".join(f"{value:>9.3f}" for value in vars(spread).values()))
        lines += [f"{name:<34}{100 * share:>8.1f}%" for name, share in self.shares.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Looked:
    """What the pixels of some items say."""

    sizes: Counter[str]
    image_bytes: list[int]
    brightness: list[float]
    contrast: list[float]
    broken: list[str]


def dataset_stats(
    path: str | os.PathLike[str], *, uv_mask: Path | None = None, workers: int = 1, progress: Progress | None = None
) -> DatasetStats:
    """Read a whole data set and describe it.

    Args:
        path: as `open_dataset` takes it.
        uv_mask: as `open_dataset` takes it.
        workers: processes; small data sets take fewer.
        progress: called with the number of items read and their total.

    Raises:
        DatasetError: it is not a data set.
        StorageError: it cannot be reached.
    """
    dataset = open_dataset(path, uv_mask=uv_mask)
    found = DatasetStats(os.fspath(path), len(dataset), dataset.stored_resolution, dataset.head_name or "meshes")
    found.left_out = {reason: number for reason, number in dataset.left_out.items() if number}
    found.formats = dict(Counter(Path(name).suffix.lower() for name in dataset.names))
    if dataset.identities is not None:
        found.identities = len(dataset.identities.unique())
    found.spreads = camera_spreads(dataset.labels)
    _add_heads(found, dataset)
    _add_pixels(found, chunks(path, uv_mask, len(dataset)), useful_workers(len(dataset), workers), progress)
    return found


def camera_spreads(labels: Tensor) -> dict[str, Spread]:
    """Where cameras [N, 25] are and where they look.

    Yaw is positive where the camera sees the face from the person's left (+x), pitch where it looks down on it, roll where it is turned
    counter-clockwise; they are those of the direction of sight, wherever the camera stands.
    """
    pose = labels[:, :16].reshape(-1, 4, 4).double()
    right, back, position = pose[:, :3, 0], -pose[:, :3, 2], pose[:, :3, 3]
    yaw, pitch = torch.atan2(back[:, 0], back[:, 2]), torch.asin(back[:, 1].clamp(-1, 1))
    level = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], dim=1)  # the right of an upright camera
    above = torch.linalg.cross(back, level)
    roll = torch.atan2((right * above).sum(1), (right * level).sum(1))
    quantities = {
        "camera yaw, degrees": yaw.rad2deg(),
        "camera pitch, degrees": pitch.rad2deg(),
        "camera roll, degrees": roll.rad2deg(),
        "camera distance, world units": position.norm(dim=1),
        "focal length, image sizes": labels[:, [16, 20]].double().mean(dim=1),
    }
    return {name: Spread.of(values.numpy()) for name, values in quantities.items()}


def _add_heads(found: DatasetStats, dataset: PortraitDataset) -> None:
    """What head parameters say; nothing for meshes."""
    heads = dataset.contents.heads
    if not isinstance(heads, ParameterHeads):
        return
    params = heads.params[: len(dataset)]
    blink = [index for index, name in enumerate(heads.model.expression_names) if name.lower().startswith("eyeblink")]
    gaze = params.pose[:, _EYES].mean(dim=1)  # [N, 3]
    quantities = {
        "shape, standard deviations": params.shape.flatten(),
        "expression, strength": params.expression.flatten(),
        "head turn, degrees": params.pose[:, :2].norm(dim=2).sum(dim=1).rad2deg(),
        "jaw, degrees": params.pose[:, _JAW, 0].rad2deg(),
        "gaze sideways, degrees": gaze[:, 1].rad2deg(),
        "gaze down, degrees": gaze[:, 0].rad2deg(),
        "head scale, factor": params.scale,
    }
    if blink:
        quantities["blink, strength"] = params.expression[:, blink].mean(dim=1)
    found.spreads |= {name: Spread.of(values.double().numpy()) for name, values in quantities.items() if values.numel()}
    found.shares |= _shares(params, blink, gaze)


def _shares(params: HeadParams, blink: list[int], gaze: Tensor) -> dict[str, float]:
    """How common it is that something happens."""
    shares = {
        f"jaw open (> {OPEN_JAW:g} rad)": params.pose[:, _JAW, 0] > OPEN_JAW,
        f"gaze averted (> {AVERTED:g} rad)": gaze[:, :2].norm(dim=1) > AVERTED,
    }
    if blink:
        shares[f"an eye shut (> {SHUT:g})"] = (params.expression[:, blink] > SHUT).any(dim=1)
    return {name: float(values.double().mean()) for name, values in shares.items()}


def _add_pixels(found: DatasetStats, portions: list[Rows], workers: int, progress: Progress | None) -> None:
    """Read every item."""
    sizes: Counter[str] = Counter()
    image_bytes: list[int] = []
    brightness: list[float] = []
    contrast: list[float] = []
    for portion, looked in zip(portions, map_in_order(_look, portions, workers), strict=True):
        sizes += looked.sizes
        image_bytes += looked.image_bytes
        brightness += looked.brightness
        contrast += looked.contrast
        found.broken += looked.broken
        if progress is not None:
            progress(portion.last, found.count)
    found.sizes = dict(sizes.most_common())
    if brightness:
        found.image_bytes = float(np.mean(image_bytes))
        found.spreads["brightness, of white"] = Spread.of(np.array(brightness))
        found.spreads["contrast, of white"] = Spread.of(np.array(contrast))


def _look(rows: Rows) -> _Looked:
    """Read some items."""
    dataset = rows.dataset()
    storage = dataset.contents.storage
    found = _Looked(Counter(), [], [], [], [])
    dataset.bring(range(rows.first, rows.last))
    for index in range(rows.first, rows.last):
        name = dataset.names[index]
        try:
            data = storage.read(name)
            width, height = image_size(data, storage.display(name))
            found.sizes[f"{width}x{height}"] += 1
            luma = dataset[index].pixels @ np.array(LUMA, dtype=np.float32) / 255
        except StorageError:
            raise
        except DatasetError as error:
            found.broken.append(str(error))
            continue
        found.image_bytes.append(len(data))
        found.brightness.append(float(luma.mean()))
        found.contrast.append(float(luma.std()))
    return found
