"""Improved precision and recall (Kynkäänniemi et al. 2019, Sec. 2): how many generated images lie among the real ones, and the reverse.

A set covers a ball around each of its features that reaches to its k-th nearest neighbour, k = 3. Precision is the share of generated
images that the real set covers, recall the share of real ones that the generated set covers. The paper uses the features of VGG-16 and as
many images of both kinds; here it is the features of the detector at hand, and figures are comparable with figures of the same only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.metrics.context import Context
from training.metrics.features import fake_features, real_features
from training.metrics.figures import Figure, short
from training.metrics.intervals import wilson

NEIGHBOURS = 3
CHUNK = 512
"""Rows whose distances to all others are in memory at once."""


def measure(context: Context) -> list[Figure]:
    """`precision50k` and `recall50k`, or with N images `precisionN`. Both sets are cut to the size of the smaller one."""
    real, fake = real_features(context), fake_features(context)
    count = min(len(real), len(fake))
    real, fake = real[:count], fake[:count]
    shares = {"precision": coverage(context, real, fake), "recall": coverage(context, fake, real)}
    floors: dict[str, float] = {}
    if context.settings.intervals:
        half = count // 2
        floors = {"precision": float(coverage(context, real[:half], real[half : 2 * half]).mean())}
        floors["recall"] = float(coverage(context, real[half : 2 * half], real[:half]).mean())
    notes = {
        "precision": "share of generated images that lie among the reals",
        "recall": "share of real images that lie among the generated ones",
    }
    figures = []
    for name, inside in shares.items():
        low, high = wilson(float(inside.sum()), count)
        note = notes[name] + ("; floor: half of the reals among the rest" if floors else "")
        value = float(inside.mean())
        figures.append(Figure(f"{name}{short(count)}", value, count, context.settings.seed, low, high, floors.get(name), note=note))
    return figures


def coverage(context: Context, points: Tensor, queries: Tensor) -> Tensor:
    """Which of the queries [m, D] lie in the ball of a point [n, D]: [m] float64 of 0 and 1. Ranks share the work."""
    points, queries = (rows.to(context.device, torch.float64) for rows in (points, queries))
    radii = context.rows(len(points), lambda start, stop: _radii(points, start, stop), size=CHUNK).to(context.device)

    def inside(start: int, stop: int) -> Tensor:
        return (distances(queries[start:stop], points) <= radii).any(dim=1).double().cpu()

    return context.rows(len(queries), inside, size=CHUNK)


def _radii(points: Tensor, start: int, stop: int) -> Tensor:
    """Distance of points `start` to `stop` to their k-th nearest other point, [stop - start]."""
    apart = distances(points[start:stop], points)
    rows = torch.arange(stop - start, device=points.device)
    apart[rows, rows + start] = torch.inf  # a point is no neighbour of itself; others may lie at the same place
    neighbours = min(NEIGHBOURS, len(points) - 1)
    return apart.kthvalue(neighbours, dim=1).values.cpu()


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances [n, m] of rows [n, D] and [m, D]."""
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")
