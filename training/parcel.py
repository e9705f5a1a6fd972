"""How batches travel from loader processes: as one block of shared memory, because each tensor that is sent costs a socket.

Nothing but a short note goes through the pipe. That matters when a process is killed: the reader of a longer message that was cut off
would wait for the rest forever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.types import Camera
from training.batch import Batch
from training.broken import Reading

_ALIGNMENT = 64
"""Bytes; every tensor begins at a multiple."""
_PIXELS, _LABEL, _INDEX = "batch pixels", "batch label", "batch index"


@dataclass(frozen=True)
class Parcel:
    """A reading on its way."""

    block: Tensor
    """[bytes] uint8."""
    layout: dict[str, tuple[torch.dtype, tuple[int, ...], int]]
    """Name of each tensor to its type, its shape and where it begins."""
    head: type
    broken: list[tuple[int, str]]

    @classmethod
    def pack(cls, reading: Reading) -> Parcel:
        """In the loader process."""
        batch = reading.batch
        tensors = {_PIXELS: batch.pixels, _LABEL: batch.camera.to_label(), _INDEX: batch.index, **vars(batch.head)}
        layout, end = {}, 0
        for name, tensor in tensors.items():
            layout[name] = tensor.dtype, tuple(tensor.shape), end
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        parcel = cls(torch.empty(end, dtype=torch.uint8), layout, type(batch.head), reading.broken)
        for name, tensor in tensors.items():
            parcel._tensor(name).copy_(tensor)
        return parcel

    def unpack(self) -> Reading:
        """In the training process; the tensors share the block."""
        head = self.head(**{name: self._tensor(name) for name in self.layout if name not in (_PIXELS, _LABEL, _INDEX)})
        camera = Camera.from_label(self._tensor(_LABEL))
        return Reading(Batch(self._tensor(_PIXELS), camera, head, self._tensor(_INDEX)), self.broken)

    def pin_memory(self) -> Parcel:
        """A copy in page-locked memory; the loader calls this."""
        return Parcel(self.block.pin_memory(), self.layout, self.head, self.broken)

    def _tensor(self, name: str) -> Tensor:
        dtype, shape, start = self.layout[name]
        return self.block[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
