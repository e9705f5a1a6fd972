"""Reads the data out of a pickle without running anything of it.

A pickle is a program for a small stack machine, and Python's own reader lets it call any function of any module. This one is an
interpreter of its own for protocols 0 to 5 that cannot: it never imports, and a name in the file leads to one of the constructors of
`dnnlib.inert_globals` or of the caller, to an `Opaque` record where the caller allows one, and otherwise to a `PickleError` with that name.

What a file claims costs nothing until the bytes are there: lengths are compared with the bytes left, shapes with their contents, memo
numbers are keys of a dictionary, keys of dictionaries are numbers or short texts, and operations, depth and unfolded size of the result
are limited (`MAX_OPERATIONS`, `inert.MAX_DEPTH`, `inert.MAX_PARTS`). Bytes come as slices of the given memory, not as copies.

Source: the description of the operations in the documentation of the standard module `pickletools`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dnnlib.inert import Opaque, PickleError, Reference, Unfinished, as_key, check_extent, describe, printable
from dnnlib.inert_globals import Global, builtin, make_frozenset
from dnnlib.pickle_bytes import PickleBytes

__all__ = ["MAX_OPERATIONS", "Global", "Opaque", "PickleError", "Reference", "load_object_npy", "load_prefix", "loads"]

MAX_OPERATIONS = 1_000_000
"""Published snapshots have about 130 000; bounds the time and, with about 150 bytes each, the memory that a small file can cost."""
_MAX_NAME = 500


def _no_permission(module: str, name: str) -> bool:
    return False


def loads(
    data: bytes | memoryview,
    *,
    where: str,
    known: Mapping[tuple[str, str], Global] | None = None,
    opaque: Callable[[str, str], bool] = _no_permission,
    persistent: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """The value of a pickle that fills `data`.

    Numbers, texts, lists, tuples, dictionaries and sets come as themselves (`OrderedDict` as dict), bytes as memoryview, arrays of NumPy as
    arrays (of objects: as nested lists), its scalars as Python numbers, other classes and functions as `Reference` where only named and as
    `Opaque` where used.

    Args:
        data: the whole pickle; the result may refer to its memory.
        where: what messages call it, usually the path.
        known: constructors by (module, name); called with the arguments in the file.
        opaque: whether objects of the class or function (module, name) may be kept as records.
        persistent: what makes a value of a persistent id; none are accepted without it.
        encoding: of the text of Python 2, "bytes" to leave it as it is.

    Raises:
        PickleError: not a pickle, damaged, beyond the limits, or asking for anything else; the global is named.
    """
    value, used = load_prefix(data, where=where, known=known, opaque=opaque, persistent=persistent, encoding=encoding)
    if used != len(data):
        raise PickleError(f"{where}: {len(data) - used} bytes follow the end of its pickle: it is damaged or a file of another kind")
    return value


def load_prefix(
    data: bytes | memoryview,
    *,
    where: str,
    known: Mapping[tuple[str, str], Global] | None = None,
    opaque: Callable[[str, str], bool] = _no_permission,
    persistent: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> tuple[Any, int]:
    """The value of a pickle at the start of `data`, and how many bytes it takes; see `loads`."""
    machine = _Machine(memoryview(data).cast("B"), where, known or {}, opaque, persistent, encoding)
    return machine.run(), machine.position


def load_object_npy(data: bytes | memoryview, *, where: str, known: Mapping[tuple[str, str], Global] | None = None) -> Any:
    """What an `.npy` file of Python objects holds: nested lists of them, or the object of an array without dimensions; see `loads`.

    Raises:
        PickleError: another kind of file or array, damaged, or a pickle that `loads` refuses.
    """
    view = memoryview(data).cast("B")
    if bytes(view[:6]) != b"\x93NUMPY" or len(view) < 12:
        raise PickleError(f"{where}: not an .npy file; expected an array of Python objects written by numpy.save")
    begin, layout = (10, "<H") if view[6] == 1 else (12, "<I")
    end = begin + struct.unpack_from(layout, view, 8)[0]
    kind = re.search(rb"'descr': ('\|O\d?'|[^,]*)", bytes(view[begin : min(end, begin + 4096)]))
    if kind is None or end > len(view):
        raise PickleError(f"{where}: the header of the .npy file is damaged; get the file again")
    if not kind[1].startswith(b"'|O"):
        raise PickleError(f"{where}: an array of {printable(kind[1].decode('latin-1'))}, expected one of Python objects")
    return loads(view[end:], where=where, known=known, encoding="latin1")


class _Machine(PickleBytes):
    """Stack, marks and memo of one pickle. Methods raise ValueError with the reason; `run` adds the place."""

    def __init__(
        self,
        data: memoryview,
        where: str,
        known: Mapping[tuple[str, str], Global],
        opaque: Callable[[str, str], bool],
        persistent: Callable[[Any], Any] | None,
        encoding: str,
    ) -> None:
        super().__init__(data, encoding)
        self.where, self.known, self.opaque, self.persistent = where, known, opaque, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.allowance = 2 * len(data) + MAX_OPERATIONS

    def run(self) -> Any:
        """Execute up to the end of the pickle and return its value."""
        try:
            for _ in range(MAX_OPERATIONS):
                code = self.take(1)[0]
                if code == _STOP:
                    return self.result()
                action = _ACTIONS.get(code)
                if action is None:
                    raise ValueError(f"{code:#04x} is {_REFUSED.get(code, 'no operation of a pickle')}")
                action(self)
            raise ValueError(f"more than {MAX_OPERATIONS} operations")
        except (ValueError, OverflowError) as problem:
            raise PickleError(
                f"{self.where}: not a readable pickle of plain data: {problem} (byte {self.position}); "
                "nothing in it was run; get the file again from a source that you trust"
            ) from problem

    def result(self) -> Any:
        value = self.pop()
        if self.stack or self.marks:
            raise ValueError("it ends before its objects are complete")
        check_extent(value)
        return value

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an operation lacks its operands")
        return self.stack[-1]

    def pop(self) -> Any:
        self.top()
        return self.stack.pop()

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("an operation lacks its mark")
        begin = self.marks.pop()
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    # The memo

    def remember(self, key: int) -> None:
        value = self.top()
        self.memo[key] = value
        if isinstance(value, Unfinished):
            value.memo_keys.append(key)

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise ValueError(f"it refers to an object number {printable(key, 20)} that it has not had yet")
        self.push(self.memo[key])

    # Containers

    def extend(self, values: list[Any]) -> None:
        self.expect(list, "list").extend(values)

    def update(self, values: list[Any]) -> None:
        target = self.expect(dict, "dictionary")
        target.update(_pairs(values))

    def add(self, values: list[Any]) -> None:
        self.expect(set, "set").update(map(as_key, values))

    def expect(self, kind: type, name: str) -> Any:
        """The top of the stack, which must be of exactly this type."""
        target = self.top()
        if type(target) is not kind:
            raise ValueError(f"{describe(target)} is used as a {name}")
        return target

    # Objects

    def reference(self, module: Any, name: Any) -> Reference:
        """What a global becomes; the only place where names of the file are looked up."""
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _MAX_NAME:
            raise ValueError("the name of a global is no text, or too long")
        if (build := self.known.get((module, name))) is not None:
            return Reference(module, name, build)
        if (reference := builtin(module, name)) is not None:
            return reference
        if self.opaque(module, name):
            return Reference(module, name)
        raise ValueError(f"it asks for {printable(f'{module}.{name}')}, which is not among the harmless ones")

    def make(self, what: Any, args: Any, kwargs: Any, *, called: bool) -> Any:
        """What calling a class or function gives."""
        if not isinstance(what, Reference):
            raise ValueError(f"it calls {describe(what)}, which is no class or function")
        if not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise ValueError(f"it calls {what} with arguments that are none")
        self.spend(args)
        self.spend(kwargs)
        if what.build is None:
            return Opaque(what.module, what.name, args, kwargs, called=called)
        with _fitting(str(what)):
            return what.build(*args, **kwargs)

    def spend(self, operands: Any) -> None:
        """Count what a constructor may copy: bytes, characters, elements. Honest files copy nothing twice, bombs one thing often."""
        if isinstance(operands, tuple | dict):
            self.allowance -= len(operands)
        if isinstance(operands, tuple) and self.allowance >= 0:
            self.allowance -= sum(len(value) for value in operands if isinstance(value, str | memoryview | list | tuple | dict))
        if self.allowance < 0:
            raise ValueError("it copies more data than it has")

    def build(self) -> None:
        """Give the object on top of the stack its state."""
        state = self.pop()
        target = self.top()
        if isinstance(target, Opaque):
            target.state = state
        elif isinstance(target, Unfinished):
            self.spend(state)
            with _fitting("an array"):
                value = self.stack[-1] = target.finish(state)
            for key in target.memo_keys:
                self.memo[key] = value
            target.memo_keys.clear()
        elif type(target) is not dict:  # attributes of an OrderedDict say nothing that data needs
            raise ValueError(f"{describe(target)} takes no state")

    def persistent_object(self, identity: Any) -> None:
        if self.persistent is None:
            raise ValueError("it refers to an object outside of itself (a persistent id)")
        with _fitting("a persistent id"):
            self.push(self.persistent(identity))


@contextmanager
def _fitting(name: str) -> Iterator[None]:
    """Whatever a constructor stumbles over is the file's fault: it may be given anything."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, RuntimeError) as problem:  # the last: a tensor where a truth value should be
        raise ValueError(f"what it gives to {name} does not fit: {printable(problem, 200)}") from problem


