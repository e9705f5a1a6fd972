"""478 landmarks on the head's surface, numbered as MediaPipe's face mesh with refined landmarks numbers its points (468-477: irises).

Where each point lies was measured once, on neutral faces (`python -m bench.portraits --fit`), and is stored as a place on the neutral head
with its mouth open, so that the lips are apart. A head model with other triangles finds the nearest places on its own surface.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from next3d.head.model import HeadModel, Joint

DENSE_COUNT = 478
IRIS_START = 468
"""The first point of the irises: centre, then four around; the person's right eye first."""
POINTS_FILE = Path(__file__).with_name("dense_landmarks.json")
_REFERENCE_JAW = 0.2
"""Jaw angle of the head on which places are stored, radians."""
_INNER = ("mouth_interior", "teeth", "tongue")


@dataclass(frozen=True)
class Embedding:
    """K points on a mesh."""

    corners: Tensor
    """[K, 3] int64: vertices of the triangle."""
    weights: Tensor
    """[K, 3]: barycentrics."""

    def place(self, vertices: Tensor) -> Tensor:
        """The points [..., K, 3] on posed vertices [..., V, 3]."""
        return (vertices[..., self.corners, :] * self.weights[..., None]).sum(dim=-2)


@dataclass(frozen=True)
class DetectorPoints:
    """Where some of the 478 points lie on a head model, as its makers published it."""

    numbers: Tensor
    """[K] int64: which of the 478."""
    embedding: Embedding


@torch.no_grad()
def reference_vertices(head: HeadModel) -> Tensor:
    """The neutral head [V, 3] with its mouth open, world units: the frame of the stored places."""
    params = head.neutral(1)
    pose = params.pose.clone()
    pose[:, Joint.JAW, 0] = _REFERENCE_JAW
    return head(replace(params, pose=pose)).vertices[0].cpu()


def outer_faces(head: HeadModel) -> tuple[Tensor, Tensor]:
    """Triangles [F, 3] of the skin, and those of the irises [I, 3]."""
    faces, regions = head.topology.faces.cpu(), head.topology.regions
    iris = (regions["left_iris"] | regions["right_iris"]).cpu()[faces].all(dim=1)
    other = torch.stack([regions[name].cpu() for name in (*_INNER, "left_eye", "right_eye") if name in regions]).any(dim=0)
    return faces[~other[faces].all(dim=1)], faces[iris]


@lru_cache(maxsize=2)
def dense_embedding(head: HeadModel) -> Embedding:
    """Where the 478 points lie on a head model; takes a moment, once per process."""
    places = torch.tensor(json.loads(POINTS_FILE.read_text())["places"])
    vertices = reference_vertices(head)
    skin, iris = outer_faces(head)
    parts = [_embed(places[:IRIS_START], vertices, skin), _embed(places[IRIS_START:], vertices, iris)]
    return Embedding(torch.cat([part.corners for part in parts]), torch.cat([part.weights for part in parts]))


def _embed(points: Tensor, vertices: Tensor, faces: Tensor) -> Embedding:
    """The nearest places on triangles `faces` [F, 3] to points [K, 3]: of each of the nearest triangles, its best point."""
    nearby = torch.cdist(points, vertices[faces].mean(dim=1)).topk(min(24, len(faces)), largest=False).indices  # [K, 24]
    corners = vertices[faces[nearby]]  # [K, 24, 3, 3]
    weights = _nearest_weights(points[:, None].expand(-1, nearby.shape[1], -1), corners)
    distance = ((weights[..., None] * corners).sum(dim=2) - points[:, None]).norm(dim=2)
    best = distance.argmin(dim=1)
    row = torch.arange(len(points))
    return Embedding(faces[nearby[row, best]], weights[row, best])


def _nearest_weights(points: Tensor, corners: Tensor) -> Tensor:
    """Barycentrics [..., 3] of the points of triangles [..., 3, 3] that are nearest to points [..., 3]."""
    a, b, c = corners.unbind(dim=-2)
    candidates = [_inside(points, a, b, c)]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, along = corners[..., first, :], corners[..., second, :] - corners[..., first, :]
        share = (((points - start) * along).sum(-1) / (along * along).sum(-1).clamp_min(1e-12)).clamp(0, 1)
        weights = torch.zeros_like(points)
        weights[..., first], weights[..., second] = 1 - share, share
        candidates.append(weights)
    stacked = torch.stack(candidates, dim=-2)  # [..., 4, 3]
    gap = (stacked @ corners - points[..., None, :]).norm(dim=-1)
    gap = torch.where((stacked < -1e-6).any(dim=-1), torch.inf, gap)
    return torch.take_along_dim(stacked, gap.argmin(dim=-1)[..., None, None], dim=-2)[..., 0, :]


def _inside(points: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Barycentrics of the feet of perpendiculars on the triangles' planes, negative outside."""
    normal = torch.linalg.cross(b - a, c - a)
    area = (normal * normal).sum(-1).clamp_min(1e-20)
    second = (torch.linalg.cross(points - a, c - a) * normal).sum(-1) / area
    third = (torch.linalg.cross(b - a, points - a) * normal).sum(-1) / area
    return torch.stack([1 - second - third, second, third], dim=-1)
