"""Packed states: what a `.state` file holds in half of its bytes, in files of limited size, to be kept in a repository and carried to other
machines. A folder holds one; `docs/formats.md` has the fields.

Weights and counters stay as they are. What the rest loses, and why that does no harm:

- Adam's first moment is left out where its decay is 0: the next step's gradient takes its place before anybody reads it, so nothing is
  lost. Elsewhere it is rounded to bfloat16.
- Adam's second moment is rounded to bfloat16, which has float32's range (nine in ten of these numbers are too small for float16) and a
  relative error of at most 2^-8. Its root divides the step, so a step is longer or shorter by at most 2^-9, for as many steps as the
  moment remembers.
- The averaged generator is rounded to float16 (relative error 2^-11), which is what is done to a generator that is handed out. Training
  forgets the difference with the average's half-life. Tensors that equal the generator's, such as buffers, are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dnnlib.errors import CheckpointError, ConfigError
from dnnlib.files import FolderClaim, make_output_folder, remove_leftovers
from next3d.checkpoint import load_tensors, read_metadata, save_tensors

PACKED_FORMAT = "next3d-packed-state"
PACKED_VERSION = 1
_PART_NAME = re.compile(r"(network-\d+-([0-9a-f]{8})\.state)\.([1-9]\d*)of([1-9]\d*)")
_GENERATOR, _AVERAGE = "generator.", "average."
_OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
"""Prefixes of moments, and the names of their settings in a run's configuration."""
_FIRST, _SECOND = ".exp_avg", ".exp_avg_sq"
_TEXTS = ("images", "step", "config")
"""Metadata that a state and its parts share."""
_CUT = "@"
"""Between the name of a tensor and the row at which its continuation in the next part begins."""
_ENTRY_BYTES, _HEADER_BYTES = 72, 1024
"""At least what a tensor's entry in a file takes beside its name and shape, and what a header takes beside entries and shared texts."""


def is_part(path: Path) -> bool:
    """Whether a file is called as a part of a packed state is."""
    return _PART_NAME.fullmatch(path.name) is not None


def write_packed(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], part_bytes: int) -> list[Path]:
    """Pack a state; one that was in the folder before goes when the new one is complete. Equal states give equal files.

    Args:
        folder: where the parts go; made if needed. Other files in it stay.
        tensors: of a `.state` file.
        metadata: its texts; `images` is a whole number.
        part_bytes: no file is longer.

    Returns:
        Paths of the parts, in order.

    Raises:
        ConfigError: parts would be too small for a row of a tensor.
        UserError: the folder cannot be written to, there is no room, or another process works there; the old state is as it was.
    """
    texts = {name: metadata.get(name, "") for name in _TEXTS}
    parts = _split(_reduced(tensors, metadata), part_bytes - len(json.dumps(texts)) - _HEADER_BYTES)
    digests = [_digest(part) for part in parts]
    identity = _identity(digests, texts)
    make_output_folder(folder)
    stem = folder / f"network-{int(texts['images']) // 1000:06d}-{identity[:8]}.state"
    paths = [stem.with_name(f"{stem.name}.{number}of{len(parts)}") for number in range(1, len(parts) + 1)]
    claim = FolderClaim(folder)
    try:
        remove_leftovers(folder)
        old = [path for path in folder.iterdir() if is_part(path) and path not in paths]
        described = {"format": PACKED_FORMAT, "format_version": str(PACKED_VERSION), "state": identity, "parts": str(len(parts)), **texts}
        rows = zip(paths, parts, digests, strict=True)
        _save_all({path: (part, {**described, "part": _number(path), "sha256": digest}) for path, part, digest in rows})
        for path in old:
            path.unlink(missing_ok=True)
    finally:
        claim.release()
    return paths