def _pairs(values: list[Any]) -> Iterable[tuple[Any, Any]]:
    if len(values) % 2:
        raise ValueError("a dictionary has a key without a value")
    return zip(map(as_key, values[::2]), values[1::2], strict=True)


# Operations

_Action = Callable[[_Machine], None]


def _constant(value: Any) -> _Action:
    return lambda m: m.push(value)


def _fresh(kind: type) -> _Action:
    return lambda m: m.push(kind())


def _number(layout: str) -> _Action:
    return lambda m: m.push(m.number(layout))


def _integer(layout: str) -> _Action:
    return lambda m: m.push(m.integer(layout))


def _text(layout: str) -> _Action:
    return lambda m: m.push(m.text(layout))


def _old_text(layout: str) -> _Action:
    return lambda m: m.push(m.old_text(m.sized(layout)))


def _bytes(layout: str) -> _Action:
    return lambda m: m.push(m.sized(layout))


def _tuple(size: int) -> _Action:
    def action(m: _Machine) -> None:
        values = [m.pop() for _ in range(size)]
        m.push(tuple(reversed(values)))

    return action


def _protocol(m: _Machine) -> None:
    if (version := m.take(1)[0]) > 5:
        raise ValueError(f"protocol {version}, expected 0 to 5")


def _frame(m: _Machine) -> None:
    if (size := m.number("<Q")) > len(m.data) - m.position:
        raise ValueError(f"a frame of {size} bytes, {len(m.data) - m.position} are left: it is truncated or damaged")


