"""Heads as files, as the published scripts take them: one pose, or a driving folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from next3d.head.model import OBJECT_TO_WORLD
from next3d.head.obj import ObjMesh, write_obj
from next3d.head.topology import Topology
from next3d.media.performance import Performance
from next3d.types import HeadMesh


def write_head(folder: Path, name: str, mesh: HeadMesh, topology: Topology, *, ending: str = "_kpt2d.txt") -> tuple[Path, Path]:
    """`NAME.obj` and `NAME_kpt2d.txt` of a batch of one; returns both paths."""
    obj, landmarks = folder / f"{name}.obj", folder / f"{name}{ending}"
    folder.mkdir(parents=True, exist_ok=True)
    write_obj(obj, ObjMesh(mesh.vertices[0] / OBJECT_TO_WORLD, topology.faces, torch.zeros(0, 2), torch.zeros_like(topology.faces)))
    landmarks.write_text("\n".join(" ".join(f"{x:.9e}" for x in row) for row in (mesh.landmarks[0] / OBJECT_TO_WORLD).tolist()) + "\n")
    return obj, landmarks


def write_driving_folder(folder: Path, performance: Performance, topology: Topology, names: Sequence[str]) -> Path:
    """The first face's poses and cameras, one frame per name; the index lists them backwards."""
    labels = []
    for index, name in enumerate(names):
        mesh = performance.mesh(index, range(1))
        assert mesh is not None
        write_head(folder, name, mesh, topology)
        labels.append([f"{name}.png", performance.camera(index).to_label()[0].tolist()])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels[::-1]}))
    return folder
