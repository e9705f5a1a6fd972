"""What every data layout is read into, and the two layouts: our own and the published one. Fields and names: `docs/formats.md`.

Opening checks what is cheap: the index, the labels, that files exist. What is inside images and meshes is checked when they are read.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnnlib.errors import DatasetError, UserError
from next3d.head import load_head
from next3d.head.obj import read_topology
from next3d.head.topology import Topology
from training.heads import HeadSource, MeshHeads, ParameterHeads, read_head_table
from training.images import IMAGE_SUFFIXES, image_size
from training.labels import INDEX_NAME, check_cameras, check_label, read_index, read_labels
from training.storage import FolderStorage, Storage, ZipStorage

FORMAT = "next3d-portraits"
FORMAT_VERSION = 1
OWN_IMAGES = "images/"
SIZE_PROBES = 16
"""Images whose size is looked at when a data set without a stated resolution is opened."""

Complain = Callable[[DatasetError], None]
"""Receives what is wrong with one item. It raises to stop; if it returns, the item is left out."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """A data set that was found and whose labels are sound."""

    storage: Storage
    images: Sequence[str]
    """File names inside `storage`, n of them."""
    labels: Tensor
    """[n, 25] float32."""
    heads: HeadSource
    """n rows."""
    resolution: int
    """Side length of the stored images."""
    left_out: dict[str, int]
    """Why images are not among the items, and how many."""
    shard_sizes: tuple[int, ...] = ()
    """Items in each shard, in the order of the items; empty where there are no shards."""


def stop(error: DatasetError) -> None:
    """Complain by raising."""
    raise error


def find_contents(path: Path, complain: Complain = stop, uv_mask: Path | None = None) -> Contents:
    """Read either layout from a folder or a zip.

    Args:
        path: the data set; for the published layout the root or its image folder.
        complain: what to do about labels that are wrong.
        uv_mask: for mesh-only data, a grey image that is white where the UV map shows face or eyes.

    Raises:
        DatasetError: it is none of the two, or its structure is broken.
    """
    if not path.exists():
        raise DatasetError(f"{path}: does not exist; expected a data set, as a folder or a zip file.")
    if path.is_file():
        storage: Storage = ZipStorage(path)
        if INDEX_NAME in storage:
            return _own_contents(storage, complain)
        return _published_contents(storage, _image_folder(path, storage.names), complain, uv_mask)
    if (path / INDEX_NAME).is_file():
        own = FolderStorage(path)
        if "format" in read_index(own, INDEX_NAME) or not path.absolute().name.startswith("images"):
            return _own_contents(own, complain)
        path, folder = path.absolute().parent, path.absolute().name
    else:
        folder = _image_folder(path, [f"{found.parent.name}/{INDEX_NAME}" for found in path.glob(f"*/{INDEX_NAME}")])
    only = [folder, _companion(folder, "meshes"), _companion(folder, "lms")]
    return _published_contents(FolderStorage(path, only), folder, complain, uv_mask)


def _own_contents(storage: Storage, complain: Complain) -> Contents:
    """Our own layout: images and a table of head parameters."""
    shown = storage.display(INDEX_NAME)
    index = read_index(storage, INDEX_NAME)
    _check_format(index, shown)
    table = read_labels(index, shown)
    names = list(table)
    if not any(name in storage for name in names):  # single ones that are missing are broken samples, found when they are read
        raise DatasetError(
            f"{storage.display(names[0])}: does not exist, nor does any other image that {shown} lists; copy the data set again."
        )
    for name in storage.below(OWN_IMAGES, IMAGE_SUFFIXES):
        if name not in table:
            complain(_unlabelled(storage.display(name), shown))
    resolution = index.get("resolution")
    if not isinstance(resolution, int) or resolution < 1:
        raise DatasetError(f"{shown}: the entry 'resolution' must be the side length of the images in pixels; make the data set again.")
    heads = load_heads(storage, index, names)
    kept, labels = _sound_labels(storage, {name: name for name in names}, table, shown, complain)
    if len(kept) < len(names):
        row = {name: number for number, name in enumerate(names)}
        heads = heads.rows(torch.tensor([row[name] for name in kept]))
    return Contents(storage, kept, labels, heads, resolution, {})


def _check_format(index: dict[str, Any], shown: str) -> None:
    """Make sure that we can read this version of the format."""
    version = index.get("format_version")
    if index.get("format") != FORMAT or not isinstance(version, int):
        raise DatasetError(
            f"{shown}: is not the index of a data set with head parameters (format '{FORMAT}'); give a data set made by "
            "'next3d data synthetic', or one with folders images512x512, meshes512x512 and lms512x512."
        )
    if version > FORMAT_VERSION:
        raise DatasetError(f"{shown}: has format_version {version}, this program reads up to {FORMAT_VERSION}; update next3d.")


def _unlabelled(image: str, shown: str) -> DatasetError:
    return DatasetError(f"{image}: has no label in {shown}; add its 25 camera numbers there or remove the image.")


def load_heads(storage: Storage, index: dict[str, Any], names: Sequence[str]) -> ParameterHeads:
    """The head model that the index names, if it is the same one, and the rows of `heads.npz`."""
    shown = storage.display(INDEX_NAME)
    head = index.get("head")
    if not isinstance(head, dict) or not {"id", "fingerprint"} <= head.keys():
        raise DatasetError(f"{shown}: the entry 'head' must hold 'id' and 'fingerprint' of the head model; make the data set again.")
    name = re.sub(r"-\d+$", "", str(head["id"]))  # an identifier is a name and a version
    try:
        model = load_head(name)
    except UserError as error:
        raise DatasetError(f"{shown}: its head model '{head['id']}' cannot be loaded: {error}") from error
    if model.fingerprint() != head["fingerprint"]:  # the version may come from the name of a file: FLAME's does
        raise DatasetError(
            f"{shown}: was made with head model '{head['id']}', fingerprint {str(head['fingerprint'])[:12]}…, but this program has "
            f"'{model.identifier}', {model.fingerprint()[:12]}…; make the data set again, or use the program version that made it."
        )
    params, identities = read_head_table(storage, names, model)
    return ParameterHeads(params, model, name, identities)


def _image_folder(path: Path, names: list[str]) -> str:
    """The one folder `images…` that has an index."""
    folders = sorted(name.partition("/")[0] for name in names if name.startswith("images") and name.partition("/")[2] == INDEX_NAME)
    if not folders:
        raise DatasetError(
            f"{path}: is not a data set; expected {INDEX_NAME} beside the images, or folders like images512x512 (with {INDEX_NAME}), "
            "meshes512x512 and lms512x512."
        )
    if len(folders) > 1:
        raise DatasetError(f"{path}: holds several data sets ({', '.join(folders)}); give the path of one of these folders.")
    return folders[0]


def _companion(folder: str, kind: str) -> str:
    """`images512x512` to `meshes512x512` or `lms512x512`."""
    return kind + folder.removeprefix("images")


def _published_contents(storage: Storage, folder: str, complain: Complain, uv_mask: Path | None) -> Contents:
    """The published layout: images, meshes and landmarks in three folders of equal structure."""
    shown = storage.display(f"{folder}/{INDEX_NAME}")
    table = read_labels(read_index(storage, f"{folder}/{INDEX_NAME}"), shown)
    images = {name.removeprefix(f"{folder}/"): name for name in storage.below(f"{folder}/", IMAGE_SUFFIXES)}
    if not images:
        raise DatasetError(f"{storage.display(folder)}: holds no images; expected PNG files as {INDEX_NAME} lists them.")
    meshes, landmarks = _companion(folder, "meshes"), _companion(folder, "lms")
    stems = {key: key.rpartition(".")[0] for key in images}
    has_mesh = {key for key, stem in stems.items() if f"{meshes}/{stem}.obj" in storage}
    has_both = {key for key in has_mesh if f"{landmarks}/{stems[key]}.txt" in storage}
    left_out = {f"without a mesh in {meshes}": len(images) - len(has_mesh)}
    left_out[f"without landmarks in {landmarks}"] = len(has_mesh) - len(has_both)
    if not has_both:
        kind = f"{meshes}/**/*.obj" if not has_mesh else f"{landmarks}/**/*.txt"
        raise DatasetError(
            f"{storage.path}: none of the {len(images)} images in {folder} has its {kind}; expected one file of the same name per image."
        )
    _report_left_out(storage, left_out, len(images))
    kept, labels = _sound_labels(storage, {key: images[key] for key in images if key in has_both}, table, shown, complain)
    topology, origin = _first_topology(storage, [f"{meshes}/{stems[key]}.obj" for key in kept], uv_mask)
    heads = MeshHeads(
        storage, [f"{meshes}/{stems[key]}.obj" for key in kept], [f"{landmarks}/{stems[key]}.txt" for key in kept], topology, origin
    )
    names = [images[key] for key in kept]
    return Contents(storage, names, labels, heads, _common_size(storage, names), left_out)


def _report_left_out(storage: Storage, left_out: dict[str, int], total: int) -> None:
    """One line for all of them: published data is known to miss some."""
    count = sum(left_out.values())
    if count:
        reasons = ", ".join(f"{number} {reason}" for reason, number in left_out.items() if number)
        _log.warning("%s: %d of %d images are left out (%s).", storage.path, count, total, reasons)


def _sound_labels(
    storage: Storage, images: dict[str, str], table: dict[str, Any], shown: str, complain: Complain
) -> tuple[list[str], Tensor]:
    """Keys of the images whose labels are cameras, and those labels [n, 25].

    Args:
        storage: where the files are.
        images: key in `table` to file name.
        table: labels by key, unchecked.
        shown: the index as messages name it.
        complain: receives what is wrong.
    """
    kept, rows = [], []
    for key, name in images.items():
        try:
            rows.append(check_label(table.get(key), storage.display(name), shown))
            kept.append(key)
        except DatasetError as error:
            complain(error)
    if not rows:
        raise DatasetError(f"{shown}: no image has a usable label; make the labels again.")
    labels = torch.tensor(rows, dtype=torch.float32)
    check_cameras(labels, [storage.display(images[key]) for key in kept], shown)
    return kept, labels


def _first_topology(storage: Storage, meshes: list[str], uv_mask: Path | None) -> tuple[Topology, str]:
    """That of the first mesh; of a later one where that is damaged, which is complained about when it is read."""
    damage = []
    for name in meshes[:SIZE_PROBES]:
        try:
            return read_topology(storage.read(name), storage.display(name), uv_mask), name
        except DatasetError as error:
            damage.append(error)
    raise damage[0]


def _common_size(storage: Storage, names: list[str]) -> int:
    """Side length of most of a few images spread over the data set; damaged and other ones are complained about when they are read."""
    sizes: Counter[tuple[int, int]] = Counter()
    for name in names[:: -(-len(names) // SIZE_PROBES)]:
        with suppress(DatasetError):
            sizes[image_size(storage.read(name), storage.display(name))] += 1
    if not sizes:
        raise DatasetError(f"{storage.path}: none of the first images can be read; copy the data set again.")
    width, height = sizes.most_common(1)[0][0]
    if width != height:
        raise DatasetError(f"{storage.path}: its images are {width}x{height} pixels, expected square ones; crop them around the faces.")
    return width
