"""What does the detector find, how exactly, and how fast?

    python -m bench.tracking_detector [--quick] [--cache FOLDER] [--json FILE]

Points: on synthetic portraits of `bench.tracking_data` (the set "test"), how far the 478 points are from where the head has them, after
taking away the median of that over all portraits (what a fit can know beforehand), by number of looks; beside it MediaPipe's face mesh as
it is. Faces: synthetic portraits from the side, scikit-image's astronaut turned and small in a large photo, and pictures without people.
Needs the extra `portraits`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bench.face_mesh import OUTER_EYE_CORNERS, regions
from bench.portraits import open_pool
from bench.report import Report
from bench.tracking_data import Stills, load_stills, the_head
from next3d.head.dense import dense_embedding
from next3d.render.cameras import project
from next3d.synthetic.render import render_sample
from next3d.synthetic.sampling import CameraRange, keyed_params
from next3d.tracking.face_mesh import DetectorSettings, open_detector, open_face_mesh
from next3d.tracking.types import Pixels, Points
from next3d.types import Camera

LOOKS = (1, 2, 4, 8)
SIDES = (1200, 600, 300, 200, 100, 64, 48)
"""Pixels of a face from brows to chin in a photo of 4000 x 3000."""
ALIKE = 0.1
"""Parts of the eyes' distance within which points count as found in the right place."""
WITHOUT_PEOPLE = (
    "brick", "chelsea", "clock", "coffee", "coins", "colorwheel", "grass", "gravel", "hubble_deep_field", "immunohistochemistry",
    "logo", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
SIDE_SEED = 8800
"""Of portraits from the side."""
HEAD = (110, 10, 224)
"""Left, top and side of the astronaut's head in her photo."""
HEAD_FACE = 0.42
"""Her face from brows to chin, parts of that square."""


def in_face(points: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Differences [478, 2] along and across the line of the eyes, in parts of its length."""
    across = truth[OUTER_EYE_CORNERS[1]] - truth[OUTER_EYE_CORNERS[0]]
    length = np.linalg.norm(across)
    c, s = across / length
    return (points[:, :2] - truth) @ np.array([[c, -s], [s, c]]) / length


def measure_points(report: Report, stills: Stills, name: str, find: Callable[[Pixels], Points | None]) -> None:
    """One row of errors by part of the face."""
    began = time.process_time()
    found = [find(image) for image in stills.images]
    cost = 1000 * (time.process_time() - began) / len(found)
    pairs = zip(found, stills.points, strict=True)
    errors = np.stack([in_face(points, truth) for points, truth in pairs if points is not None])
    distance = 100 * np.linalg.norm(errors - np.median(errors, axis=0), axis=2)
    parts = {part: float(distance[:, members].mean()) for part, members in regions().items()}
    print(f"{name:24}{len(errors):6}{cost:8.1f}" + "".join(f"{value:9.2f}" for value in (*parts.values(), distance.mean())))
    key = name.replace(" ", "_")
    report.add(f"{key}_all_percent", float(distance.mean()), shown=False)
    report.add(f"{key}_ms", cost, shown=False)
    for part, value in parts.items():
        report.add(f"{key}_{part}_percent", value, shown=False)


def by_looks(report: Report, stills: Stills, looks: tuple[int, ...]) -> None:
    """Errors by number of looks."""
    print(f"\n{len(stills.images)} synthetic portraits; % of the distance of the outer eye corners\n")
    print(f"{'':24}{'found':>6}{'CPU ms':>8}" + "".join(f"{part[:7]:>9}" for part in (*regions(), "all")))
    with open_face_mesh() as mesh:
        measure_points(report, stills, "face mesh", lambda image: next(iter(mesh.find(image)), None))
    for number in looks:
        with open_detector(DetectorSettings(looks=number)) as detector:
            measure_points(report, stills, f"looks {number}", lambda image, d=detector: next((f.points for f in d.detect(image)), None))


@torch.no_grad()
def by_yaw(report: Report, count: int) -> None:
    """How many faces are found, the further the camera stands to the side."""
    head, cameras = the_head(), CameraRange(even=True, yaw_limit=math.pi / 2, pitch_limit=0.3)
    found: dict[int, list[float]] = {}
    with open_detector() as detector:
        for index in range(count):
            params = keyed_params(head, SIDE_SEED, index)
            portrait = render_sample(head, SIDE_SEED, index, 256, params=params, cameras=cameras)
            label = torch.from_numpy(portrait.label)[None]
            truth = (project(dense_embedding(head).place(head(params).vertices), Camera.from_label(label))[0, :, :2] + 1) * 128
            yaw = abs(math.degrees(math.atan2(float(label[0, 3]), float(label[0, 11]))))
            faces = detector.detect(portrait.image)
            gap = float(np.linalg.norm(faces[0].points[:, :2] - truth.double().numpy(), axis=1).mean()) / 2.56 if faces else math.nan
            found.setdefault(int(yaw // 15) * 15, []).append(gap)
    for low, gaps in sorted(found.items()):
        seen = [gap for gap in gaps if math.isfinite(gap)]
        off = f"points {np.median(seen):.1f} % of the picture's width off" if seen else ""
        report.add(f"yaw_{low}_found", len(seen) / len(gaps), note=f"{len(gaps)} portraits from {low} to {low + 15} degrees; {off}")


def on_photos(report: Report, step: int, sides: tuple[int, ...]) -> None:
    """The astronaut turned and small, and pictures without people."""
    from skimage import data

    left, top, side = HEAD
    head = np.ascontiguousarray(data.astronaut()[top : top + side, left : left + side])
    small = np.random.default_rng(0).integers(90, 150, (30, 40, 3), dtype=np.uint8)
    wall = Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC)
    with open_detector() as detector:
        upright = detector.detect(head)[0].points
        right = []
        for degrees in range(0, 360, step):
            padded = Image.fromarray(np.pad(head, [(64, 64), (64, 64), (0, 0)], mode="edge"))
            faces = detector.detect(np.asarray(padded.rotate(degrees, resample=Image.Resampling.BICUBIC)))
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            back = [(face.points[:, :2] - (side / 2 + 64)) @ np.array([[c, s], [-s, c]]) + side / 2 for face in faces]
            right.append(len(back) == 1 and float(np.linalg.norm(in_face(back[0], upright[:, :2]), axis=1).mean()) < ALIKE)
        report.add("turned_found", float(np.mean(right)), note=f"a face turned by 0, {step}, … degrees: share found in the right place")
        for pixels in sides:
            photo, large = wall.copy(), round(pixels / HEAD_FACE)
            photo.paste(Image.fromarray(head).resize((large, large), Image.Resampling.LANCZOS), (1700, 1100 - large // 4))
            shown = np.asarray(photo)
            began = time.process_time()
            faces = detector.detect(shown)
            cost = 1000 * (time.process_time() - began)
            expected = upright * (large / side) + np.array([1700, 1100 - large // 4, 0])
            gaps = [float(np.linalg.norm(in_face(face.points, expected[:, :2]), axis=1).mean()) for face in faces]
            report.add(f"face_of_{pixels}_found", len(gaps) == 1 and gaps[0] < ALIKE, note=f"in a photo of 4000 x 3000; {cost:.0f} CPU ms")
        pictures = [getattr(data, name)() for name in WITHOUT_PEOPLE]
        colored = [np.ascontiguousarray(p[..., :3] if p.ndim == 3 else np.stack([p] * 3, axis=2)) for p in pictures]
        invented = sum(len(detector.detect(picture)) for picture in colored)
        report.add("faces_invented", invented, bar="0", note=f"{len(pictures)} pictures without people")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few portraits, few turns and sizes")
    parser.add_argument("--count", type=int, default=200, help="synthetic portraits")
    parser.add_argument("--cache", type=Path, help="folder that keeps rendered portraits")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report = Report("tracking_detector")
    with open_pool(1) as pool:
        stills = load_stills("test", lambda _: None, pool, cache=arguments.cache, count=8 if arguments.quick else arguments.count)
    by_looks(report, stills, (1, 4) if arguments.quick else LOOKS)
    by_yaw(report, 8 if arguments.quick else 60)
    on_photos(report, 90 if arguments.quick else 15, SIDES[::3] if arguments.quick else SIDES)
    print()
    report.finish(arguments.json)


if __name__ == "__main__":
    main()