def read_packed(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a packed state: tensors as a `.state` file has them, and the texts `images`, `step` and `config`.

    Raises:
        CheckpointError: there is none, a part is missing or damaged, parts are of different states, or newer than this version.
    """
    paths = _complete(folder)
    joined: dict[str, Tensor] = {}
    digests: list[str] = []
    texts: dict[str, str] = {}
    for path in paths:
        tensors, metadata = load_tensors(path, PACKED_FORMAT, PACKED_VERSION)
        _check_place(path, metadata, texts)
        digests.append(_digest(tensors))
        if digests[-1] != metadata.get("sha256"):
            raise CheckpointError(f"{path}: its numbers are not those that were written: the file is damaged, copy it again")
        joined |= tensors
        texts = texts or {name: metadata.get(name, "") for name in ("state", *_TEXTS)}
    if _identity(digests, texts) != texts["state"]:
        raise CheckpointError(f"{folder}: the parts of {_stem(paths[0])} do not belong together; copy all of them again")
    return _restored(_joined(joined)), {name: texts[name] for name in _TEXTS}


def _number(path: Path) -> str:
    """Which part a file is, by its name."""
    match = _PART_NAME.fullmatch(path.name)
    assert match is not None  # nobody asks for other files
    return match[3]


def _stem(path: Path) -> str:
    return path.name.rpartition(".")[0]


def _save_all(files: Mapping[Path, tuple[Mapping[str, Tensor], Mapping[str, str]]]) -> None:
    """Write files; if one cannot be written, those that were not there before go again."""
    new = [path for path in files if not path.exists()]
    try:
        for path, (tensors, metadata) in files.items():
            save_tensors(path, tensors, metadata)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _complete(folder: Path) -> list[Path]:
    """Parts of the complete state in a folder, in order; of two (a replacement was cut short) the one that has seen more images."""
    found: dict[tuple[str, int], dict[int, Path]] = {}
    for path in folder.iterdir():
        if match := _PART_NAME.fullmatch(path.name):
            found.setdefault((match[1], int(match[4])), {})[int(match[3])] = path
    wanted = {key: range(1, key[1] + 1) for key in found}
    whole = [[parts[number] for number in wanted[key]] for key, parts in found.items() if parts.keys() >= set(wanted[key])]
    if len(whole) > 1:
        return max(whole, key=lambda paths: _images(paths[0]))
    if whole:
        return whole[0]
    if not found:
        raise CheckpointError(
            f"{folder}: holds no packed state; give a folder that 'next3d state pack' has written, one of a run's .state files, or auto"
        )
    if len(found) > 1:
        raise CheckpointError(f"{folder}: holds parts of {len(found)} different states and none that is complete; copy all parts of one")
    (((stem, count), parts),) = found.items()
    missing = min(set(range(1, count + 1)) - parts.keys())
    raise CheckpointError(f"{folder}: {stem}.{missing}of{count} is missing; copy all {count} parts of that state into the folder")


def _images(path: Path) -> int:
    """Images that the state of a part had seen."""
    images = read_metadata(path, PACKED_FORMAT, PACKED_VERSION).get("images", "")
    return int(images) if images.isdigit() else -1


def _check_place(path: Path, metadata: Mapping[str, str], first: Mapping[str, str]) -> None:
    """A part must be the one that its name says, and of the same state as the first."""
    match = _PART_NAME.fullmatch(path.name)
    state = metadata.get("state", "")
    named = match is not None and state.startswith(match[2]) and [metadata.get("part"), metadata.get("parts")] == [match[3], match[4]]
    if not named or any(first.get(name, metadata.get(name)) != metadata.get(name) for name in ("state", *_TEXTS)):
        raise CheckpointError(f"{path}: is a part of another state than its name says; copy all parts of one state again")


def _reduced(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """What is written of a state."""
    forgetful = tuple(f"{name}." for name in _OPTIMIZERS if _first_decay(metadata, name) == 0)
    reduced = {}
    for name, tensor in tensors.items():
        moment = name.partition(".")[0] in _OPTIMIZERS and name.endswith((_FIRST, _SECOND))
        if name.startswith(_AVERAGE):
            other = tensors.get(_GENERATOR + name.removeprefix(_AVERAGE))
            if other is None or not torch.equal(tensor, other):
                reduced[name] = _rounded(tensor, torch.float16)
        elif moment:
            if not (name.endswith(_FIRST) and name.startswith(forgetful)):
                reduced[name] = _rounded(tensor, torch.bfloat16)
        else:
            reduced[name] = tensor
    return reduced


def _first_decay(metadata: Mapping[str, str], optimizer: str) -> float | None:
    """Decay of the first moment in the run that wrote a state; None if it does not say."""
    try:
        return float(json.loads(metadata["config"])[optimizer]["betas"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A float32 tensor with fewer digits; unchanged if it is of another type, or if one of its numbers is too large."""
    small = tensor.to(dtype)
    return small if tensor.dtype == torch.float32 and bool(small.isfinite().all()) else tensor


def _restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state, from what `_reduced` made of them."""
    rounded = (_AVERAGE, *(f"{name}." for name in _OPTIMIZERS))
    half = (torch.float16, torch.bfloat16)
    restored = {name: tensor.float() if name.startswith(rounded) and tensor.dtype in half else tensor for name, tensor in tensors.items()}
    for name, tensor in list(restored.items()):
        if name.startswith(_GENERATOR):
            restored.setdefault(_AVERAGE + name.removeprefix(_GENERATOR), tensor)
        elif name.partition(".")[0] in _OPTIMIZERS and name.endswith(_SECOND):
            restored.setdefault(name.removesuffix(_SECOND) + _FIRST, torch.zeros_like(tensor))
    return restored


def _split(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """Fill parts of at most `limit` bytes one after the other; a tensor that does not fit is cut between rows and goes on in the next.

    Raises:
        ConfigError: a row alone is longer.
    """
    parts: list[dict[str, Tensor]] = [{}]
    room = limit
    for name, tensor in tensors.items():
        key, rest = name, tensor
        while (rows := _rows_that_fit(rest, room - _entry_bytes(key, tensor))) < _rows(rest):
            if rows:
                parts[-1][key] = rest[:rows]
                rest = rest[rows:]
                key = f"{name}{_CUT}{len(tensor) - len(rest)}"
            elif not parts[-1]:
                raise ConfigError(f"--part-mib: parts of so few bytes have no room for a row of {name!r}; give more")
            parts.append({})
            room = limit
        parts[-1][key] = rest
        room -= _entry_bytes(key, tensor) + rest.nbytes
    return parts


def _entry_bytes(key: str, tensor: Tensor) -> int:
    """At least what a tensor, or a piece of it, takes in the header of a file."""
    return len(json.dumps(key)) + len(str(list(tensor.shape))) + _ENTRY_BYTES


def _rows(tensor: Tensor) -> int:
    """Pieces that a tensor could be cut into."""
    return max(len(tensor), 1) if tensor.dim() else 1


def _rows_that_fit(tensor: Tensor, room: int) -> int:
    """So many rows take at most `room` bytes."""
    if tensor.nbytes <= room:
        return _rows(tensor)
    return max(room, 0) * _rows(tensor) // tensor.nbytes if tensor.nbytes else 0


def _joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors from what `_split` cut."""
    pieces: dict[str, dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, row = key.partition(_CUT)
        pieces.setdefault(name, {})[int(row or 0)] = tensor
    return {name: found[0] if len(found) == 1 else torch.cat([found[row] for row in sorted(found)]) for name, found in pieces.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _identity(digests: Iterable[str], texts: Mapping[str, str]) -> str:
    """What ties the parts of a state together: SHA-256 over what is in them."""
    return hashlib.sha256("\n".join([*digests, *(texts[name] for name in _TEXTS)]).encode()).hexdigest()
