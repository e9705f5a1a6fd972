"""Real photos: do crops and cameras agree with those that EG3D's preparation made?

    python -m bench.tracking_real [--quick] [--labels FOLDER] [--overlays FOLDER] [--cache FOLDER] [--json FILE]

Labelled crops (NAME.png beside NAME.npy with 25 numbers) are read from ../shared/portraits unless told otherwise; without that folder their
rows are left out. The astronaut of scikit-image has no label and shows how well a fit explains a photo. Needs the extra `portraits`.

On synthetic portraits, whose truth is taken to the canonical frame as well: do labels found there lean to one side? And how far does the
detector's error move their crops?
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bench.portraits import open_pool
from bench.report import Report
from bench.tracking_data import RESOLUTION, Stills, load_stills
from next3d.head import load_head
from next3d.head.model import LinearHeadModel
from next3d.tracking.align import crop_frame
from next3d.tracking.canonical import canonical
from next3d.tracking.face_mesh import DetectorSettings, open_detector, open_face_mesh
from next3d.tracking.overlay import draw_overlay
from next3d.tracking.pipeline import fit_faces
from next3d.tracking.quality import view_angles
from next3d.tracking.types import CropFrame, HeadFit, Pixels, Points
from next3d.types import Camera

COUNT = 200
"""Synthetic portraits."""
LABELS = Path(__file__).resolve().parent.parent.parent / "shared" / "portraits"


@dataclass(frozen=True)
class Photo:
    """A photo, and the label if it is a crop that has one."""

    name: str
    pixels: Pixels
    label: npt.NDArray[np.float64] | None = None
    """[25]."""


@dataclass(frozen=True)
class Tracked:
    """What was found in a photo, and how it differs from its label."""

    points: Points
    frame: CropFrame
    fit: HeadFit
    moved: tuple[float, float, float]
    """How far the crop of a crop lies to the right and lower, and how much larger it is, crop sides; absolute values."""
    direction_error: float
    """Angle between the lines of sight, degrees; NaN without a label."""
    turned: tuple[float, float]
    """Found minus label: how much further the camera looks to the right and up, degrees."""


def read_labelled(folder: Path) -> list[Photo]:
    """Crops with labels, by name."""
    return [
        Photo(file.stem, _pixels(file.with_suffix(".png")), np.load(file, allow_pickle=False).reshape(-1).astype(np.float64))
        for file in sorted(folder.glob("*.npy"))
    ]


def _pixels(file: Path) -> Pixels:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def track_labelled(photos: Sequence[Photo]) -> list[Tracked]:
    """Each photo's largest face."""
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    with open_detector(DetectorSettings()) as detector:
        points = [detector.detect(photo.pixels)[0].points for photo in photos]
    frames = [crop_frame(face) for face in points]
    fit = fit_faces(head, np.stack([frame.to_unit(face) for frame, face in zip(frames, points, strict=True)]))
    return [_compared(photo, points[i], frames[i], fit[i : i + 1]) for i, photo in enumerate(photos)]


def _compared(photo: Photo, points: Points, frame: CropFrame, fit: HeadFit) -> Tracked:
    right, down, larger = _difference(frame, CropFrame(0, 0, photo.pixels.shape[0]))
    moved = (abs(right), abs(down), abs(larger))
    if photo.label is None:
        return Tracked(points, frame, fit, moved, float("nan"), (float("nan"), float("nan")))
    true = Camera.from_label(torch.from_numpy(photo.label)[None]).cam2world[0, :3, 2].numpy()
    found = fit.camera.cam2world[0, :3, 2].double().numpy()
    angle = float(np.degrees(np.arccos(np.clip(found @ true / np.linalg.norm(found) / np.linalg.norm(true), -1, 1))))
    right = float(np.degrees(np.arctan2(found[0], -found[2]) - np.arctan2(true[0], -true[2])))
    return Tracked(points, frame, fit, moved, angle, (right, float(np.degrees(np.arcsin(found[1]) - np.arcsin(true[1])))))


