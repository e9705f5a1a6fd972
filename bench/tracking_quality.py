"""Which faces does tracking reject? Portraits spoilt on purpose, by kind and by degree.

    python -m bench.tracking_quality [--quick] [--photos FOLDER] [--cache FOLDER] [--json FILE]

Synthetic portraits of `bench.tracking_data`, the astronaut of scikit-image, and the photos of a folder: every one is spoilt in every way
and judged as `next3d data portraits` judges it. Blurs are standard deviations in percent of the distance of the outer eye corners. Needs
the extra `portraits`.
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from bench.portraits import open_pool
from bench.report import Report
from bench.tracking_data import load_stills
from next3d.head import load_head
from next3d.head.model import LinearHeadModel
from next3d.tracking.align import crop_frame
from next3d.tracking.face_mesh import Detector, open_detector
from next3d.tracking.pipeline import fit_faces
from next3d.tracking.quality import EYE_CORNERS, Quality, judge, no_face
from next3d.tracking.types import Face, Pixels

RESOLUTION = 256
LIPS_AND_CHIN, RIGHT_HALF, EYES = [61, 291, 152, 4], [33, 133, 152, 105, 172, 4], [33, 263, 105, 334]
"""Points around what is covered."""

Spoil = Callable[[Pixels, Face], Pixels]


def as_it_is(photo: Pixels, face: Face) -> Pixels:
    """Nothing done."""
    return photo


def blurred(percent: float) -> Spoil:
    """Gaussian blur, percent of the distance of the eyes."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(percent / 100 * _eyes(face))))

    return spoil


def sized(side: int) -> Spoil:
    """Shrunk until the crop has so many pixels."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        factor = side / crop_frame(face.points).side
        image = Image.fromarray(photo)
        return np.asarray(image.resize((max(round(image.width * factor), 1), max(round(image.height * factor), 1)), Image.Resampling.BOX))

    return spoil


def noisy(deviation: float) -> Spoil:
    """White noise, steps of 256."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        return (photo + np.random.default_rng(0).normal(0, deviation, photo.shape)).clip(0, 255).astype(np.uint8)

    return spoil


def scaled(factor: float) -> Spoil:
    """Darker or brighter."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        return (photo * factor).clip(0, 255).astype(np.uint8)

    return spoil


def turned(degrees: float) -> Spoil:
    """Turned in the picture, anticlockwise."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        return np.asarray(Image.fromarray(photo).rotate(degrees, Image.Resampling.BICUBIC, expand=True))

    return spoil


def covered(points: list[int], colour: tuple[int, int, int]) -> Spoil:
    """A box of one colour over some points."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        changed, place, margin = photo.copy(), face.points[points, :2], 0.1 * _eyes(face)
        low, high = np.maximum(place.min(0) - margin, 0).astype(int), (place.max(0) + margin).astype(int)
        changed[low[1] : high[1], low[0] : high[0]] = colour
        return changed

    return spoil


def cut_below(point: int) -> Spoil:
    """The photo ends at a point."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        return photo[: max(int(face.points[point, 1]), 8)]

    return spoil


def jpeg(quality: int) -> Spoil:
    """Stored with losses."""

    def spoil(photo: Pixels, face: Face) -> Pixels:
        content = io.BytesIO()
        Image.fromarray(photo).save(content, format="JPEG", quality=quality)
        return np.asarray(Image.open(content))

    return spoil


SPOILT: dict[str, Spoil] = {
    "as_it_is": as_it_is,
    **{f"blur_{percent:g}".replace(".", "_"): blurred(percent) for percent in (0.5, 1, 2, 2.5, 3, 4.5, 7)},
    **{f"crop_{side}_px": sized(side) for side in (160, 96, 72, 56, 32)},
    **{f"noise_{deviation}": noisy(deviation) for deviation in (10, 25)},
    "jpeg_20": jpeg(20),
    "dark_8": scaled(1 / 8),
    "dark_16": scaled(1 / 16),
    "bright_2": scaled(2),
    "bright_4": scaled(4),
    **{f"turned_{degrees}": turned(degrees) for degrees in (30, 90, 180)},
    "mouth_and_chin_hidden": covered(LIPS_AND_CHIN, (30, 30, 30)),
    "half_hidden": covered(RIGHT_HALF, (40, 90, 40)),
    "eyes_hidden": covered(EYES, (10, 10, 10)),
    "cut_at_the_mouth": cut_below(13),
}
QUICK = ("as_it_is", "blur_4_5", "crop_32_px", "turned_180")


def _eyes(face: Face) -> float:
    return float(np.linalg.norm(np.diff(face.points[list(EYE_CORNERS), :2], axis=0)))


def verdict(photo: Pixels, detector: Detector) -> Quality:
    """As tracking judges the first face."""
    faces = detector.detect(np.ascontiguousarray(photo))
    if not faces:
        return no_face()
    frame = crop_frame(faces[0].points)
    head = load_head("procedural")
    assert isinstance(head, LinearHeadModel)
    fit = fit_faces(head, frame.to_unit(faces[0].points)[None])
    return judge(photo, faces[0], frame, fit, resolution=RESOLUTION)


def measure(name: str, photos: list[Pixels], spoilt: dict[str, Spoil], detector: Detector, report: Report) -> None:
    """A line per way of spoiling, and the share that is kept as a figure."""
    faces = [found[0] if (found := detector.detect(photo)) else None for photo in photos]
    print(f"\n{name}: {sum(face is not None for face in faces)} of {len(photos)} with a face\n")
    print(f"{'':24}{'kept':>6}{'score':>7}{'sharp':>8}{'spread':>8}{'error':>7}  reasons")
    for way, spoil in spoilt.items():
        verdicts = [verdict(spoil(photo, face), detector) for photo, face in zip(photos, faces, strict=True) if face is not None]
        measured = [one.measures for one in verdicts if one.measures is not None]
        reasons = Counter(reason for one in verdicts for reason in one.reasons)
        kept = sum(one.accepted for one in verdicts) / max(len(verdicts), 1)
        middles = [
            statistics.median(values or [0.0])
            for values in (
                [one.score for one in verdicts],
                [one.sharpness for one in measured],
                [one.spread or 0.0 for one in measured],
                [one.error for one in measured],
            )
        ]
        shown = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        print(f"{way:24}{100 * kept:5.0f}%{middles[0]:7.2f}{middles[1]:8.3f}{100 * middles[2]:7.2f}%{100 * middles[3]:6.2f}%  {shown}")
        report.add(f"{name}_{way}_kept", kept, shown=False)


def main() -> None:
    """Spoil, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few portraits, few ways")
    parser.add_argument("--count", type=int, default=40, help="synthetic portraits")
    parser.add_argument("--photos", type=Path, help="also the photos in this folder")
    parser.add_argument("--cache", type=Path, help="folder that keeps rendered portraits")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report, spoilt = Report("tracking_quality"), SPOILT
    if arguments.quick:
        spoilt = {name: SPOILT[name] for name in QUICK}
    from skimage.data import astronaut

    with open_detector() as detector:
        measure("astronaut", [np.asarray(astronaut())], spoilt, detector, report)
        with open_pool(1) as pool:
            stills = load_stills("test", lambda _: None, pool, cache=arguments.cache, count=4 if arguments.quick else arguments.count)
        measure("synthetic", list(stills.images), spoilt, detector, report)
        if arguments.photos:
            found = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(arguments.photos.glob("*.png"))]
            measure("photos", found, spoilt, detector, report)
    print()
    report.finish(arguments.json)


if __name__ == "__main__":
    main()
