"""The mouth's box of released Next3D networks: whole pixels, cut and pasted as separate pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.official.rasters import front_landmarks
from next3d.planes.crop import LEFT_CORNER, OUTER_LIPS, RIGHT_CORNER, axis_weights, resample
from next3d.planes.mouth import FrontMouth
from next3d.types import TensorBundle


@dataclass(frozen=True)
class PixelBoxes(TensorBundle):
    """Windows of whole pixels; the ends are not included."""

    start: Tensor
    """[N, 2] int64: first row and column."""
    end: Tensor
    """[N, 2] int64: the row and column after the last ones."""

    def cut(self, image: Tensor, size: int) -> Tensor:
        """Resize the boxes of [N, C, P, P] to [N, C, size, size], bilinearly and antialiased, each as if it were all of the image."""
        low, high = self.start.to(image.dtype), self.end.to(image.dtype)
        step = (high - low) / size
        rows, columns = (
            axis_weights(low[:, axis : axis + 1], step[:, axis : axis + 1], size, image.shape[-1], window=(low[:, axis], high[:, axis]))
            for axis in (0, 1)
        )  # [N, size, P]
        return resample(rows, image, columns)

    def put(self, patch: Tensor, image: Tensor) -> Tensor:
        """Replace the boxes of an image [N, C, P, P] by patches [N, C, s, s], resized to squares of the boxes' heights."""
        size, resolution = patch.shape[-1], image.shape[-1]
        low, high = self.start.double(), self.end.double()  # places in the patch are differences of large numbers
        scale = size / (high - low)[:, :1]  # patch pixels per image pixel
        rows, columns = (
            axis_weights(-low[:, axis : axis + 1] * scale, scale, resolution, size).to(image.dtype) for axis in (0, 1)
        )  # [N, P, s]
        pixel = torch.arange(resolution, device=image.device)
        inside_rows, inside_columns = (
            (pixel >= self.start[:, axis : axis + 1]) & (pixel < self.end[:, axis : axis + 1]) for axis in (0, 1)
        )  # [N, P]
        inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        return torch.where(inside, resample(rows, patch, columns), image)


def mouth_boxes(landmarks: Tensor, *, resolution: int, margin: float) -> PixelBoxes:
    """Boxes around the outer lips: every length is cut to whole pixels.

    A box that would leave the plane is moved inside (the original stops with an error there).

    Args:
        landmarks: [N, 68, 2] in [-1, 1].
        resolution: P, pixels of the plane.
        margin: side of the box in units of the lips' extent.
    """
    pixels = (landmarks + 1) / 2 * resolution
    lips = pixels[:, OUTER_LIPS]
    extent = (lips.amax(dim=1) - lips.amin(dim=1)).amax(dim=1)  # [N]
    half = (extent.double() * margin).long().clamp(2, resolution)[:, None] // 2
    middle = (pixels[:, LEFT_CORNER] + pixels[:, RIGHT_CORNER]).flip(1) / 2  # row, column
    start, end = (middle - half).long(), (middle + half).long()
    inside = start.clamp_min(0) - start + (end.clamp_max(resolution) - end)
    return PixelBoxes(start + inside, end + inside)


class PixelMouth(FrontMouth):
    """The front plane's mouth in boxes of whole pixels; the networks behind it are `FrontMouth`'s."""

    def window(self, landmarks: Tensor, resolution: int) -> PixelBoxes:
        """Where the mouth is in a plane of `resolution` pixels."""
        return mouth_boxes(front_landmarks(landmarks), resolution=resolution, margin=self.config.mouth.margin)
