"""The person in a picture as an alpha channel: MediaPipe's selfie segmentation, its edges drawn along those of the picture."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from dnnlib.errors import UserError
from next3d.tracking.types import Pixels

Alpha = npt.NDArray[np.uint8]
_Plane = npt.NDArray[np.float32]

_REACH = 1 / 48
"""Radius of the filter's windows, in parts of the picture: a little more than the segmentation's own edge is wide."""
_SMOOTH = 1e-3
"""Variance of brightness, of levels in [0, 1], below which the picture has no edge that alpha should follow."""
_SURE = (0.1, 0.9)
"""The filter's output that becomes 0 and 1."""


class Matte:
    """Cuts people out. Get one from `open_matte`."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter = segmenter

    def cut(self, image: Pixels) -> Alpha:
        """Alpha [H, W] of a square crop [H, W, 3] with a person in its middle: 255 is person, 0 background."""
        rough = np.asarray(self._segmenter.process(np.ascontiguousarray(image)).segmentation_mask, dtype=np.float32)
        if rough.ndim != 2:
            rough = rough[..., 0]
        brightness = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
        fine = guided_filter(brightness, rough, max(1, round(max(image.shape) * _REACH)), _SMOOTH)
        low, high = _SURE
        return (((fine - low) / (high - low)).clip(0, 1) * 255).round().astype(np.uint8)


def guided_filter(guide: _Plane, plane: _Plane, radius: int, smooth: float) -> _Plane:
    """A plane [H, W] smoothed so that it keeps the edges of a guide [H, W] (He, Sun and Tang, Guided Image Filtering, ECCV 2010, Eq. 5-8).

    In each window of `radius` the result is a linear function of the guide; `smooth` is the variance of the guide that counts as flat.
    """

    def mean(values: _Plane) -> _Plane:
        return uniform_filter(values, 2 * radius + 1, mode="nearest")

    guide_mean, plane_mean = mean(guide), mean(plane)
    slope = (mean(guide * plane) - guide_mean * plane_mean) / (mean(guide * guide) - guide_mean**2 + smooth)
    return mean(slope) * guide + mean(plane_mean - slope * guide_mean)


@contextmanager
def open_matte() -> Iterator[Matte]:
    """The segmentation whose model lies in MediaPipe's package.

    Raises:
        UserError: MediaPipe is not installed.
    """
    if importlib.util.find_spec("mediapipe") is None:
        raise UserError("The background matte needs MediaPipe; install the extra 'portraits': pip install 'next3d[portraits]'.")
    solutions: Any = importlib.import_module("mediapipe").solutions
    with solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as segmenter:
        yield Matte(segmenter)
