"""MediaPipe's face mesh: 478 landmarks by a judge that never saw the data set. Needs the extra `portraits`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from next3d.head.dense import DENSE_COUNT, dense_embedding
from next3d.head.model import HeadModel, HeadParams
from next3d.media.images import to_uint8
from next3d.render.cameras import project
from next3d.tracking.face_mesh import FaceMesh, open_face_mesh
from next3d.types import Camera
from training.metrics.context import Context
from training.metrics.face_state import eye_distance
from training.metrics.figures import Figure
from training.metrics.intervals import mean_interval, wilson
from training.metrics.readings import held_out_rows, natural_pictures, natural_scenes

REALS = 200
"""Held-out images for the floor, at most."""
JUDGE = "by MediaPipe's face mesh; floor: held-out real images"


@torch.no_grad()
def dense_pixels(head: HeadModel, params: HeadParams, camera: Camera, size: int) -> Tensor:
    """Where the 478 points are in pictures of N heads, [N, 478, 2] pixels."""
    points = dense_embedding(head).place(head(params).vertices)
    return (project(points, camera)[..., :2] + 1) * (size / 2)


def mesh_findings(mesh: FaceMesh, images: Tensor, expected: Tensor) -> Tensor:
    """What is found in images [N, 3, H, H] in [-1, 1].

    Returns:
        [N, 2]: mean distance from `expected` [N, 478, 2], pixels (not a number where no face is found; of two faces the nearer one counts),
        and how many faces there are: 0, 1, or 2 for several.
    """
    pixels = to_uint8(images).permute(0, 2, 3, 1).contiguous().numpy()
    findings = []
    for image, points in zip(pixels, expected.double().numpy(), strict=True):
        gaps = [float(np.linalg.norm(face[:DENSE_COUNT, :2] - points, axis=1).mean()) for face in mesh.find(image)]
        findings.append([min(gaps, default=float("nan")), float(len(gaps))])
    return torch.tensor(findings)


def measure(context: Context) -> list[Figure]:
    """How often a face is found in generated pictures, how often just one, and how far its 478 points are from where they should be."""
    size, scenes, settings = context.dataset.resolution, natural_scenes(context), context.settings
    rows = held_out_rows(context)[:REALS]
    camera, params = context.dataset.conditions(rows)
    assert isinstance(params, HeadParams)  # natural_scenes refuses meshes
    pictures = natural_pictures(context)
    with open_face_mesh() as mesh:

        def generated(start: int, stop: int) -> Tensor:
            part = scenes[start:stop]
            return mesh_findings(mesh, pictures(start, stop), dense_pixels(context.head, part.moving, part.camera, size))

        def real(start: int, stop: int) -> Tensor:
            expected = dense_pixels(context.head, params[start:stop], camera[start:stop], size)
            return mesh_findings(mesh, context.dataset.read_sound(rows[start:stop]).image, expected)

        findings, floors = context.rows(len(scenes), generated), context.rows(len(rows), real)
    relative = 100 * findings[:, 0] / eye_distance(context.head, scenes.moving, scenes.camera, size)
    best = 100 * floors[:, 0] / eye_distance(context.head, params, camera, size)
    found = relative[relative.isfinite()]
    low, high = mean_interval(found) if settings.intervals else (None, None)
    seen, real_seen = findings[:, 1], floors[:, 1]
    return [
        _share(context, "mesh478_found", seen > 0, real_seen > 0, "in which a face is found"),
        _share(context, "mesh478_one", seen == 1, real_seen == 1, "in which just one face is found"),
        Figure(
            "mesh478_akd",
            float(found.mean()),
            len(found),
            settings.seed,
            low,
            high,
            float(best.nanmean()),
            "% of eye distance",
            f"mean distance of 478 landmarks {JUDGE}",
        ),
    ]


def _share(context: Context, name: str, yes: Tensor, real: Tensor, what: str) -> Figure:
    """A share of pictures, with the same share of real ones."""
    count, good = len(yes), int(yes.sum())
    low, high = wilson(good, count) if context.settings.intervals else (None, None)
    note = f"share of the pictures, at truncation {context.truncation:g}, {what} {JUDGE}"
    return Figure(name, good / count, count, context.settings.seed, low, high, float(real.double().mean()), note=note)
