"""Posed heads from files, as the published data and scripts have them: a mesh (OBJ) and its 68 landmarks (text), both in object units."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dnnlib.errors import DatasetError
from next3d.head.model import OBJECT_TO_WORLD
from next3d.head.obj import read_obj, read_vertices
from next3d.head.topology import Topology, triangle_set
from next3d.types import HeadMesh

LANDMARKS = 68


class PosedHeadReader:
    """Reads heads of one topology.

    Triangles are compared as a set: their order in the file does not matter, because only the vertices are used. They are parsed once for
    files whose lines from the first face on are the same, as those of a video are.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology.to("cpu")
        self._triangles = triangle_set(self._topology.faces)
        self._accepted: bytes | None = None

    def read(self, data: bytes, shown: str, landmarks: Tensor | None = None) -> HeadMesh:
        """One head.

        Args:
            data: the content of an OBJ file; its triangles are optional.
            shown: how messages name the file.
            landmarks: [68, 3], object units; None places them by the topology's embedding, which must be there.

        Returns:
            A batch of one, world units, on the CPU.

        Raises:
            DatasetError: damaged, of another topology, or the landmarks belong to something else.
        """
        vertices = self._vertices(data, shown)[None]
        if landmarks is None:
            points = self._topology.landmarks(vertices)
        else:
            points = landmarks[None]
            _check_near(points, vertices, shown)
        return HeadMesh(vertices * OBJECT_TO_WORLD, points * OBJECT_TO_WORLD)

    def _vertices(self, data: bytes, shown: str) -> Tensor:
        """[V, 3], object units."""
        expected = len(self._topology.guide_colors)
        vertices = read_vertices(data, shown)
        if len(vertices) != expected:
            raise DatasetError(
                f"{shown}: {len(vertices)} vertices, but the network's mesh has {expected}; "
                "export the head with the template of the network's training data."
            )
        start = data.find(b"\nf ")
        if start >= 0 and data[start:] != self._accepted:
            if not torch.equal(triangle_set(read_obj(data, shown).faces), self._triangles):
                raise DatasetError(
                    f"{shown}: has as many vertices as the network's mesh, but other triangles; "
                    "export the head with the template of the network's training data."
                )
            self._accepted = data[start:]
        return vertices


def read_landmarks(data: bytes, shown: str) -> Tensor:
    """The 68 landmarks [68, 3], object units, of a text file.

    Raises:
        DatasetError: not text, or not 68 x 3 finite numbers.
    """
    try:
        numbers = np.array(data.split(), dtype=np.float32)
    except ValueError as error:
        raise DatasetError(f"{shown}: is not a text file of numbers ({error}); expected {LANDMARKS} lines of x y z.") from error
    if numbers.size != LANDMARKS * 3 or not np.isfinite(numbers).all():
        raise DatasetError(
            f"{shown}: holds {numbers.size} numbers, expected {LANDMARKS} lines of x y z, all finite; detect the landmarks again or "
            "leave this head out."
        )
    return torch.from_numpy(numbers.reshape(LANDMARKS, 3))


def _check_near(points: Tensor, vertices: Tensor, shown: str) -> None:
    """Landmarks in pixels, or of another head, would put the mouth anywhere: they must lie in the mesh's box, grown by half its size."""
    low, high = vertices.amin(dim=1, keepdim=True), vertices.amax(dim=1, keepdim=True)
    margin = (high - low).amax() / 2
    if (points < low - margin).any() or (points > high + margin).any():
        raise DatasetError(f"{shown}: its landmarks lie far from it; expected both files in object units, with the same pose.")
