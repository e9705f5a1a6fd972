"""Data comes out of a pickle as it went in; everything that is not data is refused with its name and never run."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib.errors import CheckpointError
from dnnlib.inert import MAX_DEPTH, Opaque, PickleError, Reference
from dnnlib.safe_pickle import MAX_OPERATIONS, load_object_npy, load_prefix, loads
from tests.next3d.official.snapshot_maker import pickled, stand_in

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(data: bytes, **options: Any) -> Any:
    return loads(data, where="a.pkl", **options)


def as_python(value: Any) -> Any:
    """Bytes come as memoryview; compare them as bytes."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {key: as_python(item) for key, item in value.items()}
    return type(value)(map(as_python, value)) if isinstance(value, list | tuple) else value


# Data

DATA = {
    "constants": [None, True, False],
    "integers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63, -(2**64), 10**100],
    "floats": [0.0, -2.5, 1e300, math.inf],
    "texts": ["", "plain", "tab\tline\nquote'\\", "é", "漢字", "😀", "\udc80", "x" * 300],
    "bytes": [b"", b"\x00\xff", b"y" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((1,), [])],
    "nested": {"a": {"b": [{"c": (1, {2: "d"})}]}},
    "sets": [set(), {1, "two"}, frozenset(), frozenset({3.5})],
    "ordered": OrderedDict(b=1, a=2),
    "shared": [[1, 2]] * 3,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", DATA)
def test_data_comes_out_as_it_went_in(name: str, protocol: int):
    value = as_python(read(pickle.dumps(DATA[name], protocol)))
    assert value == (dict(DATA[name]) if name == "ordered" else DATA[name])
    assert list(map(type, value)) == list(map(type, DATA[name]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::3],
        np.arange(5, dtype=">i4"),
        np.array([[True, False]]),
        np.array(2.5, dtype=np.float16),
        np.zeros((0, 3), np.uint32),
    ],
    ids=["plain", "fortran", "strided", "big-endian", "bool", "scalar-shaped", "empty"],
)
def test_arrays_come_out_as_they_went_in(array: np.ndarray, protocol: int):
    value = read(pickle.dumps(array, protocol))
    assert value.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(value, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_become_numbers(protocol: int):
    value = read(pickle.dumps([np.float64(0.1), np.int32(-7), np.bool_(True)], protocol))
    assert value == [0.1, -7, True]
    assert list(map(type, value)) == [float, int, bool]


def test_an_array_that_stands_in_two_places_stays_one():
    array = np.arange(3.0)
    first, second = read(pickle.dumps([array, array]))
    assert first is second


def test_both_names_of_numpys_core_are_known():
    data = pickle.dumps(np.float64(2.5), 2)
    other = {b"numpy.core.": b"numpy._core.", b"numpy._core.": b"numpy.core."}[
        b"numpy._core." if b"numpy._core." in data else b"numpy.core."
    ]
    renamed = data.replace(b"numpy._core.", b"?").replace(b"numpy.core.", b"?").replace(b"?", other)
    assert read(renamed) == read(data) == 2.5


def test_arrays_of_objects_become_lists():
    array = np.empty((2, 1), object)
    array[0, 0], array[1, 0] = {"a": 1}, None
    assert read(pickle.dumps(array)) == [[{"a": 1}], [None]]


def test_bytes_and_arrays_share_the_memory_of_the_file():
    data = bytearray(pickle.dumps([b"abcdefgh" * 100, np.zeros(1000)]))
    content, array = loads(memoryview(data), where="a.pkl")
    data[data.index(b"abcdefgh")] = ord("X")
    assert bytes(content[:3]) == b"Xbc"
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


def test_python_2_strings_are_decoded():
    assert read(b"\x80\x02](U\x02\xe9!S'it\\'s \\x41\\n'\nI01\nL12L\nI-3\ne.", encoding="latin1") == ["é!", "it's A\n", True, 12, -3]
    assert as_python(read(b"\x80\x02U\x02\xe9!.", encoding="bytes")) == b"\xe9!"


def test_python_2_arrays_are_read():
    """Protocol 2 of Python 2: the contents are a string, and long ones are not decoded at all."""
    for count in (3, 20_000):
        values = np.arange(count, dtype="<f8")
        head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(J" + struct.pack("<i", count) + b"t"
        kind = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        data = b"\x80\x02" + head + kind + b"\x89T" + struct.pack("<i", values.nbytes) + values.tobytes() + b"tb."
        np.testing.assert_array_equal(read(data, encoding="latin1"), values)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_permitted_classes_become_records(protocol: int):
    kind = stand_in("chumpy.ch.Ch")
    thing = kind()
    thing.__dict__.update(x=[1, 2], name="v")
    record = read(pickled(thing, [kind], protocol), opaque=lambda module, name: module == "chumpy.ch")
    assert isinstance(record, Opaque)
    assert (record.module, record.name, record.args, record.called) == ("chumpy.ch", "Ch", (), False)
    assert record.state == {"x": [1, 2], "name": "v"}


def test_old_instances_and_keywords_become_records():
    allow = {"opaque": lambda module, name: module == "m"}
    for record in read(b"(K\x05im\nA\n(cm\nA\nK\x05o\x86.", **allow):
        assert (record.module, record.name, record.args) == ("m", "A", (5,))
    record = read(b"\x80\x04cm\nA\n)}\x8c\x01kK\x07s\x92.", **allow)
    assert record.kwargs == {"k": 7}


def test_a_known_constructor_gets_the_arguments():
    assert read(b"cm\nf\n(K\x02K\x03tR.", known={("m", "f"): lambda a, b: a * b}) == 6


def test_a_class_that_is_only_named_stays_a_reference():
    value = read(b"cm\nA\n.", opaque=lambda module, name: True)
    assert isinstance(value, Reference)
    assert str(value) == "m.A"


def test_persistent_ids_go_to_the_caller():
    assert read(b"\x80\x02K\x05Q.", persistent=lambda key: key + 1) == 6
    assert read(b"Pname\n.", persistent=lambda key: [key]) == ["name"]


def test_prefixes_tell_where_they_end():
    data = pickle.dumps([1]) + b"rest"
    assert load_prefix(data, where="a.pkl") == ([1], len(data) - 4)
    with pytest.raises(PickleError, match="4 bytes follow"):
        read(data)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_object_arrays_of_npy_files_are_read(version: tuple[int, int]):
    array = np.empty((), object)
    array[()] = {"indices": np.arange(4), "names": ["a"]}
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
    value = load_object_npy(stream.getvalue(), where="a.npy")
    np.testing.assert_array_equal(value["indices"], np.arange(4))
    assert value["names"] == ["a"]


def npy_of(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


class Hostile:
    """Calls `os.system` when Python's own reader meets it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an .npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr'", "header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr': '|O'", "header"),
        (npy_of(np.zeros(3)), "expected one of Python objects"),
        (npy_of(np.array([Hostile(Path("x"))])), r"posix\.system|nt\.system"),
        (npy_of(np.array([{}]))[:-4], "truncated"),
    ],
    ids=["empty", "header", "long-header", "numbers", "hostile", "truncated"],
)
def test_other_npy_files_are_refused(data: bytes, message: str):
    with pytest.raises(PickleError, match=message):
        load_object_npy(data, where="a.npy")


# Attacks


def nested_call(name: bytes, argument: bytes) -> bytes:
    """A call as the argument of a call."""
    return b"\x80\x04ccollections\nOrderedDict\n(c" + name + b"\nX" + struct.pack("<I", len(argument)) + argument + b"\x85RtR."


def call(name: bytes, argument: bytes = b"1") -> bytes:
    return b"\x80\x02c" + name + b"\nX" + struct.pack("<I", len(argument)) + argument + b"\x85R."


GLOBALS = {
    "os.system": b"os\nsystem",
    "posix.system": b"posix\nsystem",
    "builtins.eval": b"builtins\neval",
    "__builtin__.eval": b"__builtin__\neval",
    "builtins.exec": b"builtins\nexec",
    "builtins.getattr": b"builtins\ngetattr",
    "builtins.type": b"builtins\ntype",
    "subprocess.Popen": b"subprocess\nPopen",
    "torch.load": b"torch\nload",
    "torch.serialization.load": b"torch.serialization\nload",
    "numpy.load": b"numpy\nload",
    "numpy.core.multiarray.fromfile": b"numpy.core.multiarray\nfromfile",
    "pickle.loads": b"pickle\nloads",
    "copyreg.__newobj__": b"copyreg\n__newobj__",
    "functools.partial": b"functools\npartial",
    "collections.OrderedDict.fromkeys": b"collections\nOrderedDict.fromkeys",
    "training.x": b"training\nx",
}


@pytest.mark.parametrize("name", GLOBALS)
@pytest.mark.parametrize("make", [call, nested_call])
def test_a_global_is_refused_by_name(name: str, make: Any, tmp_path: Path):
    canary = tmp_path / "canary"
    with pytest.raises(PickleError, match=rf"a\.pkl: .*{name}.*nothing in it was run"):
        read(make(GLOBALS[name], f"touch {canary}".encode()))
    assert not canary.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hostile_reduce_is_refused_by_name(protocol: int, tmp_path: Path):
    canary = tmp_path / "canary"
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.system"):
        read(pickle.dumps({"harmless": 1, "deep": [(Hostile(canary),)]}, protocol))
    assert not canary.exists()


TEXT_FORMS = {
    "global": b"cos\nsystem\n(S'x'\ntR.",
    "inst": b"(S'x'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'x'\no.",
    "newobj": b"\x80\x02cos\nsystem\nU\x01x\x85\x81.",
    "newobj_ex": b"\x80\x04cos\nsystem\nU\x01x\x85}\x92.",
    "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
    "build": b"\x80\x02cos\nsystem\n}U\x04argsU\x01xsb.",
}


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_every_way_to_call_is_closed(form: str):
    with pytest.raises(PickleError, match=r"os\.system"):
        read(TEXT_FORMS[form])


def test_permission_for_records_does_not_run_them(tmp_path: Path):
    """Even where every class may be a record, nothing is imported and no `__setstate__` or `__reduce__` gets its turn."""
    canary = tmp_path / "canary"
    value = read(pickle.dumps(Hostile(canary)), opaque=lambda module, name: True)
    assert isinstance(value, Opaque)
    assert value.called
    module = tmp_path / "canary_module.py"
    module.write_text(f"open({str(canary)!r}, 'w')\n")
    read(b"ccanary_module\nA\n)R}U\x01aK\x01sb.", opaque=lambda module, name: True)
    assert not canary.exists()


DAMAGED = {
    "empty": (b"", "truncated"),
    "text": (b"just a text", "it refers to an object"),
    "no end": (b"\x80\x04]", "truncated"),
    "future protocol": (b"\x80\x06N.", "protocol 6"),
    "underflow": (b"\x80\x04R.", "lacks its operands"),
    "underflow past a mark": (b"\x80\x04N(R.", "lacks its operands"),
    "empty stack": (b".", "lacks its operands"),
    "no mark": (b"\x80\x04e.", "lacks its mark"),
    "open mark": (b"\x80\x04(N.", "before its objects are complete"),
    "left over": (b"\x80\x04NN.", "before its objects are complete"),
    "missing memo": (b"\x80\x04h\x05.", "object number 5"),
    "missing text memo": (b"g2147483647\n.", "object number 2147483647"),
    "persistent": (b"\x80\x02K\x01Q.", "persistent id"),
    "persistent text": (b"Pkey\n.", "persistent id"),
    "ext1": (b"\x80\x02\x82\x01.", "extension code"),
    "ext2": (b"\x80\x02\x83\x01\x00.", "extension code"),
    "ext4": (b"\x80\x02\x84\x01\x00\x00\x00.", "extension code"),
    "outside buffer": (b"\x80\x05\x97.", "outside of the file"),
    "read-only buffer": (b"\x80\x05\x98.", "outside of the file"),
    "huge bytes": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "were announced"),
    "huge bytearray": (b"\x80\x05\x96" + b"\x00\x00\x00\x00\x01\x00\x00\x00.", "were announced"),
    "huge text": (b"\x80\x04X\xff\xff\xff\xff.", "were announced"),
    "negative length": (b"\x80\x02T\xff\xff\xff\xff.", "were announced"),
    "huge frame": (b"\x80\x04\x95" + b"\xff" * 8 + b"N.", "a frame of"),
    "huge integer": (b"\x80\x02\x8b\x00\x02\x00\x00" + b"\x7f" * 512 + b".", "an integer has 512 bytes"),
    "negative integer length": (b"\x80\x02\x8b\xff\xff\xff\xff.", "were announced"),
    "many digits": (b"I" + b"9" * 5000 + b"\n.", "too long"),
    "no digits": (b"Ix\n.", "else than digits"),
    "underscored digits": (b"I1_0\n.", "else than digits"),
    "no number": (b"Fos.system\n.", "else than digits"),
    "endless line": (b"cos", "no end"),
    "endless name": (b"c" + b"o" * 5000 + b"\nsystem\n.", "too long"),
    "long name": (b"\x80\x04X\xe8\x03\x00\x00" + b"o" * 1000 + b"\x8c\x01x\x93.", "too long"),
    "bad text": (b"\x80\x04\x8c\x01\xff.", "utf-8"),
    "bad old text": (b"\x80\x02U\x01\xff.", "ascii"),
    "bad escape": (b"S'\\q'\n.", "escape"),
    "no quotes": (b"Sx\n.", "quotes"),
    "call of a text": (b"\x80\x04\x8c\x01x)R.", "calls a value of type str"),
    "arguments are no tuple": (b"\x80\x04ccollections\nOrderedDict\n]R.", "arguments that are none"),
    "global of numbers": (b"\x80\x04K\x01K\x02\x93.", "is no text"),
    "state of a list": (b"\x80\x04]}b.", "takes no state"),
    "append to a dictionary": (b"\x80\x04}Na.", "used as a list"),
    "items of a list": (b"\x80\x04]NNs.", "used as a dictionary"),
    "half an item": (b"\x80\x04}(Nu.", "a key without a value"),
    "tuple as key": (b"\x80\x04})Ns.", "no number or short text"),
    "list as key": (b"\x80\x04}]Ns.", "no number or short text"),
    "huge number as key": (b"\x80\x04}\x8a\x09" + b"\x7f" * 9 + b"Ns.", "no number or short text"),
    "list in a set": (b"\x80\x04\x8f(]\x90.", "no number or short text"),
    "bytes of any length": (b"cbuiltins\nbytes\n(I1000000000000\ntR.", "builtins.bytes does not fit"),
    "bytearray of any length": (b"cbuiltins\nbytearray\n(I1000000000000\ntR.", "builtins.bytearray does not fit"),
    "object is called": (b"cbuiltins\nobject\n)R.", "may be named, but not called"),
    "array is called": (b"cnumpy\nndarray\n(I1000000000000\ntR.", "may be named, but not called"),
    "old object of a known one": (b"ccopy_reg\n_reconstructor\n(cbuiltins\nset\ncbuiltins\nobject\nNtR.", "builtins.set is not a class"),
    "contains itself": (b"\x80\x04]\x94h\x00a.", "contains itself"),
    "contains itself deeper": (b"\x80\x04]\x94]h\x00aa.", "contains itself"),
    "unfinished array": (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.", "never given its contents"),
    "array of another class": (b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nset\n(I0\ntS'b'\ntR.", "expected numpy.ndarray"),
    "unknown data type": (b"cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR.", "data type V8"),
    "data type of fields": (b"cnumpy\ndtype\n(](S'a'\nS'f8'\n\x86eI0\nI1\ntR.", "data type"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_ends_in_one_sentence(name: str):
    data, reason = DAMAGED[name]
    with pytest.raises(PickleError, match=reason) as caught:
        read(data)
    assert str(caught.value).startswith("a.pkl: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def array_pickle(shape: str, dtype: str = "f8", contents: bytes = b"\x00" * 16, fortran: str = "I00") -> bytes:
    kind = f"cnumpy\ndtype\n(S'{dtype}'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb".encode()
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
    return head + shape.encode() + b"t" + kind + fortran.encode() + b"\nB" + struct.pack("<I", len(contents)) + contents + b"tb."


@pytest.mark.parametrize(
    "shape", ["I3\n", "I-2\n", "I1\nI-2\n", "I99999999999\nI99999999999\n", "F2.0\n", "N", "I2\n" * 40, "I0\nI9999999999999999\n"]
)
def test_a_shape_must_agree_with_the_bytes(shape: str):
    np.testing.assert_array_equal(read(array_pickle("I2\n")), [0, 0])
    with pytest.raises(PickleError, match="shape"):
        read(array_pickle(shape))


def test_objects_are_no_bytes():
    with pytest.raises(PickleError, match="array of objects is damaged"):
        read(array_pickle("I2\n", dtype="O8"))


def test_bool_arrays_hold_nothing_but_bools():
    array = read(array_pickle("I4\n", dtype="b1", contents=b"\x00\x01\x02\xff"))
    assert array.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_escape_sequences_of_a_terminal_do_not_reach_the_message():
    with pytest.raises(PickleError) as caught:
        read(b"\x80\x04\x8c\x05\x1b[2Jo\x8c\x06system\x93.")
    assert "\x1b" not in str(caught.value)


# Bombs


def repeated(name: bytes, argument: bytes, times: int) -> bytes:
    """A call with an argument out of the memo, again and again; the results stay on the stack."""
    return b"\x80\x04c" + name + b"\n\x94" + argument + b"\x94" + b"h\x00h\x01R" * times + b"."


TEXT = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
BYTES = b"B" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
NUMBERS = b"](" + b"".join(b"M" + struct.pack("<H", i) for i in range(50_000)) + b"e"
BIG_ENDIAN = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4I0\nI1\ntR(K\x03X\x01\x00\x00\x00>NNNtb"


def doubled(step: bytes, times: int = 40) -> bytes:
    """Every step makes something out of its predecessor, taken twice (REF)."""
    steps = [step.replace(b"REF", b"h" + bytes([i])) + b"\x940" for i in range(times)]
    return b"\x80\x04)\x940" + b"".join(steps) + b"h" + bytes([times]) + b"."


BOMBS = {
    "tuples of themselves": (doubled(b"REFREF\x86"), "unfold into more"),
    "lists of themselves": (doubled(b"(REFREFl"), "unfold into more"),
    "dictionaries of themselves": (doubled(b"(K\x00REFK\x01REFd"), "unfold into more"),
    "records of themselves": (doubled(b"ca\nb\nREFREF\x86\x81"), "unfold into more"),
    "deep tuples": (b"\x80\x04)" + b"\x85" * 60_000 + b".", f"more than {MAX_DEPTH} deep"),
    "deep lists": (b"\x80\x04" + b"(" * 60_000 + b"l" * 60_000 + b".", f"more than {MAX_DEPTH} deep"),
    "deep dictionaries": (b"\x80\x04" + b"}K\x00" * 50_000 + b"N" + b"s" * 50_000 + b".", f"more than {MAX_DEPTH} deep"),
    "deep states of records": (b"\x80\x04" + b"ca\nb\n)\x81" * 50_000 + b"N" + b"b" * 50_000 + b".", f"more than {MAX_DEPTH} deep"),
    "deep marks": (b"\x80\x04" + b"(" * 200_000 + b".", "lacks its operands"),
    "the same set again and again": (repeated(b"builtins\nset", NUMBERS + b"\x85", 100_000), "copies more data"),
    "the same text again and again": (repeated(b"_codecs\nencode", TEXT + b"\x8c\x06latin1\x86", 100_000), "copies more data"),
    "the same number again and again": (repeated(b"numpy.core.multiarray\nscalar", BIG_ENDIAN + BYTES + b"\x86", 100_000), "does not fit"),
    "the same array again and again": (
        repeated(b"numpy.core.numeric\n_frombuffer", b"(" + BYTES + BIG_ENDIAN + b"(J\x00\x00\x04\x00tX\x01\x00\x00\x00Ct", 100_000),
        "copies more data",
    ),
    "the same call with all arguments": (repeated(b"collections\nOrderedDict", b"(" + b"N" * 100_000 + b"t", 50_000), "does not fit"),
    "the same memo entry": (b"\x80\x04]" + b"\x94" * 200_000 + b".", ""),
    "memo numbers far apart": (b"\x80\x04]" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - (i << 12)) for i in range(50_000)) + b".", ""),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_neither_time_nor_memory(name: str):
    data, reason = BOMBS[name]
    begin = time.process_time()
    tracemalloc.start()
    try:
        if reason:
            with pytest.raises(PickleError, match=reason):
                read(data, opaque=lambda module, name: module == "a")
        else:
            assert read(data) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - begin < 10
    assert peak < 100 << 20


def test_the_number_of_operations_is_limited(monkeypatch: pytest.MonkeyPatch):
    assert MAX_OPERATIONS == 1_000_000
    monkeypatch.setattr("dnnlib.safe_pickle.MAX_OPERATIONS", 1000)
    assert read(b"N0" * 498 + b"N.") is None
    with pytest.raises(PickleError, match="more than 1000 operations"):
        read(b"N0" * 500 + b"N.")


# Fuzz


def test_mutations_end_in_one_sentence_or_a_value():
    """500 truncations and 500 changed bytes of a pickle with everything in it."""
    rng = np.random.default_rng(0)
    value = {**DATA, "array": np.arange(30.0).reshape(5, 6), "scalar": np.float64(1.5), "objects": np.array([{}, None], object)}
    for protocol in (0, 2, 4):
        data = pickle.dumps(value, protocol)
        offsets = rng.integers(0, len(data), 500)
        for offset, byte in zip(offsets, rng.integers(0, 256, 500), strict=True):
            with pytest.raises(PickleError, match=r"^a\.pkl: [^\n]*$"):
                read(data[:offset])
            changed = data[:offset] + bytes([byte]) + data[offset + 1 :]
            with contextlib.suppress(PickleError):
                read(changed)
