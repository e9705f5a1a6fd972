"""The picture of a face in the report: its crop, and beside it the same with the head that was fitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams
from next3d.tracking.overlay import OverlayStyle, draw_overlay
from next3d.tracking.types import CropFrame, HeadFit, Pixels
from next3d.types import Camera

SIDE = 224
"""Of the crop, pixels; thumbnails are shrunk from it, so that lines stay thin."""
_STYLE = OverlayStyle(mesh=False, frame=False, legend=False, face_size=0)
"""Lines only: a shaded mesh costs fifteen times as much, and hides the face in a small picture."""


def with_overlay(crop: Pixels, head: HeadModel, numbers: Mapping[str, npt.NDArray[np.float32]]) -> Pixels:
    """A crop and, right of it, the crop with brows, eyes, nose, lips and lines of sight of the head that was fitted.

    Args:
        crop: [H, H, 3].
        head: the model that was fitted.
        numbers: one row of a data set: `label` [25] and the fields of head parameters.

    Returns:
        [SIDE, 2 SIDE, 3].
    """
    small = np.asarray(Image.fromarray(crop).resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0))

    def row(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(numbers[name]))[None]

    params = HeadParams(row("shape"), row("expression"), row("pose"), row("translation"), row("scale").reshape(1))
    fit = HeadFit(params, Camera.from_label(row("label")), torch.zeros(1))
    return np.concatenate([small, draw_overlay(small, head, fit, [CropFrame(0.0, 0.0, SIDE)], style=_STYLE)], axis=1)
