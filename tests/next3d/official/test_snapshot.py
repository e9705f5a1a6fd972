"""Published snapshots are read completely, and nothing in them is run."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import pickle
import re
import struct
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dnnlib.errors import CheckpointError
from dnnlib.files import sha256
from next3d.official.snapshot import OfficialNetwork, Snapshot, read_snapshot
from tests.next3d.official.snapshot_maker import Network, pickled, snapshot_bytes, stand_in, storage_bytes

KWARGS = {"z_dim": 64, "img_resolution": 128, "rendering_kwargs": {"ray_start": 2.25, "pivot": [0, 0, 0.2]}, "conv_clamp": None}


def small_network() -> Network:
    """Every kind of part, container and tensor that published networks have."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    return Network(
        "TriPlaneGenerator",
        kwargs=KWARGS,
        parameters={
            "backbone.mapping.fc0.weight": draw(8, 5),
            "backbone.mapping.fc0.bias": None,
            "backbone.synthesis.b4.conv0.weight": draw(3, 4, 2, 2).to(memory_format=torch.channels_last),
            "decoder.net.0.weight": draw(6, 7).T,
            "decoder.net.2.weight": draw(100, 50)[10:20, ::5],
        },
        buffers={
            "faces": torch.arange(12).reshape(4, 3),
            "dataset_label_std": draw(25),
            "backbone.mapping.w_avg": draw(8).half(),
            "backbone.synthesis.b4.filter": draw(4),
            "backbone.empty": torch.zeros(0, 3),
            "mask": torch.tensor([True, False]),
            "number": torch.tensor(3, dtype=torch.int32),
            "missing": None,
        },
        transient=("backbone.synthesis.b4.filter",),
        attributes={
            "neural_rendering_resolution": 64,
            "uv_face_mask": draw(1, 1, 8, 8),
            "orth_shift": (0.5, [np.float64(0.25), None]),
            "_last_planes": None,
            "renderer.plane_axes": torch.eye(3),
            "backbone.gain": np.float64(1.5),
        },
        classes={"backbone": "Generator", "backbone.mapping": "MappingNetwork"},
        plain={
            "renderer": "training.volumetric_rendering.renderer.ImportanceRenderer",
            "renderer.ray_marcher": "training.volumetric_rendering.ray_marcher.MipRayMarcher2",
            "ray_sampler": "training_avatar_texture.volumetric_rendering.ray_sampler.RaySampler",
            "decoder": "training_avatar_texture.triplane_v13_neural_blending.OSGDecoder",
            "decoder.net": "torch.nn.modules.container.Sequential",
            "decoder.net.1": "torch.nn.modules.activation.Softplus",
        },
        order=("renderer", "ray_sampler", "backbone", "decoder.net.0", "decoder.net.1"),
    )


STATE_DICT = [
    "faces",
    "dataset_label_std",
    "mask",
    "number",
    "backbone.empty",
    "backbone.mapping.w_avg",
    "backbone.mapping.fc0.weight",
    "backbone.synthesis.b4.conv0.weight",
    "decoder.net.0.weight",
    "decoder.net.2.weight",
]
"""Own parameters, own buffers, then the children in their order."""


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    return path


def refused(tmp_path: Path, data: bytes, reason: str | None = None) -> None:
    """Reading ends in one sentence that names the file and the reason."""
    path = written(tmp_path, data)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_snapshot(path)
    assert re.fullmatch(rf"{re.escape(str(path))}(, inside a tensor)?: [^\n]{{1,600}}", str(caught.value))


class Call:
    """Python's own reader would call the function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


class _Persistent:
    """Found under the name of the original's function."""


_Persistent.__module__, _Persistent.__name__, _Persistent.__qualname__ = ("torch_utils.persistence", *["_reconstruct_persistent_obj"] * 2)


def module_state(**entries: Any) -> dict[str, Any]:
    return {"_parameters": {}, "_buffers": {}, "_modules": {}, "_init_args": (), "_init_kwargs": {}, **entries}


