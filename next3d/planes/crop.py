"""Boxes around the mouth, and crops of varying boxes as batched matrix products (Next3D, Sec. 3.3; supplement, Sec. 2).

A crop is `rows @ image @ columns^T`: both weight matrices are functions of the box, so boxes stay tensors on the device and
gradients flow through the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from next3d.planes.frames import PLANE_AXES
from next3d.types import TensorBundle

OUTER_LIPS = slice(48, 60)
LEFT_CORNER, RIGHT_CORNER = 54, 48


class MouthWindow(Protocol):
    """A part of an image, per sample, that can be taken out and put back."""

    def cut(self, image: Tensor, size: int) -> Tensor:
        """The part of [N, C, P, P] as [N, C, size, size]."""
        ...

    def put(self, patch: Tensor, image: Tensor) -> Tensor:
        """A patch [N, C, s, s] in its place in an image [N, C, P, P]."""
        ...


@dataclass(frozen=True)
class Boxes(TensorBundle):
    """Square windows in pixels of an image; the pixel centres are at .5."""

    center: Tensor
    """[N, 2]: column and row."""
    side: Tensor
    """[N], pixels."""

    def cut(self, image: Tensor, size: int) -> Tensor:
        """`crop` of these boxes."""
        return crop(image, self, size)

    def put(self, patch: Tensor, image: Tensor) -> Tensor:
        """`paste` into these boxes."""
        return paste(patch, self, image)


def mouth_boxes(landmarks: Tensor, *, plane: int, resolution: int, box_warp: float, margin: float) -> Boxes:
    """The mouth's square in one plane.

    Its centre is midway between the mouth's corners, its side `margin` times the larger extent of the outer lips. The side is measured
    in three dimensions, so that the boxes of all planes are the faces of one cube; it is limited to the plane.

    Args:
        landmarks: [N, 68, 3], world units.
        plane: index into PLANE_AXES.
    """
    axes = list(PLANE_AXES[plane])
    lips = landmarks[:, OUTER_LIPS]
    extent = (lips.amax(dim=1) - lips.amin(dim=1)).amax(dim=1)  # [N]
    center = 0.5 * (landmarks[:, LEFT_CORNER] + landmarks[:, RIGHT_CORNER])[:, axes]
    pixels = resolution / box_warp
    side = (extent * margin * pixels).clamp(1, resolution)
    middle = center * pixels + resolution / 2
    half = (side / 2)[:, None]
    return Boxes(torch.clamp(middle, min=half, max=resolution - half), side)


def crop(image: Tensor, boxes: Boxes, size: int) -> Tensor:
    """Resample the boxes of [N, C, P, P] to [N, C, size, size], bilinearly and antialiased."""
    start = boxes.center - boxes.side[:, None] / 2
    step = (boxes.side / size)[:, None]
    rows, columns = (axis_weights(start[:, axis : axis + 1], step, size, image.shape[-1]) for axis in (1, 0))  # [N, size, P]
    return resample(rows, image, columns)


def paste(patch: Tensor, boxes: Boxes, image: Tensor) -> Tensor:
    """Put patches [N, C, s, s] back where `crop` took them; pixels of `image` [N, C, P, P] outside the boxes are kept.

    A pixel counts by the part of it that lies in the box, so that moving boxes do not flicker.
    """
    size, resolution = patch.shape[-1], image.shape[-1]
    scale = size / boxes.side[:, None]
    start = -(boxes.center - boxes.side[:, None] / 2) * scale
    rows, columns = (axis_weights(start[:, axis : axis + 1], scale, resolution, size) for axis in (1, 0))  # [N, P, s]
    inside_rows, inside_columns = (_overlap(boxes, axis, resolution) for axis in (1, 0))  # [N, P]
    inside = (inside_rows[:, :, None] * inside_columns[:, None, :])[:, None]  # [N, 1, P, P]
    return torch.lerp(image, resample(rows, patch, columns), inside)


def resample(rows: Tensor, image: Tensor, columns: Tensor) -> Tensor:
    """Weights [N, h, H] and [N, w, W] on an image [N, C, H, W]: [N, C, h, w]."""
    return torch.einsum("nip,ncpq,njq->ncij", rows, image, columns)


def axis_weights(start: Tensor, step: Tensor, count: int, length: int, window: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Triangle-filter weights [N, count, length] that sample `length` pixels at start + (i + 1/2) * step; rows sum to one.

    The triangle widens with the step when the image shrinks (antialiasing); at the edges the last pixels are repeated by
    normalisation.

    Args:
        start, step: [N, 1], pixels.
        window: two [N]; only pixels between these bounds count, as if the image ended there.
    """
    index = torch.arange(count, device=start.device) + 0.5
    low, high = (start.new_zeros(1), start.new_full((1,), length)) if window is None else window
    where = (start + index * step).clamp(low[:, None] + 0.5, high[:, None] - 0.5)[:, :, None]  # [N, count, 1]
    pixel = torch.arange(length, device=start.device) + 0.5
    width = step.clamp_min(1.0)[:, :, None]
    weights = (1 - (where - pixel).abs() / width).clamp_min(0)  # [N, count, length]
    if window is not None:
        weights = weights * ((pixel > low[:, None, None]) & (pixel < high[:, None, None]))
    return weights / weights.sum(dim=2, keepdim=True)


def _overlap(boxes: Boxes, axis: int, resolution: int) -> Tensor:
    """[N, resolution]: the part of each pixel that lies inside the box along one axis."""
    left = boxes.center[:, axis : axis + 1] - boxes.side[:, None] / 2
    right = left + boxes.side[:, None]
    pixel = torch.arange(resolution, device=left.device)
    return (torch.minimum(right, pixel + 1.0) - torch.maximum(left, pixel + 0.0)).clamp(0, 1)
