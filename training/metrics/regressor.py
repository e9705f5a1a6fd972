"""Reads a control from pictures: kernel ridge regression on a small window, fitted to real images with known head parameters.

Nothing is downloaded and fitting takes seconds on a CPU; the error on held-out real images stands beside every figure as its floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams
from next3d.types import Camera
from training.metrics.controls import Control
from training.metrics.kernel_ridge import KernelRidge
from training.metrics.regions import control_window
from training.metrics.windows import cut_windows, window_features

SPREAD_BINS = 4
"""Parts of the range among which held-out images are evened out."""


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
