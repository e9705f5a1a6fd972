"""The person in a picture as an alpha channel: MediaPipe's selfie segmentation, its edges drawn along those of the picture."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from next3d.tracking.types import Pixels

Alpha = npt.NDArray[np.uint8]


class Matte:
    """Cuts people out. Get one from `open_matte`."""

    def __init__(self, segmenter: Any) -> None:
        self._segmenter = segmenter

    def cut(self, image: Pixels) -> Alpha:
        """Alpha [H, W] of a square crop [H, W, 3]: 255 is person, 0 background."""
        mask = self._segmenter.process(image).segmentation_mask
        return np.asarray(np.clip(mask, 0, 1) * 255).round().astype(np.uint8)


@contextmanager
def open_matte() -> Iterator[Matte]:
    """The segmentation whose model lies in MediaPipe's package."""
    solutions: Any = importlib.import_module("mediapipe").solutions
    with solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as segmenter:
        yield Matte(segmenter)
