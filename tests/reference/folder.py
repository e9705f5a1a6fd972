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

STATISTICS = ("sub", "crop", "mean", "std", "absmax")


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
        return [str(entry) for entry in self.arrays[name]]

    def thinned(self, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
        """A computed array as it would be stored: whole, and in the forms in which large ones are thinned."""
        if name in self.arrays.files:
            yield name, self._fitted(name, value)
        for kind in STATISTICS:
            if f"{name}/{kind}" in self.arrays.files:
                yield f"{name}/{kind}", self._fitted(f"{name}/{kind}", self._statistic(name, kind, value))

    def _statistic(self, name: str, kind: str, value: Tensor) -> Tensor:
        if kind == "sub":
            return value[..., 1::4, 1::4] if _is_image(name) else value[..., 3 :: self._stride, 3 :: self._stride]
        if kind == "crop":
            size = self.arrays[f"{name}/crop"].shape[-1]
            first = (value.shape[-1] - size) // 2
            return value[..., first : first + size, first : first + size]
        flat = value.flatten(-2)
        return {"mean": flat.mean(-1), "std": flat.std(-1, unbiased=False), "absmax": flat.abs().amax(-1)}[kind]

    @property
    def _stride(self) -> int:
        return int(self.config["sub_stride"])

    def _fitted(self, name: str, value: Tensor) -> Tensor:
        """The first samples, and every second pixel, where no more was stored."""
        shape = self.arrays[name].shape
        if value.ndim and value.ndim == len(shape) and value.shape[0] > shape[0]:
            value = value[: shape[0]]
        if name.endswith("mouth_crop64") and value.shape[-1] == 2 * shape[-1]:
            value = value[..., ::2, ::2]
        return value


def _is_image(name: str) -> bool:
    return name.rpartition("/")[2] in ("image", "grad_image", "grad_image_raw", "image_raw")
