"""Tensors of a pickled network: legacy `torch.save` streams read by our own reader of pickles, never by torch.

`torch.storage._load_from_bytes(blob)` holds one storage. The blob is five pickles (magic number, protocol number, facts about the machine,
a persistent id that describes the storage, the list of its one key) and then the number of elements and the elements themselves.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dnnlib.inert import Reference, describe, printable
from dnnlib.inert_globals import Global, only_named
from dnnlib.safe_pickle import load_prefix

MAGIC = 0x1950A86A20F9469CFC6C
"""The first value of a legacy `torch.save` stream."""
_PROTOCOL = 1001
ELEMENTS = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""What is in a storage of each class."""
STORAGE_TYPES: dict[tuple[str, str], Global] = {(module, name): only_named for module in ("torch", "torch.cuda") for name in ELEMENTS}
"""Storage classes, which a file may only name."""
_MAX_AXES = 16
_MAX_ELEMENTS = 1 << 40


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """Elements in a row, which tensors are views of."""

    elements: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class _Description:
    """A storage as its persistent id announces it."""

    dtype: torch.dtype
    key: str
    count: int


class TensorReader:
    """Stands in for the functions by which a pickle makes tensors. Storages share the memory of the file where it is aligned."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._storages: dict[int, tuple[memoryview, Storage]] = {}  # by the identity of the blob, which must live as long

    def known(self) -> Mapping[tuple[str, str], Global]:
        """The constructors for `safe_pickle.loads`."""
        return {
            ("torch.storage", "_load_from_bytes"): self.storage,
            ("torch._utils", "_rebuild_tensor"): self.tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_parameter"): self.parameter,
        }

    def storage(self, blob: Any) -> Storage:
        """The storage in a blob; the same blob gives the same storage.

        Raises:
            ValueError, PickleError: it is not such a stream, or it is damaged or hostile.
        """
        if not isinstance(blob, memoryview):
            raise ValueError("the contents of a tensor are no bytes")
        if id(blob) not in self._storages:
            self._storages[id(blob)] = (blob, self._read(blob))
        return self._storages[id(blob)][1]

    def _read(self, blob: memoryview) -> Storage:
        position = 0
        values = []
        for _ in range(5):
            value, used = load_prefix(
                blob[position:], where=f"{self.where}, inside a tensor", known=STORAGE_TYPES, persistent=_description, encoding="latin1"
            )
            values.append(value)
            position += used
        magic, protocol, machine, description, keys = values
        if magic != MAGIC or protocol != _PROTOCOL or not isinstance(machine, dict) or not isinstance(description, _Description):
            raise ValueError("a tensor is not stored the way torch does it")
        if machine.get("little_endian") is not True:
            raise ValueError("a tensor comes from a big-endian machine, which is not supported")
        if keys != [description.key]:
            raise ValueError("a tensor is stored in several parts, expected one")
        if len(blob) < position + 8 or struct.unpack_from("<Q", blob, position)[0] != description.count:
            raise ValueError("the contents of a tensor are missing or not as long as announced")
        return Storage(_elements(blob[position + 8 :], description))

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, metadata: Any = None
    ) -> Tensor:
        """A view of a storage; whether it wants gradients and the rest mean nothing for data."""
        if not isinstance(storage, Storage):
            raise ValueError(f"a tensor is made of {describe(storage)}, expected a storage")
        sizes, strides = _numbers(size), _numbers(stride)
        if len(sizes) != len(strides) or type(offset) is not int or offset < 0:
            raise ValueError("the layout of a tensor is damaged")
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if math.prod(sizes) and last >= storage.elements.numel():
            raise ValueError(f"a tensor of shape {list(sizes)} does not fit into its storage of {storage.elements.numel()} elements")
        if math.prod(sizes) == 0:
            return storage.elements.new_empty(sizes)
        return torch.as_strided(storage.elements, sizes, strides, offset)

    def parameter(self, data: Any, requires_grad: Any, hooks: Any) -> Tensor:
        """A parameter is its tensor; the module's tables say which tensors are parameters."""
        if not isinstance(data, Tensor):
            raise ValueError(f"a parameter is {describe(data)}, expected a tensor")
        return data


def _description(identity: Any) -> _Description:
    """The persistent id ("storage", type, key, location, element count, None); where the storage once was does not matter."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage" or identity[5:] not in ((), (None,)):
        raise ValueError("a tensor refers to something else than one storage")
    kind, key, _, count = identity[1:5]
    if not isinstance(kind, Reference) or kind.name not in ELEMENTS:
        raise ValueError(f"a tensor has elements of {describe(kind)}, which is not supported")
    if type(count) is not int or not 0 <= count < _MAX_ELEMENTS or not isinstance(key, str):
        raise ValueError("the description of a tensor's contents is damaged")
    return _Description(ELEMENTS[kind.name], key, count)


def _elements(data: memoryview, description: _Description) -> Tensor:
    """Bytes as a row of elements."""
    wanted = description.count * description.dtype.itemsize
    if len(data) != wanted:
        raise ValueError(f"a tensor has {len(data)} bytes of contents, expected {wanted}: it is truncated or damaged")
    if wanted == 0:
        return torch.empty(0, dtype=description.dtype)
    # torch would warn about memory that it must not write to, rightly: it writes all the same.
    raw = torch.frombuffer(bytearray(data) if data.readonly else data, dtype=torch.uint8)
    if description.dtype == torch.bool:
        return raw != 0  # a byte other than 0 and 1 is no value of bool
    aligned = raw.data_ptr() % description.dtype.itemsize == 0
    return (raw if aligned else raw.clone()).view(description.dtype)


def _numbers(values: Any) -> tuple[int, ...]:
    """Sizes or strides."""
    good = isinstance(values, tuple) and len(values) <= _MAX_AXES and all(type(n) is int and 0 <= n < _MAX_ELEMENTS for n in values)
    if not good:
        raise ValueError(
            f"{printable(values, 40) if isinstance(values, tuple) and len(values) < 5 else 'something'} is no layout of a tensor"
        )
    return values
