"""What one training step reads from a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from next3d.head.model import HeadParams
from next3d.types import Camera, HeadMesh, TensorBundle

HeadRow = HeadParams | HeadMesh
"""Where a head comes from: parameters that a head model poses on the device, or a mesh that was read from a file."""


@dataclass(frozen=True)
class Sample:
    """One item of a data set, as loader workers hand it over."""

    index: int
    """Position in the data set."""
    pixels: NDArray[np.uint8]
    """[R, R, 3] RGB."""
    label: Tensor
    """[25] camera label."""
    head: HeadRow
    """A bundle with a batch of one."""

    @property
    def nbytes(self) -> int:
        """Memory that keeping this sample takes."""
        tensors = [self.label, *vars(self.head).values()]
        return self.pixels.nbytes + sum(tensor.nbytes for tensor in tensors)


@dataclass(frozen=True)
class Batch(TensorBundle):
    """N samples."""

    pixels: Tensor
    """[N, 3, R, R] uint8: a quarter of the traffic to the device that float images would be."""
    camera: Camera
    head: HeadRow
    """N heads; `PortraitDataset.head_mesh` turns them into a mesh on the batch's device."""
    index: Tensor
    """[N] int64, positions in the data set."""

    @property
    def image(self) -> Tensor:
        """[N, 3, R, R] float32 in [-1, 1]."""
        return self.pixels.float() / 127.5 - 1

    def __len__(self) -> int:
        return len(self.index)


def collate(samples: Sequence[Sample]) -> Batch:
    """Put samples of one data set together, on the CPU."""
    pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
    return Batch(
        pixels=pixels.permute(0, 3, 1, 2).contiguous(),
        camera=Camera.from_label(torch.stack([sample.label for sample in samples])),
        head=stack_heads([sample.head for sample in samples]),
        index=torch.tensor([sample.index for sample in samples]),
    )


def stack_heads(heads: Sequence[HeadRow]) -> HeadRow:
    """Heads of one data set as one bundle."""
    first = heads[0]
    return type(first)(**{name: torch.cat([vars(head)[name] for head in heads]) for name in vars(first)})
