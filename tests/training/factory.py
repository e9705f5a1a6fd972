"""Small data sets for the tests of training: the published layout with meshes, and our own with head parameters."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from next3d.head.model import HeadModel, LinearHead, LinearHeadModel
from next3d.head.obj import read_obj, read_topology
from next3d.render.cameras import orbit_camera

RINGS, SEGMENTS = 8, 12
VERTICES = (RINGS + 1) * SEGMENTS
MODES = ("RGB", "L", "P", "RGBA", "LA")


def camera_label(index: int) -> list[float]:
    """A portrait camera's 25 numbers; a different one for every index."""
    yaw, pitch = 0.3 * math.sin(index), 0.2 * math.cos(2 * index)
    label = orbit_camera(torch.tensor([yaw]), torch.tensor([pitch])).to_label()
    return [float(x) for x in label[0]]


def picture(index: int, resolution: int, mode: str = "RGB") -> Image.Image:
    """A coloured disc on a gradient."""
    y, x = np.mgrid[0:resolution, 0:resolution] / resolution - 0.5
    disc = (x**2 + y**2 < 0.15)[..., None]
    color = np.array([200, 150, 120]) * (0.6 + 0.4 * math.sin(index))
    pixels = np.where(disc, color, 60 + 60 * (y[..., None] + 0.5)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def sphere_obj(scale: float = 1.0) -> str:
    """A head-sized ellipsoid in object units, VERTICES vertices, with UVs of its own."""
    lines = []
    for ring in range(RINGS + 1):
        latitude = math.pi * (ring / RINGS - 0.5)
        for segment in range(SEGMENTS):
            longitude = 2 * math.pi * segment / SEGMENTS
            x, y, z = math.cos(latitude) * math.sin(longitude), math.sin(latitude), math.cos(latitude) * math.cos(longitude)
            lines.append(f"v {0.08 * scale * x:.4f} {0.11 * scale * y:.4f} {0.09 * scale * z:.4f}")
    for ring in range(RINGS + 1):
        lines.extend(f"vt {segment / SEGMENTS:.4f} {ring / RINGS:.4f}" for segment in range(SEGMENTS + 1))
    for ring in range(RINGS):
        for segment in range(SEGMENTS):
            after = (segment + 1) % SEGMENTS
            corners = [(ring, segment, segment), (ring, after, segment + 1), (ring + 1, after, segment + 1), (ring + 1, segment, segment)]
            names = [f"{row * SEGMENTS + place + 1}/{row * (SEGMENTS + 1) + u + 1}" for row, place, u in corners]
            lines.append(f"f {names[0]} {names[1]} {names[2]}")
            lines.append(f"f {names[0]} {names[2]} {names[3]}")
    return "\n".join(lines) + "\n"


def landmark_text(scale: float = 1.0) -> str:
    """68 points on the front of the ellipsoid; 48-67 surround a mouth."""
    points = np.zeros((68, 3))
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[:, 0], points[:, 1], points[:, 2] = 0.06 * np.cos(angle), 0.08 * np.sin(angle), 0.06
    mouth = np.linspace(np.pi, 3 * np.pi, 12, endpoint=False)
    points[48:60] = np.stack([0.025 * np.cos(mouth), -0.04 + 0.012 * np.sin(mouth), np.full(12, 0.075)], axis=1)
    points[60:68] = points[48:64:2] * [0.8, 1, 1]
    return "\n".join(" ".join(f"{x:.6e}" for x in row) for row in points * scale) + "\n"


def small_head() -> LinearHeadModel:
    """A head model on the ellipsoid: two shape and two expression directions. Its numbers never change: a stored file depends on them."""
    text = sphere_obj().encode()
    template = read_obj(text, "sphere").vertices
    front = torch.tensor([ring * SEGMENTS for ring in range(RINGS + 1)])  # the column at z > 0
    topology = read_topology(text, "sphere")
    faces = torch.tensor([int((topology.faces == vertex).any(1).nonzero()[0]) for vertex in front])[torch.arange(68) % len(front)]
    topology = replace(topology, landmark_faces=faces, landmark_barycentrics=torch.tensor([0.5, 0.25, 0.25]).repeat(68, 1))
    upper = (template[:, 1:2] > 0).float()
    numbers = LinearHead(
        template=template,
        shape_directions=torch.stack([template * 0.125, template * torch.tensor([0.125, 0.0, 0.0])], dim=-1),
        expression_directions=torch.stack([template * upper * 0.0625, template * (1 - upper) * 0.0625], dim=-1),
        joints=torch.zeros(5, 3),
        joint_shape_directions=torch.zeros(5, 3, 2),
        weights=torch.tensor([0.5, 0.25, 0.25, 0.0, 0.0]).repeat(VERTICES, 1),
    )
    return LinearHeadModel("small-1", numbers, topology, shape_names=("size", "width"), expression_names=("up", "down"))


def even_head() -> LinearHeadModel:
    """The small head, which is its own mirror image, with the map that says so and colours to match."""
    head = small_head()
    ring, segment = torch.arange(VERTICES) // SEGMENTS, torch.arange(VERTICES) % SEGMENTS
    mirror = ring * SEGMENTS + (-segment) % SEGMENTS
    colors = head.topology.guide_colors * torch.tensor([0.0, 1.0, 1.0])
    head.topology = replace(head.topology, mirror_vertices=mirror, guide_colors=colors)
    return head


def sample_name(index: int) -> str:
    """Names as people make them: nested folders, some with spaces."""
    return f"{index // 50:05d}/person {index}.png" if index % 3 == 0 else f"{index // 50:05d}/deep er/img{index:08d}.png"


def write_published(root: Path, count: int, resolution: int, *, number: str = "512x512", missing: Sequence[int] = ()) -> Path:
    """The published layout; images of every colour mode, `missing` samples lack their landmark file."""
    images, meshes, landmarks = root / f"images{number}", root / f"meshes{number}", root / f"lms{number}"
    labels = []
    for index in range(count):
        name = sample_name(index)
        scale = 1 + 0.1 * math.sin(index)
        _write(images / name, lambda path, index=index: picture(index, resolution, MODES[index % len(MODES)]).save(path))
        _write(meshes / f"{name[:-4]}.obj", lambda path, scale=scale: path.write_text(sphere_obj(scale)))
        if index not in missing:
            _write(landmarks / f"{name[:-4]}.txt", lambda path, scale=scale: path.write_text(landmark_text(scale)))
        labels.append([name, camera_label(index)])
    (images / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


def own_table(head: HeadModel, count: int) -> dict[str, NDArray[np.float32]]:
    """`heads.npz` without its names: the neutral head, each with another jaw."""
    neutral = {name: value.numpy() for name, value in vars(head.neutral(count)).items()}
    neutral["pose"][:, 2, 0] = np.linspace(0, 0.3, count)
    return neutral


def write_own(root: Path, count: int, resolution: int, head: LinearHeadModel | None = None) -> Path:
    """Our own layout, version 1, with heads of `small_head` or another model: a folder, or a zip if the name ends in `.zip`."""
    head = head or small_head()
    folder = root.with_suffix("") if root.suffix == ".zip" else root
    names = [f"images/00000/img{index:08d}.png" for index in range(count)]
    for index, name in enumerate(names):
        _write(folder / name, lambda path, index=index: picture(index, resolution).save(path))
    np.savez(folder / "heads.npz", names=np.array(names), **own_table(head, count))
    index = {
        "format": "next3d-portraits",
        "format_version": 1,
        "resolution": resolution,
        "head": {"id": head.identifier, "fingerprint": head.fingerprint()},
        "labels": [[name, camera_label(number)] for number, name in enumerate(names)],
    }
    (folder / "dataset.json").write_text(json.dumps(index))
    return zip_folder(folder, root) if root.suffix == ".zip" else folder


def zip_folder(folder: Path, target: Path) -> Path:
    """Everything in a folder as a zip."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return target


def edit_index(path: Path, change: Callable[[dict], None]) -> None:
    """Change a `dataset.json` in place."""
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
