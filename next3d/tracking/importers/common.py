"""What all importers share: finding the file of a picture, and bringing its head into the camera of a crop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from next3d.head.model import HeadModel, HeadParams
from next3d.tracking.types import CropFrame, HeadFit

Format = Literal["deca", "emoca", "vhap"]
FORMATS: tuple[Format, ...] = ("deca", "emoca", "vhap")


@dataclass(frozen=True)
class ImportedHead:
    """One head as another tracker saw it."""

    params: HeadParams
    """A batch of one, in its tracker's camera coordinates turned to ours (x right, y up, z towards the viewer)."""
    lacks_gaze: bool
    """The tracker did not fit the eyes; they look straight ahead."""

    def in_crop(self, frame: CropFrame, photo_size: tuple[int, int]) -> HeadFit:
        """The head before the standard camera of a crop of the photo, (width, height) pixels large; `error` is NaN: nothing was detected."""
        raise NotImplementedError


class HeadFiles(Protocol):
    """A folder of another tracker's results."""

    def find(self, name: str, index: int | None = None) -> ImportedHead | None:
        """The head of a picture, or None.

        Args:
            name: of the picture or film, path and ending do not count.
            index: frame of a film, from 0; None for photos.

        Raises:
            UserError: its file is damaged or not what its name says.
        """


def open_heads(folder: str | os.PathLike[str], kind: Format, head: HeadModel) -> HeadFiles:
    """Find the parameter files below a folder.

    Raises:
        ConfigError: the head model is not FLAME.
        DatasetError: no file of this kind is there.
    """
    raise NotImplementedError(Path(folder), kind, head, Tensor)
