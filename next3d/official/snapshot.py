"""Published network pickles of EG3D and Next3D, read without running a line of what is inside.

The file is a dictionary with the networks G, D and G_ema. A network and most of its parts are "persistent" objects: the name of a class,
the source text of the Python module that defined it, and the object's attributes. The source text is not even looked at. The other parts
are objects of a few known classes, of which only the attributes are read. What a network is then follows from its constructor's arguments
and from its tensors, which get the names that its `state_dict` would give them.

Facts: observed on snapshots that the original programs wrote; see `docs/official.md`.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dnnlib.errors import CheckpointError
from dnnlib.files import sha256
from dnnlib.inert import Opaque, PickleError, describe, printable
from dnnlib.safe_pickle import Global, load_prefix
from torch_utils.inert_storages import MAGIC, TensorReader

NETWORKS = ("G", "D", "G_ema")
_EXPECTED = "expected a network pickle of EG3D or Next3D"
_PERSISTENT = "torch_utils.persistence"
_OWN_PARTS = {"OSGDecoder", "ImportanceRenderer", "RaySampler", "MipRayMarcher2"}
"""Classes of the original programs whose objects are stored like any Python object, without their source."""
_OTHER_KINDS = {
    b"PK\x03\x04": "a PyTorch zip file (torch.save)",
    b"\xfd7zXZ": "compressed (xz); decompress it first",
    b"\x1f\x8b": "compressed (gzip); decompress it first",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"<": "a web page or XML, so the download went wrong",
    b"version https://git-lfs": "a pointer to a file in Git LFS, so the download went wrong",
}
_COST_OF_TENSOR = 256
_MAX_PATH = 500
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class OfficialNetwork:
    """One network of a snapshot."""

    class_name: str
    """Such as "TriPlaneGenerator" or "DualDiscriminator"."""
    kwargs: dict[str, Any]
    """The constructor's arguments as plain values."""
    tensors: dict[str, Tensor]
    """Parameters and buffers by the names and in the order of the original's state dict; they may share the file's memory."""
    parameters: frozenset[str]
    """Which of `tensors` are parameters."""
    attributes: dict[str, Any]
    """The top module's own attributes (numbers, texts, containers of them, tensors): what it has and its state dict does not."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a network pickle holds."""

    networks: dict[str, OfficialNetwork]
    """Those present of "G", "D" and "G_ema"."""
    training_set: dict[str, Any]
    """The arguments of the data set that the networks were trained on; empty if the file has none."""
    other: tuple[str, ...]
    """Names of further things in the file, which were left alone."""
    sha256: str
    """Of the file."""


def read_snapshot(path: Path | str) -> Snapshot:
    """Read a published network pickle.

    The file is mapped, not loaded: do not change it in place while the tensors are in use. Writing to them changes memory only.

    Raises:
        CheckpointError: no such file, another kind of file, damaged, or asking for anything that these networks do not need.
    """
    data = _mapped(Path(path))
    root = _unpickle(data, str(path))
    if not isinstance(root, dict):
        raise CheckpointError(f"{path}: holds {describe(root)} in place of a dictionary of networks; {_EXPECTED}")
    try:
        return _Contents(root, size=len(data)).snapshot(sha256(path))
    except ValueError as problem:
        raise PickleError(f"{path}: {problem}; {_EXPECTED}, nothing in it was run") from problem


def _mapped(path: Path) -> memoryview:
    """The bytes of a file that may be a pickle. Writing to them changes memory only: torch does not respect read-only memory."""
    if not path.is_file():
        raise CheckpointError(f"{path}: {'not a file' if path.exists() else 'no such file'}; {_EXPECTED}")
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise CheckpointError(f"{path}: is empty; {_EXPECTED}")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    if bytes(data[8:10]) == b'{"':
        raise CheckpointError(f"{path}: is a safetensors file; give it a name that ends in .safetensors")
    for start, kind in _OTHER_KINDS.items():
        if bytes(data[: len(start)]) == start:
            raise CheckpointError(f"{path}: is {kind}; {_EXPECTED}")
    return data


def _unpickle(data: memoryview, where: str) -> Any:
    """The outer object of the file, made of plain values, tensors and records."""
    known: dict[tuple[str, str], Global] = {
        (_PERSISTENT, "_reconstruct_persistent_obj"): _persistent,
        ("dnnlib.util", "EasyDict"): _easy_dict,
        ("dnnlib", "EasyDict"): _easy_dict,
        **TensorReader(where).known(),
    }
    value, used = load_prefix(data, where=where, known=known, opaque=_is_part)
    if isinstance(value, int) and value == MAGIC:
        raise CheckpointError(f"{where}: is a PyTorch file (torch.save); {_EXPECTED}")
    if used != len(data):
        raise CheckpointError(
            f"{where}: {len(data) - used} bytes follow the end of its pickle: it is damaged or of another kind; {_EXPECTED}"
        )
    return value


def _is_part(module: str, name: str) -> bool:
    """Whether objects of a class may be parts of a network: those of torch, and those of the original programs without source."""
    if re.fullmatch(r"training(_avatar_texture)?\.\w+(\.\w+)*", module):
        return name in _OWN_PARTS
    return bool(re.fullmatch(r"torch\.nn\.modules\.\w+", module) and re.fullmatch(r"[A-Z]\w*", name))


def _easy_dict() -> dict[str, Any]:
    """Stands in for `dnnlib.util.EasyDict`, a dictionary whose entries are also attributes."""
    return {}