def persistent(meta: Any) -> bytes:
    return pickled({"G": Call(_Persistent, meta)}, [_Persistent])


META = {"type": "class", "class_name": "A", "state": module_state()}


def read_buffers(tmp_path: Path, **buffers: Any) -> dict[str, Tensor]:
    """What comes back of a network with nothing but these buffers."""
    data = persistent({**META, "state": module_state(_buffers=buffers)})
    return read_snapshot(written(tmp_path, data)).networks["G"].tensors


# What is in the file


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("containers", [dict, OrderedDict])
def test_a_network_comes_out_as_it_was_described(tmp_path: Path, protocol: int, containers: type[dict[str, Any]]):
    network = small_network()
    path = written(tmp_path, snapshot_bytes({"G_ema": network}, protocol=protocol, containers=containers))
    snapshot = read_snapshot(path)
    found = snapshot.networks["G_ema"]
    assert found.class_name == "TriPlaneGenerator"
    assert found.kwargs == KWARGS
    assert list(found.tensors) == STATE_DICT
    for name, tensor in found.tensors.items():
        expected = {**network.parameters, **network.buffers}[name]
        assert isinstance(expected, Tensor)
        assert tensor.dtype == expected.dtype
        assert tensor.stride() == expected.stride(), name
        assert torch.equal(tensor, expected), name
    assert found.parameters == {name for name in STATE_DICT if name in network.parameters}
    assert list(found.attributes) == ["neural_rendering_resolution", "uv_face_mask", "orth_shift"]
    assert torch.equal(found.attributes["uv_face_mask"], network.attributes["uv_face_mask"])
    assert found.attributes["orth_shift"] == (0.5, [0.25, None])
    assert snapshot.sha256 == sha256(path)


def test_networks_training_set_and_the_rest_are_told_apart(tmp_path: Path):
    networks = {"G": Network("A"), "D": Network("B"), "G_ema": Network("C")}
    data = snapshot_bytes(networks, training_set={"path": "a.zip", "xflip": True}, extra={"augment_pipe": None, "cur_nimg": 5})
    snapshot = read_snapshot(written(tmp_path, data))
    assert {name: network.class_name for name, network in snapshot.networks.items()} == {"G": "A", "D": "B", "G_ema": "C"}
    assert snapshot.training_set == {"path": "a.zip", "xflip": True}
    assert snapshot.other == ("cur_nimg",)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    ],
    ids=str,
)
def test_every_type_of_element_is_read(tmp_path: Path, dtype: torch.dtype):
    tensor = torch.arange(7).to(dtype)
    networks = {"G": Network("A", buffers={f"{'pad' * i}.x": tensor for i in range(8)})}  # at all alignments
    found = read_snapshot(written(tmp_path, snapshot_bytes(networks))).networks["G"]
    for value in found.tensors.values():
        assert value.dtype == dtype
        assert value.data_ptr() % dtype.itemsize == 0
        assert torch.equal(value, tensor)


def test_tensors_that_share_a_storage_still_do(tmp_path: Path):
    storage = Call(torch.storage._load_from_bytes, storage_bytes(torch.arange(10.0)))
    a, b = (Call(torch._utils._rebuild_tensor_v2, storage, begin, (3,), (1,), False, OrderedDict()) for begin in (2, 4))
    found = read_buffers(tmp_path, a=a, b=b)
    found["a"][2] = -1
    assert found["b"].tolist() == [-1, 5, 6]


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path):
    path = written(tmp_path, snapshot_bytes({"G": small_network()}))
    before = path.read_bytes()
    for tensor in read_snapshot(path).networks["G"].tensors.values():
        tensor.fill_(1)
    assert path.read_bytes() == before


