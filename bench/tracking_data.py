"""Portraits on which tracking is judged, with what is true of them, and what a detector finds in them; kept in a folder on request.

Cameras are those of `next3d data synthetic --roll 15 --distance 15`. A set of one control draws that control evenly over its range and
everything else as data sets have it. Sets named "fit…" are for choosing constants and are never judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dnnlib.files import atomic_write
from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.render.cameras import project
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import GAZE_RANGE, JAW_RANGE, CameraRange, keyed_params, with_gaze
from next3d.tracking.types import Pixels
from next3d.types import Camera

RESOLUTION = 256
CAMERAS = CameraRange(roll=math.radians(15), distance=0.15)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StillSet:
    """Which portraits a set has."""

    seed: int
    count: int
    control: str = ""
    """What is drawn evenly: jaw, smile, blink or gaze; "" for samples as data sets have them."""


SETS = {
    "jaw": StillSet(6101, 150, "jaw"),
    "smile": StillSet(6102, 150, "smile"),
    "blink": StillSet(6103, 150, "blink"),
    "gaze": StillSet(6104, 150, "gaze"),
    "test": StillSet(6100, 500),
    "fit": StillSet(7100, 300),
    "fit_jaw": StillSet(7101, 120, "jaw"),
    "fit_smile": StillSet(7102, 120, "smile"),
    "fit_blink": StillSet(7103, 120, "blink"),
    "fit_gaze": StillSet(7104, 120, "gaze"),
    "fit_noise": StillSet(7200, 1200),
}


@dataclass(frozen=True)
class Stills:
    """N portraits of 256 x 256 pixels."""

    images: npt.NDArray[np.uint8]
    """[N, 256, 256, 3]."""
    params: HeadParams
    camera: Camera
    points: Array
    """[N, 478, 2]: where the 478 points of the head are, pixels."""
    value: Array
    """[N]: of the control."""
    detected: Array
    """[N, 478, 3], pixels; NaN where no face was found."""

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """[N]: a face was found."""
        found: npt.NDArray[np.bool_] = np.isfinite(self.detected).all(axis=(1, 2))
        return found


@lru_cache(maxsize=1)
def the_head() -> HeadModel:
    """The default head, once per process."""
    return load_head("procedural")


def still_params(which: StillSet, index: int) -> tuple[HeadParams, float]:
    """Head parameters [1, ...] of a portrait and the value of its control."""
    head: Any = the_head()
    params = keyed_params(head, which.seed, index)
    if not which.control:
        return params, 0.0
    rng = numpy_stream(which.seed, index, f"tracking/{which.control}")
    pose, expression = params.pose.clone(), params.expression.clone()
    if which.control == "gaze":
        pitch, yaw = (float(rng.uniform(-limit, limit)) for limit in GAZE_RANGE)
        return with_gaze(head, params, torch.tensor([[pitch, yaw]])), yaw
    value = float(rng.uniform(0, JAW_RANGE if which.control == "jaw" else 1))
    if which.control == "jaw":
        pose[:, Joint.JAW, 0] = value
    for side in ("Left", "Right"):
        if which.control == "blink":
            expression[:, head.expression_index(f"eyeBlink{side}")] = value
            for name in ("eyeSquint", "eyeWide"):  # as sample_expression has it
                expression[:, head.expression_index(f"{name}{side}")] *= 1 - value
        elif which.control == "smile":
            expression[:, head.expression_index(f"mouthSmile{side}")] = value
            expression[:, head.expression_index(f"cheekSquint{side}")] = 0.6 * value
    return replace(params, pose=pose, expression=expression), value


@torch.no_grad()
def _render(which: StillSet, index: int) -> dict[str, npt.NDArray[Any]]:
    """One portrait with its truth; runs in worker processes."""
    torch.set_num_threads(1)
    head = the_head()
    params, value = still_params(which, index)
    portrait = render_sample(head, which.seed, index, RESOLUTION, params=params, cameras=CAMERAS)
    label = torch.from_numpy(portrait.label)[None]
    points = dense_embedding(head).place(head(params).vertices)
    shown = (project(points, Camera.from_label(label))[0, :, :2] + 1) * (RESOLUTION / 2)
    table = {field.name: getattr(params, field.name)[0].numpy() for field in fields(HeadParams)}
    return {**table, "images": portrait.image, "label": label[0].numpy(), "points": shown.double().numpy(), "value": np.float64(value)}


def load_stills(
    name: str, detect: Callable[[Pixels], Array | None], pool: Executor, *, count: int | None = None, cache: Path | None = None
) -> Stills:
    """A set by name, rendered and looked at, or read from the cache's `stills/NAME.npz` if that is there.

    Args:
        name: of SETS.
        detect: a picture to points [478, 3] in pixels, or None.
        pool: processes that render.
        count: only the first so many.
        cache: folder; None renders and keeps nothing.
    """
    which = SETS[name]
    number = which.count if count is None else min(count, which.count)
    path = None if cache is None else cache / "stills" / f"{name}.npz"
    if path is not None and path.is_file():
        with np.load(path) as stored:
            return _stills({key: stored[key][:number] for key in stored.files})
    rows = list(pool.map(partial(_render, which), range(number), chunksize=4))
    table = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    looks = (detect(image) for image in table["images"])
    table["detected"] = np.stack([np.full((478, 3), np.nan) if points is None else points for points in looks])
    if path is not None and number == which.count:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **table)
    return _stills(table)


def _stills(table: dict[str, npt.NDArray[Any]]) -> Stills:
    params = HeadParams(**{field.name: torch.from_numpy(table[field.name]) for field in fields(HeadParams)})
    camera = Camera.from_label(torch.from_numpy(table["label"]))
    return Stills(table["images"], params, camera, table["points"], table["value"], table["detected"])
