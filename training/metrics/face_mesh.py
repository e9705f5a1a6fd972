"""MediaPipe's face mesh: 478 landmarks by a judge that never saw the data set. Needs the extra `portraits`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from next3d.head.dense import DENSE_COUNT, dense_embedding
from next3d.head.model import HeadModel, HeadParams
from next3d.render.cameras import project
from next3d.tracking.face_mesh import FaceMesh, open_face_mesh
from next3d.types import Camera
from training.metrics.context import Context
from training.metrics.face_state import eye_distance
from training.metrics.figures import Figure
from training.metrics.intervals import mean_interval, wilson
from training.metrics.readings import held_out_rows, natural_scenes

REALS = 200
"""Held-out images for the floor, at most."""


@torch.no_grad()
def dense_pixels(head: HeadModel, params: HeadParams, camera: Camera, size: int) -> Tensor:
    """Where the 478 points are in pictures of N heads, [N, 478, 2] pixels."""
    points = dense_embedding(head).place(head(params).vertices)
    return (project(points, camera)[..., :2] + 1) * (size / 2)


def mesh_errors(mesh: FaceMesh, images: Tensor, expected: Tensor) -> Tensor:
    """Mean distance [N] of what is found in images [N, 3, H, H] in [-1, 1] from `expected` [N, 478, 2], pixels.

    Not a number where no face is found; of two faces the nearer one counts.
    """
    pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    errors = []
    for image, points in zip(pixels, expected.double().numpy(), strict=True):
        gaps = [float(np.linalg.norm(face[:DENSE_COUNT, :2] - points, axis=1).mean()) for face in mesh.find(image)]
        errors.append(min(gaps, default=float("nan")))
    return torch.tensor(errors)


def measure(context: Context) -> list[Figure]:
    """How often a face is found in generated pictures, and how far its 478 points are from where they were commanded to be."""
    size, scenes, settings = context.dataset.resolution, natural_scenes(context), context.settings
    rows = held_out_rows(context)[:REALS]
    camera, params = context.dataset.conditions(rows)
    assert isinstance(params, HeadParams)  # natural_scenes refuses meshes
    with open_face_mesh() as mesh:

        def generated(start: int, stop: int) -> Tensor:
            part = scenes[start:stop]
            return mesh_errors(mesh, context.sampler(part), dense_pixels(context.head, part.moving, part.camera, size))

        def real(start: int, stop: int) -> Tensor:
            expected = dense_pixels(context.head, params[start:stop], camera[start:stop], size)
            return mesh_errors(mesh, context.dataset.read_sound(rows[start:stop]).image, expected)

        errors, floors = context.rows(len(scenes), generated), context.rows(len(rows), real)
    relative = 100 * errors / eye_distance(context.head, scenes.moving, scenes.camera, size)
    best = 100 * floors / eye_distance(context.head, params, camera, size)
    found, count = relative[relative.isfinite()], len(relative)
    share, note = len(found) / count, "by MediaPipe's face mesh; floor: held-out real images"
    low, high = mean_interval(found) if settings.intervals else (None, None)
    least, most = wilson(len(found), count) if settings.intervals else (None, None)
    real_share = float(best.isfinite().double().mean())
    distance = f"mean distance of 478 landmarks {note}"
    return [
        Figure("mesh478_found", share, count, settings.seed, least, most, real_share, note=f"share of faces found {note}"),
        Figure(
            "mesh478_akd", float(found.mean()), len(found), settings.seed, low, high, float(best.nanmean()), "% of eye distance", distance
        ),
    ]
