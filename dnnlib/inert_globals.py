"""The globals that any data may ask for, and the harmless constructors of ours that stand in for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dnnlib.inert import Opaque, Reference, as_key, describe
from dnnlib.inert_numpy import make_array, make_array_of_buffer, make_scalar, make_type

Global = Callable[..., Any]
"""A constructor of ours that stands in for a global of the file: it must be harmless whatever its arguments are."""


def only_named(*args: Any) -> Any:
    """Stands in for a class that occurs as an argument and is never called."""
    raise ValueError("it may be named, but not called")


def builtin(module: str, name: str) -> Reference | None:
    """A global that needs no permission, under the module name of Python 3 and NumPy 1; None if it is not one of those."""
    present = _RENAMED.get(module, module)
    if present.startswith("numpy._core."):
        present = present.replace("_core", "core", 1)
    build = _GLOBALS.get((present, name))
    return None if build is None else Reference(present, name, build)


def make_set(values: Any = ()) -> set[Any]:
    """Stands in for `set`, by which the oldest protocols write one."""
    return set(map(as_key, _listed(values)))


def make_frozenset(values: Any = ()) -> frozenset[Any]:
    """Stands in for `frozenset`."""
    return frozenset(map(as_key, _listed(values)))


def _empty_bytes() -> memoryview:
    """Stands in for `bytes`, by which Python 3 writes empty ones in the oldest protocols; it makes no others, of any length."""
    return memoryview(b"")


def _bytearray(data: Any = None) -> memoryview:
    if not isinstance(data, memoryview | None):
        raise ValueError("an array of bytes is not made of bytes")
    return memoryview(b"") if data is None else data


def _encode(text: Any, encoding: Any) -> memoryview:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes in the oldest protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes that are not written as latin-1")
    return memoryview(text.encode("latin-1"))


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """Stands in for `OrderedDict`, which Python 2 writes as a list of [key, value]."""
    listed = _listed(pairs)
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in listed):
        raise ValueError("an OrderedDict is made of something else than pairs")
    return {as_key(key): value for key, value in listed}


def _listed(values: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{describe(values)} is used as a list")
    return values


def _old_object(kind: Any, base: Any, state: Any) -> Opaque:
    """Stands in for `copyreg._reconstructor`, which makes the objects of the oldest protocols."""
    if not isinstance(kind, Reference) or kind.build is not None:
        raise ValueError(f"{describe(kind)} is not a class whose objects are kept as records")
    if not isinstance(base, Reference) or (base.module, base.name) != ("builtins", "object") or state is not None:
        raise ValueError(f"an object of {kind} is based on something else than object")
    return Opaque(kind.module, kind.name)


_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_GLOBALS: dict[tuple[str, str], Global] = {
    ("builtins", "object"): only_named,
    ("builtins", "bytes"): _empty_bytes,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "set"): make_set,
    ("builtins", "frozenset"): make_frozenset,
    ("collections", "OrderedDict"): _ordered,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _old_object,
    ("numpy", "ndarray"): only_named,
    ("numpy", "dtype"): make_type,
    ("numpy.core.multiarray", "_reconstruct"): make_array,
    ("numpy.core.multiarray", "scalar"): make_scalar,
    ("numpy.core.numeric", "_frombuffer"): make_array_of_buffer,
}
