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
from training.metrics.controls import Control
from training.metrics.regions import control_window

LARGEST_IMAGE = 64
"""Larger images are averaged down to this before windows are cut: the window then has about its own pixels."""
WINDOW_PIXELS = 20
"""Side of a window."""
WINDOW_REACH = 1.3
"""Side of a window relative to its area's landmarks."""
ORIENTATIONS = 8
"""Directions among which gradients are shared out."""
CELL = 5
"""Side in pixels of the cells in which gradients are summed up."""
FIT_LIMIT = 3000
"""Most images that the regression is fitted to: its cost grows with the third power."""


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
    def fit(cls, features: Tensor, targets: Tensor, ridge: float = 0.01) -> KernelRidge:
        """Fit features [N, D] to targets [N]; the kernel's width is the median distance between features."""
        features, targets = features.double(), targets.double()
        mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
        points = (features - mean) / deviation
        squared = torch.cdist(points, points).square()
        sharpness = 1 / float(squared.median().clamp_min(1e-12))
        kernel = torch.exp(-sharpness * squared)
        kernel.diagonal().add_(ridge)
        offset = float(targets.mean())
        weights = torch.linalg.solve(kernel, targets - offset)
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
        """Learn from real images [N, 3, H, H] in [-1, 1] with their head parameters and cameras (the first 3000 of them)."""
        images, params, camera = images[:FIT_LIMIT], params[:FIT_LIMIT], camera[:FIT_LIMIT]
        features = window_features(images, *control_window(head, params, camera, control))
        return cls(control, head, KernelRidge.fit(features, control.read(params)))

    def read(self, images: Tensor, params: HeadParams, camera: Camera) -> Tensor:
        """The control's value [N] as the images show it.

        The parameters only say where to look: the window is that of the head with the control in the middle of its range.
        """
        return self.regression.predict(window_features(images, *control_window(self.head, params, camera, self.control)))


@dataclass(frozen=True)
class ReaderQuality:
    """How well a reader reads held-out real images: the floor of what it says about generated ones."""

    error: float
    """Mean absolute error in the control's unit."""
    spearman: float


def reader_quality(reader: Reader, images: Tensor, params: HeadParams, camera: Camera) -> ReaderQuality:
    """Compare readings of real images with their ground truth."""
    truth, readings = reader.control.read(params), reader.read(images, params, camera)
    return ReaderQuality(float((truth - readings).abs().mean()), spearman(truth, readings))


def window_features(images: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """Features [N, D] of the windows at `centre` [N, A, 2] with half sides `half` [N, A]: colours and oriented gradients."""
    windows = cut_windows(images, centre, half)  # [N * A, 3, S, S]
    colours = F.avg_pool2d(windows, 2).flatten(1)
    features = torch.cat([_standardised(colours), _standardised(_gradients(windows.mean(dim=1)))], dim=1)
    return features.view(len(images), -1)


def cut_windows(images: Tensor, centre: Tensor, half: Tensor) -> Tensor:
    """Windows [N * A, 3, S, S] of images [N, 3, H, H]."""
    if images.shape[-1] > LARGEST_IMAGE:
        images = F.interpolate(images, size=(LARGEST_IMAGE, LARGEST_IMAGE), mode="area")
    areas = centre.shape[1]
    axis = (2 * torch.arange(WINDOW_PIXELS, device=images.device) + 1) / WINDOW_PIXELS - 1
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([columns, rows], dim=-1) * WINDOW_REACH  # [S, S, 2]
    grid = centre[:, :, None, None] + half[:, :, None, None, None] * offsets  # [N, A, S, S, 2]
    repeated = images.float().repeat_interleave(areas, dim=0)
    return F.grid_sample(repeated, grid.flatten(0, 1).float(), padding_mode="border", align_corners=False)


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
    """Rank correlation of two samples [N], ties sharing their mean rank; 0 if one of them is constant."""
    ranks = [_ranks(values.double().cpu().numpy()) for values in (first, second)]
    centred = [values - values.mean() for values in ranks]
    scale = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[position]
