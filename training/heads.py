"""Where a data set's heads come from: parameters of a head model, or one mesh file per image. Both end in the same `HeadMesh`."""

from __future__ import annotations

import copy
import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.head.model import OBJECT_TO_WORLD, HeadModel, HeadParams
from next3d.head.obj import read_vertices
from next3d.head.posed import read_landmarks
from next3d.head.topology import Topology
from next3d.types import HeadMesh
from training.batch import HeadRow
from training.storage import Storage

HEADS_NAME = "heads.npz"


class HeadSource(ABC):
    """The heads of a data set, row by row."""

    name: str
    """What `next3d.head.load_head` takes to make the model; empty where the data set brings its own meshes."""
    topology: Topology
    identities: Tensor | None = None
    """[rows] int64, equal for images of one person; None where the data set does not say."""

    @abstractmethod
    def read(self, row: int) -> HeadRow:
        """One head, a batch of one on the CPU.

        Raises:
            DatasetError: its files are missing, damaged or of another topology.
        """

    @abstractmethod
    def mesh(self, head: HeadRow) -> HeadMesh:
        """Vertices and landmarks in world units, on the device of `head`."""


class ParameterHeads(HeadSource):
    """Heads as parameters; the head model poses them on the device, a whole batch at once."""

    def __init__(self, params: HeadParams, model: HeadModel, name: str, identities: Tensor | None = None) -> None:
        self.params, self.identities = params, identities
        self.name = name
        self.topology = model.topology
        self._models = {torch.device("cpu"): model}

    @property
    def model(self) -> HeadModel:
        """The head model, on the CPU."""
        return self._models[torch.device("cpu")]

    def rows(self, rows: Tensor) -> ParameterHeads:
        """Some of the heads; `rows` [N] int64."""
        identities = None if self.identities is None else self.identities[rows]
        return ParameterHeads(self.params[rows], self.model, self.name, identities)

    def read(self, row: int) -> HeadParams:
        """One row of the table."""
        return self.params[row : row + 1]

    def mesh(self, head: HeadRow) -> HeadMesh:
        """Pose the heads; the model is copied to a new device once."""
        if not isinstance(head, HeadParams):
            raise TypeError(f"expected head parameters, got {type(head).__name__}")
        device = head.pose.device
        if device not in self._models:
            # load_head may hand the same model to everyone, so it must not be moved in place.
            self._models[device] = copy.deepcopy(self._models[torch.device("cpu")]).to(device)
        with torch.no_grad():
            return self._models[device](head)


class MeshHeads(HeadSource):
    """One OBJ file and one landmark file per image, in object units, as published."""

    def __init__(self, storage: Storage, meshes: Sequence[str], landmarks: Sequence[str], topology: Topology, topology_name: str) -> None:
        self._storage = storage
        self.topology_name = topology_name
        """The mesh that the topology was read from."""
        self.meshes = meshes
        self.landmarks = landmarks
        self._vertex_count = len(topology.guide_colors)
        self.topology = topology
        self.name = ""

    def read(self, row: int) -> HeadMesh:
        """Read both files and bring them to world units."""
        mesh = self.meshes[row]
        vertices = read_vertices(self._storage.read(mesh), self._storage.display(mesh), self._vertex_count)
        name = self.landmarks[row]
        landmarks = read_landmarks(self._storage.read(name), self._storage.display(name))
        return HeadMesh(vertices[None] * OBJECT_TO_WORLD, landmarks[None] * OBJECT_TO_WORLD)

    def mesh(self, head: HeadRow) -> HeadMesh:
        """The mesh as it was read."""
        if not isinstance(head, HeadMesh):
            raise TypeError(f"expected a mesh, got {type(head).__name__}")
        return head


def read_head_table(storage: Storage, images: Sequence[str], model: HeadModel) -> tuple[HeadParams, Tensor | None]:
    """Read `heads.npz`, parameters and identities [N] if there are any: one row per label, in the same order.

    Raises:
        DatasetError: the file is damaged, a field is missing or misshapen, or rows and labels disagree.
    """
    shown = storage.display(HEADS_NAME)
    advice = "make the data set again."
    try:
        with np.load(io.BytesIO(storage.read(HEADS_NAME)), allow_pickle=False) as table:
            fields = {name: table[name] for name in table.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{shown}: is not a readable NumPy archive ({error}); {advice}") from error
    neutral = vars(model.neutral(1))
    rows = {}
    for field, example in neutral.items():
        wanted = (len(images), *example.shape[1:])
        array = fields.get(field)
        if array is None or array.shape != wanted or array.dtype != np.float32:
            given = "it is missing" if array is None else f"it is {array.dtype} {list(array.shape)}"
            raise DatasetError(f"{shown}: field '{field}' must be float32 {list(wanted)}, but {given}; {advice}")
        if not np.isfinite(array).all():
            bad = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
            raise DatasetError(f"{shown}: field '{field}' of {images[bad]} is NaN or infinite, expected finite numbers; {advice}")
        rows[field] = torch.from_numpy(array)
    names = [str(name) for name in fields.get("names", np.array([]))]
    if names != list(images):
        raise DatasetError(f"{shown}: field 'names' must list the {len(images)} images in the order of the labels; {advice}")
    identity = fields.get("identity")
    if identity is not None and (identity.shape != (len(images),) or identity.dtype.kind not in "iu"):
        raise DatasetError(f"{shown}: field 'identity' must be {len(images)} whole numbers, but it is {identity.dtype}; {advice}")
    return HeadParams(**rows), None if identity is None else torch.from_numpy(identity.astype(np.int64))
