"""What a pickle may turn into when nothing of it is run: records, references and plain values of bounded extent.

`dnnlib.safe_pickle` reads; this module has the things that it makes, so that the tables of known constructors can name them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dnnlib.errors import CheckpointError

MAX_DEPTH = 100
"""Containers within containers; published snapshots have 21. Keeps every recursive reader of a result off the end of the stack."""
MAX_PARTS = 2_000_000
"""Parts of a result, counted once for every place where they stand, so that a few shared tuples cannot unfold into billions."""
_MAX_KEY = 4096
_MAX_KEY_INTEGER = 1 << 60


class PickleError(CheckpointError):
    """A pickle that is damaged, or that asks for more than data needs."""


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """A class or function that a pickle names. Nothing is imported; `build` is ours, and stands in for it when it is called."""

    module: str
    name: str
    build: Callable[..., Any] | None = None

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


@dataclass(eq=False, slots=True)
class Opaque:
    """An object that is not built: its class is only a name, its contents are kept as they came."""

    module: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    state: Any = None
    """What BUILD would have handed to the object; None if nothing."""
    called: bool = False
    """Whether the pickle calls it like a function (REDUCE) instead of making a new object of it."""

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


class Unfinished(ABC):
    """Something that becomes a value of its own when BUILD brings its state; a result that still holds one is refused."""

    def __init__(self) -> None:
        self.memo_keys: list[int] = []
        """Where the reader has remembered it, to be replaced by the finished value."""

    @abstractmethod
    def finish(self, state: Any) -> Any:
        """The value. Raises ValueError if the state does not fit."""


def printable(text: object, limit: int = 100) -> str:
    """A text out of a file, fit for a message: one line, no control characters, not too long."""
    escaped = str(text)[: limit + 1].encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= limit else escaped[:limit] + "…"


def describe(value: Any) -> str:
    """What a message calls a value of a file."""
    return str(value) if isinstance(value, Reference | Opaque) else f"a value of type {type(value).__name__}"


def as_key(value: Any) -> Any:
    """A key of a dictionary or an element of a set: a number or a short text, whose hash costs little and cannot be made to collide.

    Raises:
        ValueError: anything else; the hash of nested tuples, for one, takes exponential time.
    """
    kind = type(value)
    if value is None or kind in (bool, float) or (kind is str and len(value) <= _MAX_KEY):
        return value
    if kind is int and abs(value) < _MAX_KEY_INTEGER:
        return value
    raise ValueError(f"a dictionary or set has a key that is no number or short text ({kind.__name__})")


def check_extent(root: Any) -> None:
    """Walk through every container once, without recursion.

    Raises:
        ValueError: nested deeper than `MAX_DEPTH`, more than `MAX_PARTS` parts when unfolded, containing itself or something unfinished.
    """
    extents: dict[int, tuple[int, int]] = {}  # of each container by its id: parts, depth; (0, 0) while it is being counted
    todo = [_Count(root)]
    while todo:
        count = todo[-1]
        for part in count.parts:
            if isinstance(part, _CONTAINERS):
                if id(part) not in extents:
                    extents[id(part)] = (0, 0)
                    todo.append(_Count(part))
                    break
                count.add(extents[id(part)])
            elif isinstance(part, Unfinished):
                raise ValueError("an array or data type was never given its contents")
            else:
                count.size += 1
        else:
            todo.pop()
            extents[id(count.container)] = (count.size, count.depth)
            if todo:
                todo[-1].add((count.size, count.depth))
        if len(todo) > MAX_DEPTH:
            raise ValueError(f"its data is nested more than {MAX_DEPTH} deep")


class _Count:
    """Parts and depth of one container, counted as far as `parts` was read."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.parts = _parts(container)
        self.size = 1
        self.depth = 1

    def add(self, extent: tuple[int, int]) -> None:
        size, depth = extent
        if size == 0:
            raise ValueError("an object contains itself")
        self.size += size
        self.depth = max(self.depth, depth + 1)
        if self.size > MAX_PARTS:
            raise ValueError(f"shared parts unfold into more than {MAX_PARTS} objects")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"its data is nested more than {MAX_DEPTH} deep")


_CONTAINERS = (list, tuple, dict, Opaque)


def _parts(container: Any) -> Iterator[Any]:
    """What a container holds; sets and keys hold numbers and texts only (`as_key`)."""
    if isinstance(container, dict):
        return iter(container.values())
    if isinstance(container, Opaque):
        return iter((container.args, container.kwargs, container.state))
    if isinstance(container, list | tuple):
        return iter(container)
    return iter((container,))