def _pop(m: _Machine) -> None:
    """Whatever lies on top, which may be a mark."""
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()
    else:
        m.pop()


def _set_item(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    m.update([key, value])


def _global(m: _Machine) -> None:
    module, name = m.name_line(), m.name_line()
    m.push(m.reference(module, name))


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.push(m.reference(module, name))


def _reduce(m: _Machine) -> None:
    args, what = m.pop(), m.pop()
    m.push(m.make(what, args, {}, called=True))


def _new_object(m: _Machine) -> None:
    args, what = m.pop(), m.pop()
    m.push(m.make(what, args, {}, called=False))


def _new_object_with_keywords(m: _Machine) -> None:
    kwargs, args, what = m.pop(), m.pop(), m.pop()
    m.push(m.make(what, args, kwargs, called=False))


def _instance(m: _Machine) -> None:
    module, name = m.name_line(), m.name_line()
    m.push(m.make(m.reference(module, name), tuple(m.pop_to_mark()), {}, called=False))


def _object(m: _Machine) -> None:
    what, *args = m.pop_to_mark() or [None]
    m.push(m.make(what, tuple(args), {}, called=False))


_STOP = ord(".")
_REFUSED = {
    **dict.fromkeys((0x82, 0x83, 0x84), "an extension code, whose class is not in the file"),
    **dict.fromkeys((0x97, 0x98), "a buffer outside of the file"),
}
_ACTIONS: dict[int, _Action] = {
    # Constants and empty containers
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord(")"): _constant(()),
    ord("]"): _fresh(list),
    ord("}"): _fresh(dict),
    0x8F: _fresh(set),
    # Numbers
    ord("J"): _number("<i"),
    ord("K"): _number("<B"),
    ord("M"): _number("<H"),
    ord("G"): _number(">d"),
    0x8A: _integer("<B"),
    0x8B: _integer("<i"),
    ord("I"): lambda m: m.push(m.integer_line()),
    ord("L"): lambda m: m.push(m.integer_line()),
    ord("F"): lambda m: m.push(m.float_line()),
    # Text and bytes
    0x8C: _text("<B"),
    ord("X"): _text("<I"),
    0x8D: _text("<Q"),
    ord("C"): _bytes("<B"),
    ord("B"): _bytes("<I"),
    0x8E: _bytes("<Q"),
    0x96: _bytes("<Q"),
    ord("U"): _old_text("<B"),
    ord("T"): _old_text("<i"),
    ord("S"): lambda m: m.push(m.quoted_line()),
    ord("V"): lambda m: m.push(m.unicode_line()),
    # Containers out of what lies on the stack
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("l"): lambda m: m.push(m.pop_to_mark()),
    ord("d"): lambda m: m.push(dict(_pairs(m.pop_to_mark()))),
    0x91: lambda m: m.push(make_frozenset(m.pop_to_mark())),
    ord("a"): lambda m: m.extend([m.pop()]),
    ord("e"): lambda m: m.extend(m.pop_to_mark()),
    ord("s"): _set_item,
    ord("u"): lambda m: m.update(m.pop_to_mark()),
    0x90: lambda m: m.add(m.pop_to_mark()),
    # Stack and memo
    ord("("): _Machine.mark,
    ord("0"): _pop,
    ord("1"): lambda m: m.pop_to_mark().clear(),
    ord("2"): lambda m: m.push(m.top()),
    ord("p"): lambda m: m.remember(m.integer_line()),
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("g"): lambda m: m.recall(m.integer_line()),
    ord("h"): lambda m: m.recall(m.number("<B")),
    ord("j"): lambda m: m.recall(m.number("<I")),
    # Objects
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _new_object,
    0x92: _new_object_with_keywords,
    ord("i"): _instance,
    ord("o"): _object,
    ord("b"): _Machine.build,
    ord("P"): lambda m: m.persistent_object(m.name_line()),
    ord("Q"): lambda m: m.persistent_object(m.pop()),
    # How the rest is written
    0x80: _protocol,
    0x95: _frame,
}
