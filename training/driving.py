"""A driving folder: a film of somebody's head as meshes, landmarks and cameras, which drives the heads of a video.

The index and its labels are those of data sets; fields and names: `docs/formats.md`. Opening reads the index and makes sure that the files
exist; meshes are read when their frame is due, so a long film takes no memory. A data set with head parameters, such as a tracked film,
drives as well (`open_driving`): its head model makes the meshes.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from dnnlib.errors import DatasetError
from next3d.head.posed import PosedHeadReader, read_landmarks
from next3d.head.topology import Topology
from next3d.media.performance import Performance, copies, front_camera
from next3d.types import Camera, HeadMesh
from training.heads import HEADS_NAME, ParameterHeads
from training.labels import INDEX_NAME, check_cameras, check_label, read_index, read_labels
from training.layouts import find_contents
from training.storage import FolderStorage

LANDMARK_ENDINGS = ("_kpt2d.txt", ".txt")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]+$")
_NUMBER = re.compile(r"([0-9]+)")


class DrivingFolder(Performance):
    """The frames of a folder, in natural order of their names."""

    still = False
    leads = True

    def __init__(
        self, folder: Path, topology: Topology, *, landmarks: bool = True, labelled_cameras: bool = True, limit: int | None = None
    ) -> None:
        """Open the folder.

        Args:
            folder: `dataset.json`, and per label a mesh `NAME.obj` and landmarks `NAME_kpt2d.txt`; NAME is the label's without suffix.
            topology: of the network; all meshes must have it.
            landmarks: read the landmark files; otherwise the topology's embedding places them, and must be there.
            labelled_cameras: every frame is seen by its label's camera; otherwise all are by the portrait camera.
            limit: leave out what comes after so many frames.

        Raises:
            DatasetError: no index, labels that are no cameras, or files that are missing.
        """
        self._storage = FolderStorage(folder)
        if INDEX_NAME not in self._storage:
            raise DatasetError(
                f"{folder}: has no {INDEX_NAME}; expected a folder that has one and, for every label in it, NAME.obj and NAME_kpt2d.txt."
            )
        shown = self._storage.display(INDEX_NAME)
        table = read_labels(read_index(self._storage, INDEX_NAME), shown)
        names = sorted(table, key=natural_key)[:limit]
        rows = [check_label(table[name], self._storage.display(name), shown) for name in names]
        labels = torch.tensor(rows, dtype=torch.float32)  # [frames, 25]
        check_cameras(labels, [self._storage.display(name) for name in names], shown)
        self._cameras = Camera.from_label(labels) if labelled_cameras else None
        self._meshes = [self._companion(name, (".obj",)) for name in names]
        self._landmarks = [self._companion(name, LANDMARK_ENDINGS) for name in names] if landmarks else None
        self._reader = PosedHeadReader(topology)
        self._latest: tuple[int, HeadMesh] | None = None
        self.frames = len(names)

    def mesh(self, index: int, tiles: range) -> HeadMesh:
        """The mesh of this frame, for every tile; the parts of a frame share one reading."""
        if self._latest is None or self._latest[0] != index:
            self._latest = index, self._read(index)
        return copies(self._latest[1], len(tiles))

    def camera(self, index: int) -> Camera:
        """The label's, or the portrait camera."""
        return front_camera() if self._cameras is None else self._cameras[index : index + 1]

    def _read(self, index: int) -> HeadMesh:
        """A batch of one."""
        landmarks = None
        if self._landmarks is not None:
            name = self._landmarks[index]
            landmarks = read_landmarks(self._storage.read(name), self._storage.display(name))
        mesh = self._meshes[index]
        return self._reader.read(self._storage.read(mesh), self._storage.display(mesh), landmarks)

    def _companion(self, name: str, endings: tuple[str, ...]) -> str:
        """The file of a label that ends in the first of `endings` that there is."""
        stem = _SUFFIX.sub("", name)
        found = [stem + ending for ending in endings if stem + ending in self._storage]
        if not found:
            raise DatasetError(
                f"{self._storage.display(stem + endings[0])}: does not exist, but {self._storage.display(INDEX_NAME)} has a label for "
                f"'{name}'; add the file or remove the label."
            )
        return found[0]


class DrivingHeads(Performance):
    """The frames of a data set with head parameters, in natural order of their names."""

    still = False
    leads = True

    def __init__(self, folder: Path, topology: Topology, *, labelled_cameras: bool = True, limit: int | None = None) -> None:
        """Open the data set.

        Args:
            folder: of the format `next3d-portraits`; its images are not read.
            topology: of the network; the data set's head model must have it.
            labelled_cameras: every frame is seen by its label's camera; otherwise all are by the portrait camera.
            limit: leave out what comes after so many frames.

        Raises:
            DatasetError: the data set is damaged, or its heads are not the network's.
        """
        contents = find_contents(folder)
        heads = contents.heads
        if not isinstance(heads, ParameterHeads) or not torch.equal(heads.topology.faces, topology.faces.cpu()):
            raise DatasetError(
                f"{folder}: its heads ('{heads.name}') have another mesh than the network's; drive it with a film that was tracked with "
                "the head model that the network was trained with."
            )
        self._heads = heads
        self._rows = sorted(range(len(contents.images)), key=lambda row: natural_key(contents.images[row]))[:limit]
        self._cameras = Camera.from_label(contents.labels[self._rows]) if labelled_cameras else None
        self.frames = len(self._rows)

    def mesh(self, index: int, tiles: range) -> HeadMesh:
        """The head of this frame, for every tile."""
        return copies(self._heads.mesh(self._heads.read(self._rows[index])), len(tiles))

    def camera(self, index: int) -> Camera:
        """The label's, or the portrait camera."""
        return front_camera() if self._cameras is None else self._cameras[index : index + 1]


def open_driving(
    folder: Path, topology: Topology, *, landmarks: bool = True, labelled_cameras: bool = True, limit: int | None = None
) -> DrivingHeads | DrivingFolder:
    """A folder that drives heads: a data set where it has `heads.npz`, else meshes. Arguments and errors are those of the two classes."""
    if (folder / HEADS_NAME).is_file():
        return DrivingHeads(folder, topology, labelled_cameras=labelled_cameras, limit=limit)
    return DrivingFolder(folder, topology, landmarks=landmarks, labelled_cameras=labelled_cameras, limit=limit)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts `frame9` before `frame10`: texts and numbers in turn, numbers by their length first."""
    parts = [part.lstrip("0") if place % 2 else part for place, part in enumerate(_NUMBER.split(name))]
    return [(len(part) if place % 2 else 0, part) for place, part in enumerate(parts)]