def _persistent(meta: Any) -> Opaque:
    """Stands in for the function that would execute the object's source text: class name and attributes remain."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise ValueError("a persistent object is not described the usual way")
    name, state = meta.get("class_name"), meta.get("state")
    if not isinstance(name, str) or not isinstance(state, dict):
        raise ValueError("a persistent object has no class name or no attributes")
    return Opaque(_PERSISTENT, name, state=state)


class _Contents:
    """Turns the records of a file into networks. Methods raise ValueError with the reason."""

    def __init__(self, root: dict[Any, Any], size: int) -> None:
        self.root = root
        self.bytes_left = 2 * size + _SPARE_BYTES

    def snapshot(self, digest: str) -> Snapshot:
        present = [name for name in NETWORKS if self.root.get(name) is not None]
        if not present:
            found = ", ".join(printable(name, 30) for name in list(self.root)[:5]) or "nothing"
            raise ValueError(f"has none of the networks {', '.join(NETWORKS)}, but {found}")
        given = self.root.get("training_set_kwargs")
        training_set = {} if given is None else self.plain(given, "training_set_kwargs")
        if not isinstance(training_set, dict):
            raise ValueError("its training_set_kwargs are no dictionary")
        other = [str(name) for name, value in self.root.items() if name not in (*NETWORKS, "training_set_kwargs") and value is not None]
        networks = {name: self.network(self.root[name], name) for name in present}
        return Snapshot(networks, training_set, tuple(printable(name) for name in other), digest)

    def network(self, record: Any, name: str) -> OfficialNetwork:
        """One of `NETWORKS`: a persistent object."""
        if not isinstance(record, Opaque) or record.module != _PERSISTENT:
            raise ValueError(f"{name} is {describe(record)}, expected a persistent network object")
        found = {path: (value, is_parameter) for path, value, is_parameter in self.tensors(record, "", name)}
        state = record.state
        attributes = {key: value for key, value in state.items() if isinstance(key, str) and not key.startswith("_") and key != "training"}
        kwargs = self.plain(state.get("_init_kwargs"), f"{name}._init_kwargs")
        if not isinstance(kwargs, dict) or not isinstance(args := state.get("_init_args", ()), tuple) or args:
            raise ValueError(f"the constructor's arguments of {name} are missing or have no names")
        return OfficialNetwork(
            class_name=printable(record.name),
            kwargs=kwargs,
            tensors={path: value for path, (value, _) in found.items()},
            parameters=frozenset(path for path, (_, is_parameter) in found.items() if is_parameter),
            attributes={key: self.plain(value, f"{name}.{key}") for key, value in attributes.items()},
        )

    def tensors(self, record: Any, prefix: str, network: str) -> Iterator[tuple[str, Tensor, bool]]:
        """Names, tensors, and whether they are parameters, as a module's `state_dict` orders them: own ones first, then the children's."""
        where = f"{network}.{prefix}".rstrip(".")
        if not isinstance(record, Opaque) or record.args or record.kwargs or record.called:
            raise ValueError(f"{where} is {describe(record)}, which is no plain module")
        parameters, buffers, children = (_table(record, key, where) for key in ("_parameters", "_buffers", "_modules"))
        transient = record.state.get("_non_persistent_buffers_set", set())
        if not isinstance(transient, set | frozenset) or not buffers.keys().isdisjoint(parameters):
            raise ValueError(f"{where} has damaged tables of parameters and buffers")
        kept = {key: value for key, value in buffers.items() if key not in transient}
        for key, value in (parameters | kept).items():
            if value is not None:
                yield prefix + key, self.counted(value, f"{where}.{key}"), key in parameters
        for key, child in children.items():
            if child is not None:
                yield from self.tensors(child, f"{prefix}{key}.", network)

    def counted(self, value: Any, where: str) -> Tensor:
        """A tensor, if all tensors together are not larger than the file can explain: views of one storage could be of any size."""
        if not isinstance(value, Tensor):
            raise ValueError(f"{where} is {describe(value)}, expected a tensor")
        self.spend(value.numel() * value.element_size() + _COST_OF_TENSOR + len(where))
        return value

    def spend(self, size: int) -> None:
        """Count what callers will hold."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ValueError("its tensors claim more memory than the file has")

    def plain(self, value: Any, where: str) -> Any:
        """Numbers, texts, containers and tensors, copied; anything else is refused."""
        if isinstance(value, dict):
            return {key: self.plain(item, f"{where}.{printable(key, 30)}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.plain(item, where) for item in value]
        if isinstance(value, tuple):
            return tuple(self.plain(item, where) for item in value)
        if isinstance(value, Tensor):
            return self.counted(value, where)
        if isinstance(value, memoryview):
            self.spend(len(value))
            return bytes(value)
        if value is None or isinstance(value, bool | int | float | str | set | frozenset):
            return value
        raise ValueError(f"{where} is {describe(value)}, expected a plain value")


def _table(record: Opaque, key: str, where: str) -> dict[str, Any]:
    """One of a module's dictionaries by name."""
    table = record.state.get(key) if isinstance(record.state, dict) else None
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {describe(record)}, whose {key} are missing")
    for name in table:
        if not isinstance(name, str) or not name or "." in name or len(where) + len(name) > _MAX_PATH:
            raise ValueError(f"{where} is {describe(record)}, which has a part with the name {printable(name, 30)!r}")
    return table
