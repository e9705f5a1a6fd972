"""Small geometry shared by the renderer's parts: normals, and what a distant lamp sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.rasterize import rasterize


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals [V, 3], weighted by area."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    face_normals = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals.index_add_(0, faces[:, corner], face_normals)
    return F.normalize(normals, dim=1)


@dataclass(frozen=True)
class LightView:
    """The scene as a distant lamp sees it: an orthographic depth image."""

    axes: Tensor
    """[3, 3]: rows right, down, away from the lamp."""
    center: Tensor
    """[3], scaled into view."""
    extent: float
    depth: Tensor
    """[S, S], inf where nothing is."""

    def lit(self, points: Tensor, bias: float) -> Tensor:
        """Share [P] in [0, 1] of nine neighbouring rays that reach the points [P, 3], weighted by a quadratic B-spline: soft edges."""
        local = (points - self.center) @ self.axes.T
        size = len(self.depth)
        place = ((local[:, :2] / self.extent + 1) * (size / 2) - 0.5).clamp(1, size - 2)
        nearest = torch.floor(place + 0.5)
        offset = place - nearest  # [P, 2] in [-0.5, 0.5]
        before, middle, after = 0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2
        index = nearest.to(torch.int32)
        center = index[:, 1] * size + index[:, 0]
        reach, depth = local[:, 2] - bias, self.depth.flatten()
        columns = ((-1, before[:, 0].contiguous()), (0, middle[:, 0].contiguous()), (1, after[:, 0].contiguous()))
        total = torch.zeros_like(reach)
        for down, share in ((-1, before[:, 1]), (0, middle[:, 1]), (1, after[:, 1])):
            free = [(reach <= depth.index_select(0, center + (down * size + right))) * weight for right, weight in columns]
            total += (free[0] + free[1] + free[2]) * share
        return total


def light_view(vertices: Tensor, faces: Tensor, direction: Tensor, size: int) -> LightView:
    """Look at a scene [V, 3] from a distant lamp in `direction` [3]."""
    away = -F.normalize(direction, dim=0)
    helper = torch.tensor([0.0, 1.0, 0.0]) if abs(float(away[1])) < 0.9 else torch.tensor([1.0, 0.0, 0.0])
    right = F.normalize(torch.linalg.cross(away, helper), dim=0)
    axes = torch.stack([right, torch.linalg.cross(away, right), away])
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    center = (low + high) / 2
    extent = float((high - low).norm()) / 2
    local = (vertices - center) @ axes.T
    points = torch.cat([local[:, :2] / extent, local[:, 2:]], dim=1)
    return LightView(axes, center, extent, rasterize(points[None], faces, (size, size)).depth[0])


def sphere_directions(count: int) -> Tensor:
    """Directions [count, 3] spread evenly (golden spiral)."""
    step = torch.arange(count) + 0.5
    y, angle = 1 - 2 * step / count, step * (np.pi * (3 - 5**0.5))
    radius = (1 - y**2).sqrt()
    return torch.stack([radius * angle.cos(), y, radius * angle.sin()], dim=1)
