"""A folder of reference numbers: what was fed in, what came out, and how arrays were thinned to be stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from next3d.head.obj import read_uv_mask

FORMS = ("sub", "crop", "mean", "std", "absmax")
"""How large arrays are thinned: every few pixels, the centre, and what all pixels of a channel are like."""
IMAGES = ("image", "image_raw", "image_depth", "feature_rgb_pre_sr", "grad_image", "grad_image_raw")
IMAGE_GRID, MAP_OFFSET = slice(1, None, 4), 3
MASK_PICTURE = "uv_face_eye_mask.png"


@dataclass(frozen=True)
class Folder:
    """Reads files when they are asked for."""

    path: Path

    @cached_property
    def configs(self) -> dict[str, Any]:
        return json.loads((self.path / "configs.json").read_text())

    @property
    def tag(self) -> str:
        return self.configs["next3d"]["tag"]

    def holds(self, kind: str) -> bool:
        """Whether the files of a kind are there."""
        names = ("ops.json", "ops.npz") if kind == "ops" else tuple(f"{kind}_{self.tag}.{part}.npz" for part in ("state", "io"))
        return all((self.path / name).is_file() for name in names)

    def uv_mask(self) -> Tensor | None:
        """What the neural texture is responsible for [1, 1, M, M] in [0, 1]; None where the folder does not say."""
        stored = self.stored("next3d")
        if "in/uv_face_mask_png" in stored:
            return stored["in/uv_face_mask_png"].float()[None, None] / 255
        picture = self.path / MASK_PICTURE
        return read_uv_mask(picture)[None] if picture.is_file() else None

    def state(self, kind: str) -> dict[str, Tensor]:
        """Parameters under their official names, in float32."""
        arrays = np.load(self.path / f"{kind}_{self.tag}.state.npz", allow_pickle=False)
        return {name: _widened(torch.from_numpy(arrays[name])) for name in arrays.files}

    def stored(self, kind: str) -> Stored:
        """Inputs and outputs of `kind`: next3d, next3d_disc, eg3d or ops."""
        name = "ops.npz" if kind == "ops" else f"{kind}_{self.tag}.io.npz"
        return Stored(np.load(self.path / name, allow_pickle=False), self.configs.get(kind, {}))


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value


@dataclass(frozen=True)
class Stored(Mapping[str, Tensor]):
    """Arrays of one file."""

    arrays: Any
    config: Mapping[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return _widened(torch.from_numpy(self.arrays[name]))

    def __contains__(self, name: object) -> bool:
        return name in self.arrays.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays.files)

    def __len__(self) -> int:
        return len(self.arrays.files)

    def names(self, name: str) -> list[str]:
        """A list of texts; empty where it is not stored."""
        return [str(entry) for entry in self.arrays[name]] if name in self.arrays.files else []

    def thinned(self, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
        """A computed array as it is stored: whole, and in the forms in which large ones are thinned."""
        if name in self.arrays.files:
            yield name, self._fitted(name, value)
        for form in FORMS:
            full = f"{name}/{form}"
            if full in self.arrays.files:
                window = self.arrays[full].shape[-1] if form == "crop" else 0
                yield full, self._fitted(full, thin(name, form, value, stride=self.stride, window=window))

    @property
    def stride(self) -> int:
        """Of thinned feature maps."""
        return int(self.config.get("sub_stride", 8))

    def _fitted(self, name: str, value: Tensor) -> Tensor:
        """The first samples, and every second pixel, where no more was stored."""
        shape = self.arrays[name].shape
        if value.ndim and value.ndim == len(shape) and value.shape[0] > shape[0]:
            value = value[: shape[0]]
        if name.endswith("mouth_crop64") and value.shape[-1] == 2 * shape[-1]:
            value = value[..., ::2, ::2]
        return value


def thin(name: str, form: str, value: Tensor, *, stride: int, window: int) -> Tensor:
    """One of `FORMS` of an array [..., H, W].

    Args:
        name: says whether it is an image, which has a grid of its own.
        stride: of the grid of feature maps.
        window: side of the centre, pixels.
    """
    if form == "sub":
        grid = IMAGE_GRID if name.rpartition("/")[2] in IMAGES else slice(MAP_OFFSET, None, stride)
        return value[..., grid, grid]
    if form == "crop":
        first = (value.shape[-1] - window) // 2
        return value[..., first : first + window, first : first + window]
    flat = value.flatten(-2)
    return {"mean": flat.mean(-1), "std": flat.std(-1, unbiased=False), "absmax": flat.abs().amax(-1)}[form]
