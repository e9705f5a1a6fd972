"""Reads a control from pictures: kernel ridge regression on a small window, fitted to real images with known head parameters.

Nothing is downloaded and fitting takes seconds on a CPU; the error on held-out real images stands beside every figure as its floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams
from next3d.types import Camera
from torch_utils.ops.rasterize import pixel_centers
from training.metrics.controls import Control
from training.metrics.regions import control_window

LARGEST_IMAGE = 64
"""Larger images are averaged down to this before windows are cut: the window then has about its own pixels."""
WINDOW_PIXELS = 24
"""Side of a window. It is the bounding square of its area's landmarks; wider ones read worse."""
ORIENTATIONS = 8
"""Directions among which gradients are shared out."""
CELL = 4
"""Side in pixels of the cells in which gradients are summed up."""
SPREAD_BINS = 4
"""Parts of the range among which held-out images are evened out."""


@dataclass(frozen=True)
class KernelRidge:
    """Ridge regression with a Gaussian kernel (Schölkopf and Smola 2002, Sec. 4.6)."""

    points: Tensor
    """[N, D], float64, standardised."""
    weights: Tensor
    """[N]."""
    mean: Tensor
    """[D], subtracted from features."""
    deviation: Tensor
    """[D], by which they are divided."""
    offset: float
    """Mean of the targets."""
    sharpness: float
    """The kernel is exp(-sharpness * squared distance)."""

    @classmethod
    def fit(cls, features: Tensor, targets: Tensor, ridge: float = 0.02) -> KernelRidge:
        """Fit features [N, D] to targets [N]; the kernel's width is the median distance between features."""
        features, targets = features.double(), targets.double()
        mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
        points = (features - mean) / deviation
        squared = torch.cdist(points, points).square()
        sharpness = 1 / float(squared.median().clamp_min(1e-12))
        kernel = torch.exp(-sharpness * squared)
        kernel.diagonal().add_(ridge)
        offset = float(targets.mean())
        weights = torch.cholesky_solve((targets - offset)[:, None], torch.linalg.cholesky(kernel))[:, 0]
        return cls(points, weights, mean, deviation, offset, sharpness)

    def predict(self, features: Tensor) -> Tensor:
        """Estimates [M] for features [M, D]."""
        points = (features.double() - self.mean) / self.deviation
        kernel = torch.exp(-self.sharpness * torch.cdist(points, self.points).square())
        return (kernel @ self.weights + self.offset).float()


@dataclass(frozen=True)
class Reader:
    """Reads one control of one kind of head from images."""

    control: Control
    head: HeadModel
    regression: KernelRidge

    @classmethod
    def fit(cls, control: Control, head: HeadModel, images: Tensor, params: HeadParams, camera: Camera) -> Reader:
        """Learn from real images [N, 3, H, H] in [-1, 1] with their head parameters and cameras, and from their mirror images.

        Time grows with the third power of N: seconds for 2000.
        """
        windows = cut_windows(images, *control_window(head, params, camera, control))  # [N, A, 3, S, S]
        mirrored = windows.flip(4).flip(1)  # the areas of a control mirror each other, last to first
        values = control.read(params)
        features = torch.cat([window_features(windows), window_features(mirrored)])
        return cls(control, head, KernelRidge.fit(features, torch.cat([values, control.mirror_sign * values])))

    def read(self, images: Tensor, params: HeadParams, camera: Camera) -> Tensor:
        """The control's value [N] as the images show it.

        The parameters only say where to look: the window is that of the head with the control in the middle of its range.
        """
        windows = cut_windows(images, *control_window(self.head, params, camera, self.control))
        return self.regression.predict(window_features(windows))


@dataclass(frozen=True)
class ReaderQuality:
    """How well a reader reads held-out real images: the ceiling of what it can say about generated ones."""

    error: float
    """Mean absolute error in the control's unit."""
    spearman: float
    """Rank correlation over all images."""
    spearman_even: float
    """Rank correlation over images chosen so that the control is spread evenly, as commands are. (Among the many closed mouths of
    photos, ranks are a matter of luck.)"""
    even_count: int
    """How many those are."""


def reader_quality(reader: Reader, images: Tensor, params: HeadParams, camera: Camera) -> ReaderQuality:
    """Compare readings of real images with their ground truth."""
    truth, readings = reader.control.read(params), reader.read(images, params, camera)
    even = evenly_spread(truth, reader.control)
    error = float((truth - readings).abs().mean())
    return ReaderQuality(error, spearman(truth, readings), spearman(truth[even], readings[even]), len(even))


def evenly_spread(values: Tensor, control: Control) -> Tensor:
    """Indices of values [N] that are spread evenly over a control's range: from every part the same number, the first ones."""
    part = ((values - control.low) / (control.high - control.low) * SPREAD_BINS).long().clamp(0, SPREAD_BINS - 1)
    members = [torch.nonzero(part == index).flatten() for index in range(SPREAD_BINS)]
    fewest = min(len(indices) for indices in members)
    return torch.cat([indices[:fewest] for indices in members])


def cut_windows(images: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """Windows [N, A, 3, S, S] of images [N, 3, H, H] at `centre` [N, A, 2] with half sides `half` [N, A], in [-1, 1] coordinates."""
    if images.shape[-1] > LARGEST_IMAGE:
        images = F.interpolate(images, size=(LARGEST_IMAGE, LARGEST_IMAGE), mode="area")
    areas = centre.shape[1]
    axis = pixel_centers(WINDOW_PIXELS, images.device).float()
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([columns, rows], dim=-1)  # [S, S, 2]
    grid = centre[:, :, None, None] + half[:, :, None, None, None] * offsets  # [N, A, S, S, 2]
    repeated = images.float().repeat_interleave(areas, dim=0)
    windows = F.grid_sample(repeated, grid.flatten(0, 1).float(), padding_mode="border", align_corners=False)
    return windows.unflatten(0, (-1, areas))


def window_features(windows: Tensor) -> Tensor:
    """Features [N, D] of windows [N, A, 3, S, S]: colours and oriented gradients, each area's on its own scale."""
    flat = windows.flatten(0, 1)
    colours = F.avg_pool2d(flat, 2).flatten(1)
    features = torch.cat([_standardised(colours), _standardised(_gradients(flat.mean(dim=1)))], dim=1)
    return features.view(len(windows), -1)


def _standardised(features: Tensor) -> Tensor:
    """Each window's features [M, D] to mean 0 and deviation 1 / sqrt(D): exposure and contrast of a picture say nothing."""
    centred = features - features.mean(dim=1, keepdim=True)
    return centred / (centred.norm(dim=1, keepdim=True) + 0.05 * math.sqrt(features.shape[1]))


def _gradients(grey: Tensor) -> Tensor:
    """Gradient strength per cell and direction, [M, cells * ORIENTATIONS], of grey windows [M, S, S] (Dalal and Triggs 2005)."""
    padded = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    angles = torch.arange(ORIENTATIONS, device=grey.device) * (2 * math.pi / ORIENTATIONS)
    along = across[:, None] * angles.cos().view(-1, 1, 1) + down[:, None] * angles.sin().view(-1, 1, 1)  # [M, O, S, S]
    return F.avg_pool2d(along.clamp_min(0), CELL).flatten(1)


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two samples [N], ties sharing their mean rank; 0 if there are fewer than two values or all are equal."""
    if len(first) < 2:
        return 0.0
    ranks = [_ranks(values.double().cpu().numpy()) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[position]
