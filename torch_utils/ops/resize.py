"""Resizing images to any size: what brings the raw image to a discriminator's resolution (EG3D, Sec. 4.3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops.upfirdn2d import BINOMIAL, Filter, downsample2d, upsample2d

ResizeMode = Literal["antialiased", "classic", "none"]
CLASSIC_MARGIN = 1
"""Pixels that "classic" resizes to more than it needs, at every side of the doubled image, and crops again."""


def resize(x: Tensor, size: int | tuple[int, int], filter: Filter = BINOMIAL, *, mode: ResizeMode | float = "antialiased") -> Tensor:
    """Resize [N, C, H, W] to [N, C, rows, columns], bilinearly, the images' corners on each other.

    Args:
        x: [N, C, H, W], floating point.
        size: rows and columns, or one number for both.
        filter: what "classic" filters with, see `upfirdn2d`.
        mode: "antialiased" averages over the pixels that an output covers where the image shrinks; "none" looks two of them up per axis.
            A number in [0, 1] mixes both, 1 is "antialiased". "classic" doubles the image with `filter`, looks up, and halves it with the
            flipped filter; it drops a margin of the enlarged image, as the networks that were trained with it need.

    Raises:
        ValueError: unknown mode.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if mode == "classic":
        doubled = upsample2d(x, filter, up=2)
        wide = _interpolate(doubled, 2 * (height + CLASSIC_MARGIN), 2 * (width + CLASSIC_MARGIN), antialias=False)
        return downsample2d(wide, filter, down=2, padding=-CLASSIC_MARGIN, flip_filter=True)
    if mode in ("antialiased", "none"):
        return _interpolate(x, height, width, antialias=mode == "antialiased")
    if isinstance(mode, str) or not 0 <= mode <= 1:
        raise ValueError(f"resize: mode={mode!r}, expected 'antialiased', 'classic', 'none' or a number between 0 and 1")
    return torch.lerp(_interpolate(x, height, width, antialias=False), _interpolate(x, height, width, antialias=True), mode)


def _interpolate(x: Tensor, height: int, width: int, *, antialias: bool) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False, antialias=antialias)