def test_older_torch_wrote_tensors_with_fewer_arguments(tmp_path: Path):
    storage = Call(torch.storage._load_from_bytes, storage_bytes(torch.arange(3.0)))
    oldest = Call(torch._utils._rebuild_tensor, storage, 0, (3,), (1,))
    newest = Call(torch._utils._rebuild_tensor_v2, storage, 0, (3,), (1,), True, OrderedDict(), {"conj": False})
    for tensor in read_buffers(tmp_path, oldest=oldest, newest=newest).values():
        assert tensor.tolist() == [0, 1, 2]


def test_tensors_that_lived_on_a_gpu_are_read_without_one(tmp_path: Path):
    blob = storage_bytes(torch.arange(3.0)).replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert b"cuda:0" in blob
    storage = Call(torch.storage._load_from_bytes, blob)
    found = read_buffers(tmp_path, x=Call(torch._utils._rebuild_tensor_v2, storage, 0, (3,), (1,), False, OrderedDict()))
    assert found["x"].tolist() == [0, 1, 2]
    assert found["x"].device.type == "cpu"


# What is no snapshot


def zip_file() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, stream)
    return stream.getvalue()


OTHERS = {
    "empty": (b"", "is empty"),
    "text": (b"This is no network.", "not a readable pickle"),
    "web page": (b"<!DOCTYPE html><html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "zeros": (bytes(100), "not a readable pickle"),
    "zip": (zip_file(), "PyTorch zip file"),
    "legacy torch": (storage_bytes(torch.zeros(2)), r"PyTorch file \(torch.save\)"),
    "xz": (lzma.compress(b"x"), "decompress it first"),
    "list": (pickle.dumps([1, 2]), "value of type list in place of a dictionary of networks"),
    "number": (pickle.dumps(1), "value of type int in place of"),
    "array": (pickle.dumps(np.zeros(3)), "value of type ndarray in place of"),
    "other dictionary": (pickle.dumps({"model": 1, "epoch": 2}), "none of the networks G, D, G_ema, but model, epoch"),
    "empty dictionary": (pickle.dumps({}), "but nothing"),
    "no network": (pickle.dumps({"G_ema": {"a": 1}}), "G_ema is a value of type dict, expected a persistent network"),
    "trailing": (pickle.dumps({}) + b"more", "4 bytes follow the end"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_file_gets_a_sentence(tmp_path: Path, name: str):
    refused(tmp_path, *OTHERS[name])


def test_no_file_and_a_folder_get_a_sentence(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_snapshot(tmp_path / "absent.pkl")
    with pytest.raises(CheckpointError, match="not a file"):
        read_snapshot(tmp_path)


def test_a_file_that_is_still_downloading_gets_a_sentence(tmp_path: Path):
    data = snapshot_bytes({"G": small_network()})
    refused(tmp_path, data[: len(data) // 2], "truncated")


# Attacks


@pytest.mark.parametrize("place", ["attribute", "kwargs", "outside", "inside a call"])
@pytest.mark.parametrize("function", [os.system, eval, exec, torch.load, getattr, __import__])
def test_functions_are_refused_by_name_and_not_called(tmp_path: Path, place: str, function: Any):
    canary = tmp_path / "canary"
    code = f"touch {canary}" if function is os.system else f"open({str(canary)!r}, 'w')"
    thing = Call(function, code)
    data = {
        "attribute": lambda: snapshot_bytes({"G": Network("A", attributes={"deep.thing": [thing]})}),
        "kwargs": lambda: snapshot_bytes({"G": Network("A", kwargs={"x": {"y": thing}})}),
        "outside": lambda: snapshot_bytes({"G": Network("A")}, extra={"augment_pipe": thing}),
        "inside a call": lambda: snapshot_bytes({"G": Network("A")}, extra={"x": Call(OrderedDict, [("a", thing)])}),
    }[place]()
    refused(tmp_path, data, rf"{function.__module__}\.{function.__name__}, which is not among the harmless ones.*nothing in it was run")
    assert not canary.exists()


def test_os_system_is_refused_under_its_own_name(tmp_path: Path):
    refused(tmp_path, b"\x80\x04}\x8c\x05G_emacos\nsystem\n\x8c\x04true\x85Rs.", r"os\.system")


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_pickle_inside_of_a_tensor_is_read_as_carefully(tmp_path: Path, depth: int):
    """`torch.storage._load_from_bytes` hands its bytes to `torch.load`, which runs whatever they say; also through itself."""
    canary = tmp_path / "canary"
    blob = pickle.dumps(Call(os.system, f"touch {canary}"), 2)
    for _ in range(depth):
        blob = pickle.dumps(Call(torch.storage._load_from_bytes, blob), 2 + 1)
    name = r"torch\.storage\._load_from_bytes" if depth else r"(posix|nt)\.system"
    refused(
        tmp_path,
        snapshot_bytes({"G": Network("A", attributes={"x": Call(torch.storage._load_from_bytes, blob)})}),
        f"inside a tensor.*{name}",
    )
    assert not canary.exists()


def test_a_hostile_storage_type_is_refused(tmp_path: Path):
    blob = storage_bytes(torch.zeros(2)).replace(b"ctorch\nFloatStorage\n", b"cos\nsystem\n")
    refused(tmp_path, snapshot_bytes({"G": Network("A", attributes={"x": Call(torch.storage._load_from_bytes, blob)})}), r"os\.system")


def test_hostile_source_texts_are_never_looked_at(tmp_path: Path):
    canary = tmp_path / "canary"
    source = f"open({str(canary)!r}, 'w')\n" + "\udc80'''(((" * 1000
    before = set(sys.modules)
    found = read_snapshot(written(tmp_path, snapshot_bytes({"G": small_network()}, source=source))).networks["G"]
    assert list(found.tensors)
    assert not canary.exists()
    assert set(sys.modules) == before


HIDDEN = [
    "training.x.Evil",
    "training.x",
    "training_avatar_texture.x.Evil",
    "training.OSGDecoder",
    "torch_utils.persistence.Evil",
    "torch.nn.Evil",
]


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("way", ["reduce", "build", "child"])
def test_a_class_hidden_in_a_known_package_is_refused(tmp_path: Path, name: str, way: str):
    kind = stand_in(name)
    thing = kind()
    thing.__dict__["command"] = "touch canary"
    value = {"reduce": Call(kind, "touch canary"), "build": thing, "child": thing}[way]
    root = (
        {"G": Call(_Persistent, {"type": "class", "class_name": "A", "state": module_state(_modules={"a": value})})}
        if way == "child"
        else value
    )
    refused(tmp_path, pickled(root, [kind, _Persistent]), re.escape(name))


@pytest.mark.parametrize("name", ["training.x.OSGDecoder", "torch.nn.modules.container.Sequential"])
def test_a_known_class_is_only_a_part_and_is_not_called(tmp_path: Path, name: str):
    """A class that networks have as a part: its call and an object elsewhere are refused, its state is never handed to a `__setstate__`."""
    module, _, simple = name.rpartition(".")
    reference = f"c{module}\n{simple}\n".encode()
    for made in (reference + b"X\x01\x00\x00\x00a\x85R", reference + b")R}b", reference + b")\x81}X\x07\x00\x00\x00commandK\x01sb"):
        for place in (b"%b", b"}X\x01\x00\x00\x00G%bs", state_with(b"thing", b"%b"), state_with(b"_modules", b"}X\x01\x00\x00\x00a%bs")):
            refused(tmp_path, b"\x80\x04" + place.replace(b"%b", made) + b".", re.escape(name))


def state_with(key: bytes, value: bytes) -> bytes:
    """Opcodes of a snapshot whose G has an entry in its state."""

    def text(content: bytes) -> bytes:
        return b"X" + struct.pack("<I", len(content)) + content

    tables = b"".join(text(name) + b"}" for name in (b"_parameters", b"_buffers", b"_modules", b"_init_kwargs") if name != key)
    state = b"}(" + tables + text(key) + value + b"u"
    meta = b"}(" + text(b"type") + text(b"class") + text(b"class_name") + text(b"A") + text(b"state") + state + b"u"
    return b"}" + text(b"G") + b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + meta + b"\x85Rs"


DAMAGED = {
    "meta is a list": ([], "not described the usual way"),
    "another type": ({**META, "type": "function"}, "not described the usual way"),
    "no class": ({**META, "class_name": 5}, "no class name"),
    "no state": ({**META, "state": None}, "no attributes"),
    "no tables": ({**META, "state": {}}, "_parameters are missing"),
    "no arguments": ({**META, "state": module_state(_init_kwargs=None)}, "constructor's arguments of G"),
    "unnamed arguments": ({**META, "state": module_state(_init_args=(5,))}, "constructor's arguments of G"),
    "number as parameter": ({**META, "state": module_state(_parameters={"w": 5})}, r"G\.w is a value of type int, expected a tensor"),
    "dictionary as child": ({**META, "state": module_state(_modules={"a": {}})}, r"G\.a is a value of type dict"),
    "dotted name": ({**META, "state": module_state(_modules={"a.b": None})}, "the name 'a.b'"),
    "number as name": ({**META, "state": module_state(_buffers={5: None})}, "the name '5'"),
    "endless name": ({**META, "state": module_state(_buffers={"n" * 4000: None})}, "the name 'nnn"),
    "name twice": ({**META, "state": module_state(_buffers={"a": None}, _parameters={"a": None})}, "damaged tables"),
    "strange set": ({**META, "state": module_state(_non_persistent_buffers_set={"a": 1})}, "damaged tables"),
    "tensors all over": (dict.fromkeys(META, torch.zeros(2)), "not described the usual way"),
    "tensors as tables": ({**META, "state": dict.fromkeys(module_state(), torch.zeros(2))}, "_parameters are missing"),
    "tensors as arguments": ({**META, "state": module_state(_init_args=torch.zeros(2))}, "constructor's arguments"),
    "tensor as training set": (META, "training_set_kwargs are no dictionary"),
    "training set": (META, "training_set_kwargs are no dictionary"),
}
TRAINING_SETS = {"training set": {"training_set_kwargs": [1]}, "tensor as training set": {"training_set_kwargs": torch.zeros(2)}}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_network_gets_a_sentence(tmp_path: Path, name: str):
    meta, reason = DAMAGED[name]
    root = {"G": Call(_Persistent, meta), **TRAINING_SETS.get(name, {})}
    refused(tmp_path, pickled(root, [_Persistent]), reason)


def rebuilt(*arguments: Any) -> bytes:
    """A snapshot with a tensor that these arguments describe; "storage" is one of 6 floats."""
    storage = Call(torch.storage._load_from_bytes, storage_bytes(torch.zeros(6)))
    filled = [storage if value == "storage" else value for value in arguments]
    return persistent({**META, "state": module_state(_buffers={"x": Call(torch._utils._rebuild_tensor_v2, *filled)})})


LAYOUTS = {
    "beyond the end": ("storage", 0, (7,), (1,)),
    "offset beyond the end": ("storage", 6, (1,), (1,)),
    "negative offset": ("storage", -1, (1,), (1,)),
    "stride beyond the end": ("storage", 0, (2, 2), (5, 1)),
    "negative stride": ("storage", 5, (2,), (-1,)),
    "negative size": ("storage", 0, (-1,), (1,)),
    "overflow": ("storage", 0, (2**40, 2**40), (2**40, 2**40)),
    "enormous": ("storage", 0, (2**62,), (1,)),
    "lengths differ": ("storage", 0, (1, 1), (1,)),
    "too many axes": ("storage", 0, (1,) * 65, (1,) * 65),
    "size of floats": ("storage", 0, (1.0,), (1,)),
    "size is a list": ("storage", 0, [1], [1]),
    "no storage": (5, 0, (1,), (1,)),
    "expanded beyond the file": ("storage", 0, (2**30,), (0,)),
    "too few arguments": ("storage", 0),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_tensor_must_fit_into_its_storage(tmp_path: Path, name: str):
    read_snapshot(written(tmp_path, rebuilt("storage", 0, (2, 3), (3, 1), False, OrderedDict())))
    refused(tmp_path, rebuilt(*LAYOUTS[name], *([] if name == "too few arguments" else [False, OrderedDict()])), "tensor|layout")


STORAGES = {
    "other magic": (
        lambda blob: blob.replace(b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"\x8a\nm\xfc\x9cF\xf9 j\xa8P\x19", 1),
        "the way torch does it",
    ),
    "big endian": (lambda blob: re.sub(rb"(little_endianq.)\x88", b"\\1" + b"\x89", blob), "big-endian"),
    "unknown type": (lambda blob: blob.replace(b"FloatStorage", b"QuantStorage"), r"torch\.QuantStorage"),
    "less contents": (lambda blob: blob[:-1], "23 bytes of contents, expected 24"),
    "more contents": (lambda blob: blob + b"x", "25 bytes of contents, expected 24"),
    "no contents": (lambda blob: blob[:-32], "missing or not as long"),
    "other count": (lambda blob: blob[:-32] + struct.pack("<Q", 2**61) + blob[-24:], "missing or not as long"),
    "empty": (lambda blob: b"", "truncated"),
}


@pytest.mark.parametrize("name", STORAGES)
def test_a_damaged_storage_gets_a_sentence(tmp_path: Path, name: str):
    change, reason = STORAGES[name]
    blob = change(storage_bytes(torch.zeros(6)))
    refused(tmp_path, snapshot_bytes({"G": Network("A", attributes={"x": Call(torch.storage._load_from_bytes, blob)})}), reason)


def test_one_tensor_under_many_names_does_not_multiply(tmp_path: Path):
    """Callers copy what they get; a file must not make them copy more than it has."""
    big = torch.zeros(100_000)
    refused(tmp_path, snapshot_bytes({"G": Network("A", buffers={f"x{i}": big for i in range(100)})}), "more memory than the file has")
    refused(tmp_path, snapshot_bytes({"G": Network("A", attributes={"x": [big] * 100})}), "more memory than the file has")
    refused(tmp_path, snapshot_bytes({"G": Network("A", kwargs={"x": [b"x" * 1000_000] * 10})}), "more memory than the file has")


def test_one_module_under_many_names_does_not_multiply(tmp_path: Path):
    child: Any = module_state()
    for _ in range(25):
        shared = Call(_Persistent, {**META, "state": child})
        child = module_state(_modules={"a": shared, "b": shared})
    refused(tmp_path, persistent({**META, "state": child}), "unfold into more")


def test_modules_nested_without_end_get_a_sentence(tmp_path: Path):
    text = b"X\x01\x00\x00\x00a"
    nested = b"\x80\x04" + (b"}" + text) * 50_000 + b"N" + b"s" * 50_000 + b"."
    refused(tmp_path, nested, "nested more than")


# Fuzz


def test_500_truncations_and_changed_bytes_end_in_a_sentence_or_a_snapshot(tmp_path: Path):
    data = snapshot_bytes({"G_ema": small_network()}, training_set={"path": "a.zip"})
    rng = np.random.default_rng(0)
    begin = time.process_time()
    for offset, flip in zip(rng.integers(0, len(data), 500), rng.integers(1, 256, 500), strict=True):
        refused(tmp_path, data[:offset])
        changed = data[:offset] + bytes([data[offset] ^ flip]) + data[offset + 1 :]
        with contextlib.suppress(CheckpointError):
            assert isinstance(read_snapshot(written(tmp_path, changed)), Snapshot)
    assert time.process_time() - begin < 60


PEAK = """
import re, sys, tracemalloc
import torch
from dnnlib.errors import CheckpointError
from next3d.official.snapshot import read_snapshot

def megabytes(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

before = megabytes("VmRSS")
tracemalloc.start()
for path in sys.argv[1:]:
    try:
        snapshot = read_snapshot(path)
    except CheckpointError:
        pass
print(megabytes("VmHWM") - before, tracemalloc.get_traced_memory()[1] / 2**20)
"""


def peak_megabytes(repository: Path, *paths: Path) -> float:
    """Memory that reading these files takes at most, in a process of its own: the tensors and the mapped file count."""
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, paths)], capture_output=True, text=True, cwd=repository, check=True)
    return max(map(float, done.stdout.split()))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_peak_memory_is_bounded_by_the_file(tmp_path: Path, repository: Path):
    network = Network("A", buffers={f"b{i}.x": torch.randn(100 * i, 1000) for i in range(1, 12)})
    data = snapshot_bytes({"G_ema": network})
    changed = bytearray(data)
    changed[data.rindex(b"little_endian") - 40] ^= 0xFF
    paths = [tmp_path / name for name in ("truncated.pkl", "changed.pkl", "whole.pkl")]
    for path, content in zip(paths, (data[:-1000], changed, data), strict=True):
        path.write_bytes(content)
    assert 20 < len(data) / 2**20 < 40
    assert peak_megabytes(repository, *paths) < 3 * len(data) / 2**20


# The real one


@pytest.fixture(scope="module")
def original(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snapshot that the original program wrote."""
    packed = shared_dir / "golden" / "next3d_small.snapshot.pkl.xz"
    path = tmp_path_factory.mktemp("original") / "next3d.pkl"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    return path


@pytest.fixture(scope="module")
def original_snapshot(original: Path) -> Snapshot:
    begin = time.process_time()
    snapshot = read_snapshot(original)
    assert time.process_time() - begin < 10
    return snapshot


def assert_has_state(network: OfficialNetwork, arrays: Any, extra: set[str]) -> None:
    """The network's tensors are these arrays: stored as float16 where that is exact."""
    assert set(network.tensors) - set(arrays.files) == extra
    assert [name for name in network.tensors if name not in extra] == list(arrays.files)
    for name in arrays.files:
        value = network.tensors[name].numpy()
        np.testing.assert_array_equal(value, arrays[name].astype(value.dtype), err_msg=name)


def without_class(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "class_name"}


def test_the_original_snapshot_has_the_published_weights(original_snapshot: Snapshot, shared_dir: Path):
    golden = shared_dir / "golden"
    configs = json.loads((golden / "configs.json").read_text())
    assert list(original_snapshot.networks) == ["G", "D", "G_ema"]
    for name in ("G", "G_ema"):
        network = original_snapshot.networks[name]
        assert network.class_name == "TriPlaneGenerator"
        assert network.kwargs == without_class(configs["next3d"]["G_kwargs"])
        assert_has_state(network, np.load(golden / "next3d_small.state.npz"), extra={"dataset_label_std"})
        assert network.attributes["uv_face_mask"].shape == (1, 1, 256, 256)
        assert network.attributes["neural_rendering_resolution"] == 64
        assert len(network.parameters) == 485
    discriminator = original_snapshot.networks["D"]
    assert discriminator.class_name == "DualDiscriminator"
    assert discriminator.kwargs == without_class(configs["disc"]["D_kwargs"])
    assert_has_state(discriminator, np.load(golden / "next3d_disc_small.state.npz"), extra=set())
    assert original_snapshot.training_set["class_name"] == "training_avatar_texture.dataset.ImageFolderDataset"
    assert original_snapshot.other == ()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_reading_the_original_snapshot_takes_less_than_three_times_its_size(original: Path, repository: Path):
    assert peak_megabytes(repository, original) < 3 * original.stat().st_size / 2**20


def test_damage_to_the_original_snapshot_gets_a_sentence(original: Path, tmp_path: Path):
    data = original.read_bytes()
    for offset in (1000, len(data) // 2, len(data) - 1):
        refused(tmp_path, data[:offset], "truncated")
