"""State dicts written by `torch.save` (`.pth`, `.pt`), read by our own reader of pickles: nothing in the file is run.

Both containers are known: the zip archive that torch has written since 1.6 (`…/data.pkl` and one entry `…/data/KEY` per storage) and the
older stream of five pickles (magic number, protocol number, facts about the machine, the object, the keys of its storages), after which
the storages follow, each with its number of elements.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib.errors import CheckpointError
from dnnlib.inert import Reference, describe
from dnnlib.safe_pickle import load_prefix, loads
from torch_utils.inert_storages import ELEMENTS, MAGIC, STORAGE_TYPES, Storage, TensorReader

_ZIP = b"PK\x03\x04"
_WRAPPERS = ("state_dict", "model", "weights")
"""Keys under which training programs put the state dict beside other things."""


def read_torch_file(path: Path | str) -> dict[str, Tensor]:
    """The named tensors of a state dict, on the CPU.

    Raises:
        CheckpointError: no such file, not one of torch's, damaged, a program (TorchScript, a pickled module), or without tensors.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); give the path of a weights file.") from error
    try:
        value = _read_archive(data, str(path)) if data.startswith(_ZIP) else _read_stream(memoryview(data), str(path))
    except (ValueError, KeyError, struct.error, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: is damaged or not a file of torch.save ({error}); get it again.") from error
    return _named_tensors(value, path)


class _Storages:
    """Makes storages of persistent ids; where their contents come from is the caller's business."""

    def __init__(self, where: str, limit: int) -> None:
        self.found: dict[str, Storage] = {}
        self.reader = TensorReader(where)
        self._room = limit

    def make(self, identity: Any) -> Storage:
        """The empty storage that an id ("storage", type, key, location, count, …) announces; the same key gives the same storage."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage" or identity[5:] not in ((), (None,)):
            raise ValueError("a tensor refers to something else than one storage")
        kind, key, _, count = identity[1:5]
        if not isinstance(kind, Reference) or kind.name not in ELEMENTS:
            raise ValueError(f"a tensor has elements of {describe(kind)}, which is not supported")
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise ValueError("the description of a tensor's contents is damaged")
        if key not in self.found:
            dtype = ELEMENTS[kind.name]
            self._room -= count * dtype.itemsize
            if self._room < 0:
                raise ValueError("its tensors are larger than the file")
            self.found[key] = Storage(torch.zeros(count, dtype=dtype))
        return self.found[key]

    def fill(self, key: str, data: memoryview) -> None:
        """Put the bytes of a storage in place."""
        elements = self.found[key].elements
        if data.nbytes != elements.nbytes:
            raise ValueError(f"a tensor has {data.nbytes} bytes of contents, expected {elements.nbytes}")
        if elements.numel():
            raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            elements.copy_(raw != 0 if elements.dtype == torch.bool else raw.view(elements.dtype))

    def loaders(self) -> dict[tuple[str, str], Any]:
        """Constructors that a state dict may ask for."""
        return {**STORAGE_TYPES, **self.reader.known()}


def _read_archive(data: bytes, where: str) -> Any:
    """The object in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        main = next((name for name in entries if name.endswith("/data.pkl")), None)
        if main is None:
            raise ValueError("it holds no data.pkl")
        root = main.removesuffix("data.pkl")
        if any(name.startswith(f"{root}code/") or name == f"{root}constants.pkl" for name in entries):
            raise CheckpointError(f"{where}: holds a program (TorchScript), which is not run; save its state_dict with torch.save.")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise ValueError("its entries are compressed, which torch does not do")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it comes from a big-endian machine, which is not supported")
        storages = _Storages(where, len(data))
        value = loads(archive.read(main), where=where, known=storages.loaders(), persistent=storages.make, encoding="latin1")
        for key in storages.found:
            storages.fill(key, memoryview(archive.read(f"{root}data/{key}")))
    return value


def _read_stream(data: memoryview, where: str) -> Any:
    """The object in a stream of pickles."""
    position, values, storages = 0, [], _Storages(where, len(data))
    for _ in range(5):
        part, used = load_prefix(data[position:], where=where, known=storages.loaders(), persistent=storages.make, encoding="latin1")
        position += used
        values.append(part)
        if values[0] != MAGIC:
            raise ValueError("its magic number is not torch's")
    _, _, machine, value, keys = values
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it comes from a big-endian machine, which is not supported")
    if not isinstance(keys, list) or set(keys) != set(storages.found):
        raise ValueError("the list of its tensors is damaged")
    for key in keys:
        elements = storages.found[key].elements
        (count,) = struct.unpack_from("<Q", data, position)
        if count != elements.numel():
            raise ValueError("the contents of a tensor are not as long as announced")
        position += 8
        storages.fill(key, data[position : position + elements.nbytes])
        position += elements.nbytes
    return value


def _named_tensors(value: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file holds: itself, or below one of the customary keys."""
    for key in _WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    named = {name: tensor for name, tensor in value.items() if isinstance(tensor, Tensor)} if isinstance(value, Mapping) else {}
    if not named or not all(isinstance(name, str) for name in named):
        raise CheckpointError(f"{path}: holds {describe(value)}, expected a state dict (names and tensors); save it with torch.save.")
    return named
