"""From photos to rows, numbers and pictures of a data set: read, detect, choose, crop, fit, gaze, canonical frame, judge, cut.

`track_photos` is the whole way for a few photos, and does not know who else works on others: the same in this process, in a worker of
many, or in a task on a cluster.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dnnlib.errors import ConfigError, UserError
from next3d.head import load_head
from next3d.head.model import HeadModel, Joint, LinearHeadModel
from next3d.media.portrait_files import png_bytes
from next3d.render.cameras import orbit_camera, project
from next3d.tracking.align import crop_frame, cut_crop
from next3d.tracking.canonical import canonical
from next3d.tracking.choice import choose_faces
from next3d.tracking.eyes import fit_eyes
from next3d.tracking.face_mesh import Detector, open_detector
from next3d.tracking.fit import fit_heads
from next3d.tracking.foreign import MISSING, imported_head
from next3d.tracking.importers import HeadFiles, open_heads
from next3d.tracking.matte import Matte, open_matte
from next3d.tracking.quality import Quality, judge, no_face
from next3d.tracking.results import Portion, Row, Table
from next3d.tracking.settings import TrackingSettings
from next3d.tracking.sources import Item, read_item, told
from next3d.tracking.types import CropFrame, Face, HeadFit, Pixels, Points
from next3d.types import Camera

PREVIEW = 160
"""Side in pixels of what the report shows of rejected faces."""
_FACES, _BYTES = 8, 256 << 20
"""A fit starts when so many faces, or photos of so many bytes, wait for it."""


class Tools:
    """What a process needs to track, opened when it is first used. Get one from `open_tools`."""

    def __init__(self, settings: TrackingSettings, stack: ExitStack) -> None:
        self.settings = settings
        self._stack = stack

    @cached_property
    def head(self) -> LinearHeadModel:
        """The head model."""
        return shared_head(self.settings.head)

    @cached_property
    def detector(self) -> Detector:
        """Finds faces; raises UserError where MediaPipe is missing."""
        return self._stack.enter_context(open_detector(self.settings.detector))

    @cached_property
    def imported(self) -> HeadFiles | None:
        """Another tracker's results, where they are to be used; raises UserError where there are none."""
        wanted = self.settings.imported
        return None if wanted is None else open_heads(wanted.folder, wanted.kind, self.head)

    @cached_property
    def matte(self) -> Matte:
        """Cuts people out."""
        return self._stack.enter_context(open_matte())


@contextmanager
def open_tools(settings: TrackingSettings) -> Iterator[Tools]:
    """Detector and head model, closed at the end."""
    with ExitStack() as stack:
        yield Tools(settings, stack)


@lru_cache(maxsize=1)
def shared_head(name: str) -> LinearHeadModel:
    """One instance per process: what is measured on it is kept with it.

    Raises:
        ConfigError: it is not there, or a mesh that cannot be fitted.
    """
    head = load_head(name)
    if not isinstance(head, LinearHeadModel):
        raise ConfigError(f"head model '{name}': has no shapes and expressions to fit; give procedural, flame or the path of FLAME.")
    return head


@dataclass(frozen=True)
class FoundFace:
    """A face that waits for its fit."""

    row: Row
    photo: Pixels
    face: Face
    frame: CropFrame


def track_photos(items: Sequence[Item], tools: Tools) -> Portion:
    """All steps for some photos; what goes wrong with one of them becomes a row that says so.

    Args:
        items: photos.
        tools: detector, head model and settings.

    Raises:
        UserError: the tools do not work (no MediaPipe, no head model).
    """
    portion = PortionMaker(tools)
    waiting: list[Row | FoundFace] = []
    for item in items:
        waiting += _look(item, tools)
        faces = [one for one in waiting if isinstance(one, FoundFace)]
        if len(faces) >= _FACES or sum(face.photo.nbytes for face in faces) >= _BYTES:
            portion.add(waiting)
            waiting = []
    portion.add(waiting)
    return portion.done()


def _look(item: Item, tools: Tools) -> Sequence[Row | FoundFace]:
    """The faces of one photo; where there are none, a row that says why."""
    detector = tools.detector
    try:
        photo = read_item(item)
    except UserError as error:
        return [Row(source=item.name, problem=told(item, error))]
    height, width = photo.pixels.shape[:2]
    row = Row(source=item.name, photo=(width, height), notes=photo.notes)
    found: list[FoundFace] = []
    for face in choose_faces(detector.detect(photo.pixels), tools.settings.faces):
        with suppress(ValueError):  # points in one place are no face
            found.append(FoundFace(replace(row, face=len(found)), photo.pixels, face, crop_frame(face.points)))
    return found or [replace(row, quality=no_face())]


