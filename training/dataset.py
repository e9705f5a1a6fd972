"""Data sets of portraits with cameras and heads. `open_dataset` reads every layout that `docs/formats.md` describes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from dnnlib.errors import DatasetError
from next3d.head.topology import Topology
from next3d.types import Camera, HeadMesh
from training.batch import Batch, HeadRow, Sample, collate, stack_heads
from training.config import DataConfig
from training.images import decode_rgb
from training.layouts import Complain, Contents, find_contents, stop
from training.remote import FileCache, default_cache
from training.shard_layout import find_shards
from training.shards import ShardStorage
from training.storage import StorageError

SOUND_TRIES = 32
"""Items after a damaged one that are tried in its place."""


class PortraitDataset(Dataset[Sample]):
    """Portraits, each with its camera and head; files are read when an item is asked for."""

    def __init__(self, contents: Contents, resolution: int) -> None:
        self._contents = contents
        self.resolution = resolution
        """Side length of the images that items hold."""

    @property
    def contents(self) -> Contents:
        """Where everything is, for those who copy it."""
        return self._contents

    @property
    def path(self) -> str:
        """The folder, the zip file or the URL."""
        return self._contents.storage.place

    @property
    def names(self) -> Sequence[str]:
        """Image files, inside the data set."""
        return self._contents.images

    def original_name(self, index: int) -> str:
        """What an image was called before it came into a shard; its name where there are no shards."""
        return self.names[index] if self.shards is None else str(self.shards.table.names[index])

    @property
    def labels(self) -> Tensor:
        """[n, 25] float32 camera labels."""
        return self._contents.labels

    @property
    def stored_resolution(self) -> int:
        """Side length of the images on disk."""
        return self._contents.resolution

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Items in each shard, in the order of the items; empty where there are no shards."""
        return self._contents.shard_sizes

    @property
    def shards(self) -> ShardStorage | None:
        """The shards, if the data set is in some."""
        return self._contents.storage if isinstance(self._contents.storage, ShardStorage) else None

    @property
    def topology(self) -> Topology:
        """What the meshes share, on the CPU."""
        return self._contents.heads.topology

    @property
    def head_name(self) -> str:
        """What `next3d.head.load_head` takes to make the head model; empty where the data set brings its own meshes."""
        return self._contents.heads.name

    @property
    def identities(self) -> Tensor | None:
        """[n] int64, equal for images of one person; None where the data set does not say."""
        known = self._contents.heads.identities
        return None if known is None else known[: len(self)]

    @property
    def left_out(self) -> dict[str, int]:
        """Why images are not among the items, and how many."""
        return self._contents.left_out

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read one item.

        Raises:
            DatasetError: its image or mesh is damaged or of another size.
        """
        storage, name = self._contents.storage, self.names[index]
        pixels = decode_rgb(storage.read(name), storage.display(name), self.stored_resolution, self.resolution)
        return Sample(index=index, pixels=pixels, label=self.labels[index], head=self._contents.heads.read(index))

    def bring(self, indices: Sequence[int]) -> None:
        """Fetch the shards of some items, whole, if they are in shards behind a URL; what is there already takes no time.

        Raises:
            StorageError: one cannot be reached, or is not what its checksum says.
        """
        shards = self.shards
        if shards is not None and shards.cache is not None:
            for shard in dict.fromkeys(shards.shard_of(index) for index in indices):
                shards.bring(shard)

    def read(self, indices: Sequence[int]) -> Batch:
        """Read several items as a batch on the CPU."""
        return collate([self[index] for index in indices])

    def conditions(self, indices: Sequence[int]) -> tuple[Camera, HeadRow]:
        """Cameras and heads of several items as batches on the CPU; no image is read."""
        heads = stack_heads([self._contents.heads.read(index) for index in indices])
        return Camera.from_label(self.labels[list(indices)]), heads

    def read_sound(self, indices: Sequence[int]) -> Batch:
        """Read several items as a batch on the CPU; in the place of a damaged one stands the next that is sound (see `Batch.index`).

        Raises:
            DatasetError: many in a row are damaged.
        """
        return collate([self._next_sound(index) for index in indices])

    def _next_sound(self, index: int) -> Sample:
        damage: list[DatasetError] = []
        for step in range(min(SOUND_TRIES, len(self))):
            try:
                return self[(index + step) % len(self)]
            except StorageError:
                raise
            except DatasetError as error:
                damage.append(error)
        raise DatasetError(f"{damage[0]} So are the {len(damage) - 1} after it.")

    def without_last(self, count: int) -> PortraitDataset:
        """All items but the last `count`, which are kept for measuring.

        Raises:
            DatasetError: nothing would be left.
        """
        if count >= len(self):
            raise DatasetError(f"{self.path}: {len(self)} images, of which {count} are to be held out; hold out fewer or add images.")
        kept = len(self) - count
        ends = accumulate(self.shard_sizes)
        sizes = [size - max(0, end - kept) for size, end in zip(self.shard_sizes, ends, strict=True)]
        contents = replace(
            self._contents, images=self.names[:kept], labels=self.labels[:kept], shard_sizes=tuple(size for size in sizes if size > 0)
        )
        return PortraitDataset(contents, self.resolution)

    def head_mesh(self, batch: Batch) -> HeadMesh:
        """Vertices and landmarks of a batch in world units, on the batch's device; the same call for every layout."""
        return self.pose(batch.head)

    def pose(self, head: HeadRow) -> HeadMesh:
        """Vertices and landmarks of heads that this data set gave, in world units, on their device."""
        return self._contents.heads.mesh(head)


def open_dataset(
    path: str | os.PathLike[str],
    resolution: int | None = None,
    *,
    uv_mask: str | os.PathLike[str] | None = None,
    complain: Complain = stop,
    cache: FileCache | None = None,
) -> PortraitDataset:
    """Open our own layout or the published one, as a folder or a zip, or either of them in shards, as a folder or by URL.

    Args:
        path: the data set; for the published layout its root or, as EG3D users give it, the image folder.
        resolution: side length of the images wanted, at most the stored one (the default); smaller ones are box-filtered.
        uv_mask: for data whose heads are meshes, a grey image in UV layout that is white on face and eyes.
        complain: receives what is wrong with single labels; the default raises.
        cache: where to keep shards that come from a URL; None is the usual folder, with its usual limit.

    Raises:
        DatasetError: it is not a data set, or its index, labels or files are not what its format says.
        StorageError: the URL cannot be read.
    """
    mask = None if uv_mask is None else Path(uv_mask)
    contents = find_shards(os.fspath(path), cache or FileCache(default_cache()), mask)
    if contents is None:
        contents = find_contents(Path(path), complain, mask)
    wanted = resolution or contents.resolution
    if wanted > contents.resolution:
        raise DatasetError(
            f"{path}: its images are {contents.resolution}x{contents.resolution} pixels, but {wanted}x{wanted} are wanted; "
            "choose a smaller --cfg or make the data set at a higher resolution."
        )
    return PortraitDataset(contents, wanted)


def open_configured(data: DataConfig, resolution: int) -> PortraitDataset:
    """What a run reads, without what it holds out.

    Args:
        data: the run's settings.
        resolution: of its networks.

    Raises:
        DatasetError: as `open_dataset`; or nothing would be left.
    """
    cache = FileCache(default_cache() if data.cache is None else Path(data.cache), data.cache_gb)
    return open_dataset(data.path, resolution, uv_mask=data.uv_mask, cache=cache).without_last(data.holdout)
