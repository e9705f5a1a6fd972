"""One photo tracked and drawn: what `next3d data overlay` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.errors import UserError
from dnnlib.files import atomic_write
from next3d.head.model import LinearHeadModel
from next3d.tracking.align import crop_frame
from next3d.tracking.choice import Choice, choose_faces
from next3d.tracking.face_mesh import DetectorSettings, open_detector
from next3d.tracking.overlay import OverlayStyle, draw_overlay, legend_lines
from next3d.tracking.pipeline import fit_faces
from next3d.tracking.read import read_photo


def write_overlay(
    photo: Path,
    out: Path,
    head: LinearHeadModel,
    *,
    faces: Choice = "all",
    detector: DetectorSettings | None = None,
    style: OverlayStyle | None = None,
) -> list[list[str]]:
    """Track a photo and write it with what was found.

    Args:
        photo: file of any kind that `read_photo` takes.
        out: .png or .jpg.
        head: model that is fitted.
        faces: which ones.
        detector: how they are looked for.
        style: what is drawn.

    Returns:
        For every face, the figures in words.

    Raises:
        UserError: the photo cannot be read, no face is in it, or MediaPipe is missing.
    """
    pixels = read_photo(photo)
    with open_detector(detector or DetectorSettings()) as finder:
        found = [face.points for face in choose_faces(finder.detect(pixels), faces)]
    if not found:
        raise UserError(f"{photo}: no face was found; take a photo in which one is larger, sharper or less turned away.")
    frames = [crop_frame(points) for points in found]
    fit = fit_faces(head, np.stack([frame.to_unit(points) for frame, points in zip(frames, found, strict=True)]))
    picture = draw_overlay(pixels, head, fit, frames, found, style)
    with atomic_write(out) as temporary:
        Image.fromarray(picture).save(temporary, quality=92) if out.suffix.lower() == ".jpg" else Image.fromarray(picture).save(temporary)
    return [legend_lines(head, fit[number : number + 1]) for number in range(len(found))]
