"""Is the default head a head? How often a face detector that never saw it finds a face in plain pictures of it.

    python -m bench.head [--quick] [--json FILE] [--sheet FILE.png] [--pictures FOLDER]

Pictures: random identities, skin, hair and light, mouths from closed to half open, eyes a little off the camera; 256 x 256 pixels,
bald, one colour per region: harder than the synthetic portraits. Needs the extra `portraits` (MediaPipe).
--pictures only writes the pictures of docs/head.md.
"""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.head_sheets import save_sheets
from bench.report import Report
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.head.procedural import procedural_head
from next3d.render.cameras import orbit_camera
from next3d.render.shaded import plain_colors, render_shaded

RESOLUTION = 256
SHAPE_LIMIT = 2.2


def random_heads(head: HeadModel, count: int, generator: torch.Generator) -> HeadParams:
    """Random identities with small random poses."""
    params = head.neutral(count)
    shape = torch.randn(params.shape.shape, generator=generator).clamp(-SHAPE_LIMIT, SHAPE_LIMIT)
    pose = params.pose.clone()
    pose[:, Joint.JAW, 0] = 0.18 * torch.rand(count, generator=generator)
    gaze = 0.15 * torch.randn(count, 2, generator=generator)
    pose[:, Joint.LEFT_EYE, :2] = gaze
    pose[:, Joint.RIGHT_EYE, :2] = gaze
    return HeadParams(shape, params.expression, pose, params.translation, params.scale)


def pictures(head: HeadModel, count: int, generator: torch.Generator) -> np.ndarray:
    """Frontal pictures [count, 256, 256, 3] uint8."""
    rand = torch.rand(count, 8, generator=generator)
    light_skin, dark_skin = torch.tensor([0.93, 0.74, 0.64]), torch.tensor([0.36, 0.23, 0.17])
    skin = dark_skin + rand[:, :1] * (light_skin - dark_skin)
    hair = 0.05 + 0.25 * rand[:, 1:2] * torch.tensor([1.0, 0.7, 0.45])
    iris = 0.08 + rand[:, 2:3] * torch.tensor([0.2, 0.25, 0.35])
    light = torch.stack([1.4 * rand[:, 3] - 0.7, 0.1 + 0.7 * rand[:, 4], torch.ones(count)], dim=1)
    light = torch.nn.functional.normalize(light, dim=1) * (0.5 + 0.4 * rand[:, 5:6])
    images = render_shaded(
        head(random_heads(head, count, generator)),
        head.topology,
        plain_colors(head.topology, skin, hair, iris),
        orbit_camera(0.1 * (rand[:, 6] - 0.5), 0.1 * (rand[:, 7] - 0.5)),
        RESOLUTION,
        light=light,
        background=0.3 + 0.5 * rand[:, 1:4],
    )
    return ((images * 127.5 + 127.5).round().to(torch.uint8)).permute(0, 2, 3, 1).numpy()


def count_faces(images: np.ndarray) -> dict[str, int]:
    """In how many images MediaPipe's face mesh, and its face detector, find a face."""
    solutions: Any = importlib.import_module("mediapipe").solutions
    found = {"face_mesh": 0, "face_detection": 0}
    with solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as mesh:
        found["face_mesh"] = sum(mesh.process(image).multi_face_landmarks is not None for image in images)
    with solutions.face_detection.FaceDetection(model_selection=0) as detector:
        found["face_detection"] = sum(bool(detector.process(image).detections) for image in images)
    return found


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """All images in one."""
    rows = -(-len(images) // columns)
    padded = np.zeros((rows * columns, *images.shape[1:]), dtype=np.uint8)
    padded[: len(images)] = images
    tiled = padded.reshape(rows, columns, RESOLUTION, RESOLUTION, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(tiled.reshape(rows * RESOLUTION, columns * RESOLUTION, 3))


def main() -> None:
    """Render, detect, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 pictures instead of 100")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--sheet", type=Path, help="write the pictures to this PNG file")
    parser.add_argument("--pictures", type=Path, help="write the pictures of docs/head.md to this folder, and stop")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.pictures is not None:
        with torch.no_grad():
            save_sheets(procedural_head(), options.pictures)
        return
    count = 20 if options.quick else 100
    start = time.perf_counter()
    head = procedural_head()
    building = time.perf_counter() - start
    with torch.no_grad():
        images = pictures(head, count, torch.Generator().manual_seed(options.seed))
    if options.sheet is not None:
        sheet(images, 10).save(options.sheet)
    report = Report("head")
    report.add("build_s", building, bar="< 2", note="arrays of the default head, once per process")
    report.add("vertices", len(head.topology.guide_colors))
    for name, number in count_faces(images).items():
        report.add(f"{name}_percent", 100 * number / count, bar=">= 95", note=f"{count} frontal pictures, {RESOLUTION} x {RESOLUTION}")
    report.finish(options.json)


if __name__ == "__main__":
    main()
