"""A head that only turns and moves: any OBJ mesh behind the head-model interface."""

from __future__ import annotations

from pathlib import Path

import torch

from dnnlib.errors import ConfigError
from next3d.head.model import Joint, LinearHead, LinearHeadModel
from next3d.head.obj import read_topology, read_vertices


def rigid_head(path: str) -> LinearHeadModel:
    """A head model of an OBJ file in object units: no shape, no expression, only the global joint moves it.

    It has no landmark embedding, so `forward` raises ValueError; its topology and numbers serve data sets that bring their own meshes.

    Raises:
        ConfigError: no such file.
        DatasetError: the file is not a mesh with texture coordinates.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{path}: there is no such file; a head is 'procedural' or the path of an .obj file")
    data = file.read_bytes()
    template = read_vertices(data, path)
    weights = torch.zeros(len(template), len(Joint))
    weights[:, Joint.GLOBAL] = 1
    numbers = LinearHead(
        template=template,
        shape_directions=torch.zeros(len(template), 3, 0),
        expression_directions=torch.zeros(len(template), 3, 0),
        joints=torch.zeros(len(Joint), 3),
        joint_shape_directions=torch.zeros(len(Joint), 3, 0),
        weights=weights,
    )
    return LinearHeadModel(f"obj:{file.name}", numbers, read_topology(data, path), shape_names=(), expression_names=())
