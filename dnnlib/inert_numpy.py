"""NumPy's parts of a pickle, rebuilt without calling NumPy's own unpickling functions.

A pickled array is `_reconstruct(ndarray, (0,), b"b")` followed by BUILD with (version, shape, dtype, Fortran order, contents); a data
type is `dtype("f8", False, True)` followed by BUILD with (version, byte order, ...). Both exist before their contents do: they start
`Unfinished`. Arrays share the memory of the file where byte order allows it. Arrays of objects become nested lists (without any
dimension: the object).
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import numpy as np

from dnnlib.inert import Reference, Unfinished, describe, printable

_TYPE_NAME = re.compile(r"[|<>=]?(?:b1|[iu][1248]|f[248])")
_OBJECTS = np.dtype("O")
_BYTE_ORDERS: dict[str, Literal["<", ">", "="]] = {"<": "<", ">": ">", "=": "=", "|": "="}
_MAX_AXES = 32
_MAX_LENGTH = 1 << 40


class UnfinishedType(Unfinished):
    """A data type whose byte order is yet to come."""

    def __init__(self, name: Any) -> None:
        super().__init__()
        if isinstance(name, str) and re.fullmatch(r"[|]?O[48]?", name):
            self.dtype = _OBJECTS
        elif isinstance(name, str) and _TYPE_NAME.fullmatch(name):
            self.dtype = np.dtype(name)
        else:
            raise ValueError(f"the data type {printable(name)} is none of numbers, booleans or objects")

    def finish(self, state: Any) -> np.dtype[Any]:
        """State: (version, byte order, None for no sub-array, None and None for no fields, ...)."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise ValueError("a data type is no plain number")
        if not isinstance(state[1], str) or state[1] not in _BYTE_ORDERS:
            raise ValueError("a data type has an unknown byte order")
        return self.dtype.newbyteorder(_BYTE_ORDERS[state[1]])


class UnfinishedArray(Unfinished):
    """An array whose shape, type and contents are yet to come."""

    def finish(self, state: Any) -> Any:
        """State: (version, shape, dtype, whether in Fortran order, contents as bytes, Python-2 text or list)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("the state of an array has not five parts")
        _, shape, dtype, fortran, contents = state
        return _array(contents, dtype, shape, "F" if fortran else "C")


def make_type(name: Any, align: Any = False, copy: Any = True) -> UnfinishedType:
    """Stands in for `numpy.dtype`; `align` and `copy` mean nothing for a plain type."""
    return UnfinishedType(name)


def make_array(kind: Any, shape: Any, code: Any) -> UnfinishedArray:
    """Stands in for `numpy.core.multiarray._reconstruct`; the shape and type given here are placeholders by convention."""
    if not isinstance(kind, Reference) or (kind.module, kind.name) != ("numpy", "ndarray"):
        raise ValueError(f"an array of the class {describe(kind)}, expected numpy.ndarray")
    return UnfinishedArray()


def make_array_of_buffer(contents: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Stands in for `numpy.core.numeric._frombuffer`, which protocol 5 uses for contiguous arrays."""
    if not isinstance(order, str) or order not in ("C", "F"):
        raise ValueError("the order of an array is neither C nor F")
    return _array(contents, dtype, shape, "F" if order == "F" else "C")


def make_scalar(dtype: Any, contents: Any) -> Any:
    """Stands in for `numpy.core.multiarray.scalar`: a plain Python number."""
    if not isinstance(dtype, np.dtype) or dtype == _OBJECTS:
        raise ValueError("a NumPy scalar is no number")
    return _array(contents, dtype, (), "C").item()


def _array(contents: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> Any:
    """The array of these contents, which must be exactly as long as shape and type say."""
    if not isinstance(dtype, np.dtype):
        raise ValueError("an array has no data type")
    count = _count(shape)
    if dtype == _OBJECTS:
        return _nested(contents, shape, order, count)
    if isinstance(contents, str):
        contents = contents.encode("latin-1")  # Python 2 has only one type for text and bytes
    if not isinstance(contents, memoryview | bytes) or len(contents) != count * dtype.itemsize:
        raise ValueError(f"an array of {count} values has not the {count * dtype.itemsize} bytes that its shape {printable(shape)} needs")
    if count == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    if dtype == np.bool_:
        return (np.frombuffer(contents, np.uint8) != 0).reshape(shape, order=order)
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, contents, order=order)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _count(shape: Any) -> int:
    """Number of values in an array of this shape."""
    if not isinstance(shape, tuple) or len(shape) > _MAX_AXES or not all(type(n) is int and 0 <= n <= _MAX_LENGTH for n in shape):
        raise ValueError("the shape of an array is none, or absurd")
    return math.prod(shape)


def _nested(contents: Any, shape: tuple[int, ...], order: Literal["C", "F"], count: int) -> Any:
    """Objects as nested lists."""
    if not isinstance(contents, list) or len(contents) != count or (order == "F" and len(shape) > 1):
        raise ValueError(f"an array of objects is damaged: its shape is {printable(shape)}")
    if count == 0:
        return []
    for length in reversed(shape):
        contents = [contents[i : i + length] for i in range(0, len(contents), length)]
    return contents[0]
