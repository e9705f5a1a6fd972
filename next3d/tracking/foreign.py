"""Heads of another tracker in place of a fit: the same results that fitting gives, from parameter files (importers/)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dnnlib.errors import UserError
from next3d.head.model import LinearHeadModel
from next3d.tracking.batches import concatenate
from next3d.tracking.canonical import canonical
from next3d.tracking.gaze import fit_gaze
from next3d.tracking.importers import HeadFiles, place_in_crop
from next3d.tracking.types import CropFrame, HeadFit, Points

MISSING = "no head for it among the imported ones"


@torch.no_grad()
def imported_head(head: LinearHeadModel, files: HeadFiles, name: str, number: int | None, frame: CropFrame, points: Points) -> HeadFit:
    """The head of a photo or frame, in the canonical frame.

    Args:
        head: the model that the files are for.
        files: what the other tracker left.
        name: of the photo or film.
        number: of the frame; None for photos.
        frame: the crop.
        points: [478, 3], as detected, photo coordinates.

    Raises:
        UserError: there is none, or its file is damaged.
    """
    found = files.find(name, number)
    if found is None:
        raise UserError(f"{name}: {MISSING}.")
    fit = place_in_crop(head, found, frame, points)
    if found.lacks_gaze:
        fit = fit_gaze(head, fit, torch.from_numpy(frame.to_unit(points))[None].float())
    return canonical(head, fit)


def imported_shot(
    head: LinearHeadModel, files: HeadFiles, name: str, first: int, frames: Sequence[CropFrame], points: Points
) -> tuple[HeadFit, Sequence[bool]]:
    """Heads of the frames of a shot, and which of them there are: where none was imported, or no face is seen to place it by, the fit
    is that of another frame.

    Args:
        head: the model that the files are for.
        files: what the other tracker left.
        name: of the film.
        first: number of the shot's first frame.
        frames: T crops.
        points: [T, 478, 3], photo coordinates, NaN where no face is seen.

    Raises:
        UserError: there is none for any frame, or a file is damaged.
    """
    fits: list[HeadFit | None] = []
    for index, (frame, face) in enumerate(zip(frames, points, strict=True)):
        wanted = np.isfinite(face).all() and files.find(name, first + index) is not None
        fits.append(imported_head(head, files, name, first + index, frame, face) if wanted else None)
    there = [fit is not None for fit in fits]
    if not any(there):
        raise UserError(f"{name}: {MISSING}.")
    spare = next(fit for fit in fits if fit is not None)
    return concatenate([spare if fit is None else fit for fit in fits]), there