def add_real(report: Report, labels: Path = LABELS, overlays: Path | None = None) -> None:
    """Rows of the labelled crops, if there are any, and of the astronaut."""
    import skimage.data

    labelled = read_labelled(labels) if labels.is_dir() else []
    if not labelled:
        print(f"no labelled crops in {labels}: their rows are left out")
    photos = [*labelled, Photo("astronaut", skimage.data.astronaut())]
    tracked = track_labelled(photos)
    for photo, found in zip(photos, tracked, strict=True):
        name = f"real_{photo.name}"
        if photo.label is not None:
            straight = float(np.degrees(np.arccos(np.clip(-photo.label[10], -1, 1))))
            note = f"right {found.turned[0]:+.1f}, up {found.turned[1]:+.1f}; a camera straight ahead: {straight:.1f}"
            report.add(f"{name}_direction_degrees", found.direction_error, bar="<= 4", note=note)
            for way, value in zip(("across", "down", "size"), found.moved, strict=True):
                report.add(f"{name}_crop_{way}_percent", 100 * value, bar="<= 2", note="crop of the crop, of its size")
        report.add(f"{name}_error_percent", 100 * float(found.fit.error[0]), note="landmarks, of the distance of the outer eye corners")
        if overlays is not None:
            _save_overlay(overlays, photo, found)


def add_synthetic(report: Report, stills: Stills) -> None:
    """Signed differences of what is found from what is true, over portraits in which a face was seen, and how steady crops are."""
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    rows = torch.from_numpy(np.flatnonzero(stills.seen))
    points = stills.detected[rows] / RESOLUTION  # [N, 478, 3], unit coordinates
    truth = canonical(head, HeadFit(stills.params[rows], stills.camera[rows], torch.zeros(len(rows))))
    fit = fit_faces(head, points)
    turned = torch.rad2deg(view_angles(fit) - view_angles(truth))  # [N, 3]
    for name, values in zip(("yaw", "pitch", "roll"), turned.T, strict=True):
        note = f"median {float(values.median()):+.2f}, spread {float(values.std()):.1f}; found minus true, {len(rows)} portraits"
        report.add(f"synthetic_{name}_mean_degrees", float(values.mean()), bar="about 0", note=note)
    sizes = 100 * (fit.params.scale / truth.params.scale).log()
    report.add("synthetic_scale_mean_percent", float(sizes.mean()), bar="about 0", note=f"spread {float(sizes.std()):.1f}")

    exact = points.copy()
    exact[..., :2] = stills.points[rows] / RESOLUTION
    frames = [(crop_frame(found), crop_frame(true)) for found, true in zip(points, exact, strict=True)]
    moved = 100 * np.array([_difference(found, true) for found, true in frames])
    for name, values in zip(("across", "down", "size"), moved.T, strict=True):
        note = "of its size: 95 of 100 crops move less by the detector's errors"
        report.add(f"synthetic_crop_{name}_percent", float(np.percentile(np.abs(values), 95)), note=note)


def _difference(found: CropFrame, true: CropFrame) -> tuple[float, float, float]:
    """How far a crop lies to the right of another and lower, and how much larger it is, sides."""
    right = found.left + found.side / 2 - true.left - true.side / 2
    down = found.top + found.side / 2 - true.top - true.side / 2
    return right / true.side, down / true.side, found.side / true.side - 1


def _save_overlay(folder: Path, photo: Photo, found: Tracked) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = draw_overlay(photo.pixels, load_head("procedural"), found.fit, [found.frame], [found.points])
    Image.fromarray(picture).save(folder / f"{photo.name}.png")


def main() -> None:
    """Track, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few synthetic portraits")
    parser.add_argument("--labels", type=Path, default=LABELS, help="folder of crops with labels")
    parser.add_argument("--overlays", type=Path, help="also draw what was found, into this folder")
    parser.add_argument("--cache", type=Path, help="folder in which synthetic portraits are kept")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    report = Report("tracking_real")
    add_real(report, options.labels, options.overlays)
    with open_face_mesh() as mesh, open_pool(1) as pool:
        count = 24 if options.quick else COUNT
        stills = load_stills("test", lambda image: next(iter(mesh.find(image)), None), pool, count=count, cache=options.cache)
    add_synthetic(report, stills)
    report.finish(options.json)


if __name__ == "__main__":
    main()
