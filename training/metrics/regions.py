"""Which pixels show which part of the head, from the mesh under the image's own camera."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams
from next3d.render.cameras import project
from next3d.types import Camera
from torch_utils.ops.rasterize import pixel_centers, rasterize
from training.metrics.controls import Control

HULL_DIRECTIONS = 256
"""Half-planes whose intersection stands for a convex hull: too large by less than 1.3 % of an edge's length."""
POSITIONS = 3
"""Positions of the control whose areas are united."""
MARGIN = 1 / 64
"""Areas reach this fraction of the image beyond their outermost landmarks: a generated edge has a width."""


def convex_mask(points: Tensor, size: int, margin: float = 0.0) -> Tensor:
    """Pixels whose centre lies in the convex hull of points.

    Args:
        points: [N, M, 2], x right and y down in [-1, 1] across the image.
        size: side of the image in pixels.
        margin: how far the area reaches beyond the hull, in fractions of the image's side.

    Returns:
        [N, size, size] bool.
    """
    angles = torch.arange(HULL_DIRECTIONS, device=points.device) * (2 * math.pi / HULL_DIRECTIONS)
    directions = torch.stack([angles.cos(), angles.sin()]).to(points)  # [2, K]
    reach = (points @ directions).amax(dim=1) + 2 * margin  # [N, K]
    axis = pixel_centers(size, points.device).to(points)
    mask = torch.ones(len(points), size, size, dtype=torch.bool, device=points.device)
    for k in range(HULL_DIRECTIONS):
        mask &= directions[0, k] * axis + directions[1, k] * axis[:, None] <= reach[:, k, None, None]
    return mask


def silhouette(head: HeadModel, params: HeadParams, camera: Camera, size: int) -> Tensor:
    """Pixels [N, size, size] that the mesh covers."""
    points = project(head(params).vertices, camera)
    return rasterize(points, head.topology.faces, (size, size), perspective=True).face >= 0


def control_regions(head: HeadModel, params: HeadParams, camera: Camera, control: Control, size: int) -> tuple[Tensor, Tensor]:
    """Head pixels that a control should change, and the other head pixels; both united over the control's range.

    Returns:
        inside, elsewhere: [N, size, size] bool, disjoint.
    """
    count = len(params.scale)
    inside = torch.zeros(count, size, size, dtype=torch.bool, device=params.pose.device)
    covered = inside.clone()
    for value in control.at(torch.linspace(0, 1, POSITIONS)).to(params.pose):
        posed = control.set(params, value.expand(count))
        landmarks = project(head(posed).landmarks, camera)[..., :2]  # [N, 68, 2]
        for area in control.areas:
            inside |= convex_mask(landmarks[:, list(area)], size, MARGIN)
        covered |= silhouette(head, posed, camera, size)
    return inside & covered, covered & ~inside


def control_window(head: HeadModel, params: HeadParams, camera: Camera, control: Control) -> tuple[Tensor, Tensor]:
    """A square window around each area of a control, the same whatever the control's value.

    The window is that of the head with the control in the middle of its range, so that where one looks says nothing about the
    value to be read.

    Returns:
        centre [N, A, 2] and half side [N, A] for A areas, in [-1, 1] image coordinates.
    """
    middle = params.scale.new_full(params.scale.shape, 0.5 * (control.low + control.high))
    landmarks = project(head(control.set(params, middle)).landmarks, camera)[..., :2]
    boxes = [(landmarks[:, list(area)].amin(dim=1), landmarks[:, list(area)].amax(dim=1)) for area in control.areas]
    centre = torch.stack([(low + high) / 2 for low, high in boxes], dim=1)
    half = torch.stack([(high - low).amax(dim=1) / 2 for low, high in boxes], dim=1)
    return centre, half