@dataclass
class PortionMaker:
    """Collects results; fits the faces it gets in one batch."""

    tools: Tools
    rows: list[Row] = field(default_factory=list)
    numbers: dict[str, list[Table]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, found: Sequence[Row | FoundFace]) -> None:
        """Fit, judge and cut out some faces; rows that are complete already keep their place among them."""
        faces = [one for one in found if isinstance(one, FoundFace)]
        units = [one.frame.to_unit(one.face.points) for one in faces]
        fits = iter(self._fits(faces, np.stack(units))) if faces else iter(())
        for one in found:
            fit = None if isinstance(one, Row) else next(fits)
            if isinstance(one, Row):
                self.rows.append(one)
            elif isinstance(fit, HeadFit):
                self.keep(one.row, one.photo, one.frame, fit, one.frame.to_unit(one.face.points), self._judge(one, fit))
            else:
                self.rows.append(replace(one.row, crop=one.frame, problem=str(fit)))

    def _fits(self, faces: Sequence[FoundFace], units: Points) -> list[HeadFit | UserError]:
        """One head for each face, or why there is none."""
        files, head = self.tools.imported, self.tools.head
        if files is None:
            fit = fit_faces(head, units)
            return [fit[index : index + 1] for index in range(len(faces))]
        fits: list[HeadFit | UserError] = []
        for one in faces:
            try:
                if one.row.face:  # other trackers have one face per photo: the largest
                    raise UserError(f"{one.row.source} #{one.row.face + 1}: {MISSING}.")
                fits.append(imported_head(head, files, one.row.source, None, one.frame, one.face.points))
            except UserError as error:
                fits.append(error)
        return fits

    def _judge(self, one: FoundFace, fit: HeadFit) -> Quality:
        return judge(one.photo, one.face, one.frame, fit, resolution=self.tools.settings.resolution, limits=self.tools.settings.limits)

    def keep(self, row: Row, photo: Pixels, frame: CropFrame, fit: HeadFit, unit: Points, quality: Quality | None) -> None:
        """Add one face: its facts and, unless it is rejected, its numbers and pictures.

        Args:
            row: what is known of it so far.
            photo: the whole photo.
            frame: what is cut out of it.
            fit: one head, in the canonical frame.
            unit: the detected points [478, 3], unit coordinates of the crop; NaN where a frame is bridged.
            quality: the verdict; None keeps it, too.
        """
        settings, number = self.tools.settings, len(self.rows)
        row = _described(row, frame, fit, quality, self.tools.head)
        if quality is not None and not quality.accepted:
            name = f"{number:06d}-preview.jpg"
            self.files[name] = _jpeg(cut_crop(photo, frame, PREVIEW))
            self.rows.append(replace(row, files={"preview": name}))
            return
        crop = cut_crop(photo, frame, settings.resolution)
        files = {"images": f"{number:06d}.png"}
        self.files[files["images"]] = photo_png(crop)
        if settings.matte:
            files["matte"] = f"{number:06d}-matte.png"
            self.files[files["matte"]] = png_bytes(self.tools.matte.cut(crop))
        for name, table in tables(self.tools.head, fit, unit, settings.resolution).items():
            self.numbers.setdefault(name, []).append(table)
        self.rows.append(replace(row, files=files))

    def done(self) -> Portion:
        """Everything that was collected."""
        return Portion(self.rows, {name: np.concatenate(rows) for name, rows in self.numbers.items()}, self.files)


@torch.no_grad()
def fit_faces(head: LinearHeadModel, units: Points) -> HeadFit:
    """Heads with eyes for detected points [N, 478, 3] in unit coordinates of standard crops, in the canonical frame."""
    points = torch.from_numpy(units).float()
    fit = fit_eyes(head, fit_heads(head, points, standard_camera(len(points))), points)
    return canonical(head, fit)


def standard_camera(count: int) -> Camera:
    """The camera of every crop: in front, 2.7 from the origin, with the focal length of portraits."""
    return orbit_camera(torch.zeros(count), torch.zeros(count))


@torch.no_grad()
def tables(head: HeadModel, fit: HeadFit, unit: Points, resolution: int) -> dict[str, Table]:
    """Numbers of one head [1, …] as a data set has them; `unit` as in `PortionMaker.keep`."""
    params = fit.params
    landmarks = head(params).landmarks
    values: dict[str, Tensor] = {
        "label": fit.camera.to_label(),
        "shape": params.shape,
        "expression": params.expression,
        "pose": params.pose,
        "translation": params.translation,
        "scale": params.scale,
        "landmarks_2d": (project(landmarks, fit.camera)[..., :2] + 1) * (resolution / 2),
        "landmarks_3d": landmarks,
        "detected": torch.from_numpy(unit * resolution)[None],
    }
    return {name: value.float().numpy() for name, value in values.items()}


def _described(row: Row, frame: CropFrame, fit: HeadFit, quality: Quality | None, head: HeadModel) -> Row:
    """The row with what the fit says."""
    pose, error = fit.params.pose[0], float(fit.error[0])
    eyes = [float(pose[eye, axis]) for eye in (Joint.LEFT_EYE, Joint.RIGHT_EYE) for axis in (1, 0)]
    lids = [head.expression_names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight") if name in head.expression_names]
    return replace(
        row,
        crop=frame,
        error=error if np.isfinite(error) else None,
        gaze=tuple(eyes),
        jaw=float(pose[Joint.JAW, 0]),
        blink=float(fit.params.expression[0, lids].mean()) if lids else None,
        quality=quality,
    )


def photo_png(pixels: Pixels) -> bytes:
    """A PNG of a photo [H, W, 3], written in the short time that films leave: OpenCV, which MediaPipe needs, takes half of Pillow's.

    It looks for runs only (zlib's Z_RLE), as photos have no repetitions.
    """
    opencv: Any = importlib.import_module("cv2")
    written, content = opencv.imencode(".png", pixels[..., ::-1], [opencv.IMWRITE_PNG_STRATEGY, opencv.IMWRITE_PNG_STRATEGY_RLE])
    if not written:
        raise MemoryError("a PNG could not be made")
    return bytes(content)


def _jpeg(picture: Pixels) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="JPEG", quality=85)
    return content.getvalue()
