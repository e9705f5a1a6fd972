"""How good is tracking? Heads, gaze, expressions and places of portraits with known truth, films, real photos, and how fast it is.

    python -m bench.tracking [--quick] [--json FILE] [--cache FOLDER] [--rows stills|films|real|speed]

Portraits have 256 x 256 pixels, cameras nearer or further by up to 15 % and turned by up to 15 degrees; figures of single controls draw the
control evenly. Beside every figure stands what a predictor would get that always says the same. Needs the extra `portraits`.

    python -m bench.tracking --calibrate [--cache FOLDER]

measures anew how the detector errs, on portraits that are never judged, and stores it for the fit.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench import tracking_clips, tracking_real, tracking_speed
from bench.portraits import open_pool
from bench.report import Report
from bench.tracking_clip_data import between_eyes, without_neck
from bench.tracking_data import RESOLUTION, Array, Stills, load_stills, the_head
from bench.tracking_eyes import add_blinks, add_gaze, add_looking_down
from bench.tracking_noise import calibrate
from dnnlib.machine import physical_cores
from next3d.head.dense import dense_embedding
from next3d.head.model import HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix
from next3d.tracking.detector import Detector, open_detector
from next3d.tracking.eyeballs import in_picture
from next3d.tracking.eyes import fit_eyes
from next3d.tracking.fit import fit_heads
from next3d.tracking.noise import save_noise
from next3d.tracking.types import HeadFit, Pixels
from next3d.types import Camera

_CHUNK = 16
_QUICK = 10
"""Portraits per set of a quick run."""
_OUTER_CORNERS = (33, 263)


class Judge:
    """Sets of portraits with what the detector and the fit make of them."""

    def __init__(self, detector: Detector, pool: Executor, cache: Path | None, count: int | None) -> None:
        self._detector, self._pool, self._cache, self._count = detector, pool, cache, count
        head = the_head()
        assert isinstance(head, LinearHeadModel)
        self.head = head

    def stills(self, name: str) -> Stills:
        """A set by name."""
        return load_stills(name, self._detect, self._pool, count=self._count, cache=self._cache)

    def fit(self, stills: Stills) -> HeadFit:
        """Heads of the portraits in which a face was seen, in the world of their true cameras."""
        rows = torch.from_numpy(np.flatnonzero(stills.seen))
        points = torch.from_numpy(stills.detected[stills.seen] / RESOLUTION).float()
        cameras = stills.camera[rows]
        parts = []
        for first in range(0, len(points), _CHUNK):
            some = slice(first, first + _CHUNK)
            parts.append(fit_eyes(self.head, fit_heads(self.head, points[some], cameras[some]), points[some]))
        params = HeadParams(**{field.name: torch.cat([getattr(part.params, field.name) for part in parts]) for field in fields(HeadParams)})
        return HeadFit(params, cameras, torch.cat([part.error for part in parts]))

    def _detect(self, image: Pixels) -> Array | None:
        faces = self._detector.detect(image)
        return faces[0].points if faces else None


def add_places(report: Report, head: LinearHeadModel, stills: Stills, fit: HeadFit) -> None:
    """Rotation and place of heads in camera coordinates, and how far their points are from the true ones in the picture."""
    truth = HeadFit(stills.params[torch.from_numpy(np.flatnonzero(stills.seen))], fit.camera, fit.error)
    true_turn, true_centre = _in_camera(head, truth)
    turn, centre = _in_camera(head, fit)
    report.add("faces_found_percent", 100 * float(stills.seen.mean()), note=f"of {len(stills.seen)} portraits")

    usual = _nearest_rotation(true_turn.mean(dim=0))
    constant = float(_angles(usual.expand_as(true_turn), true_turn).median())
    note = f"median of {len(turn)} portraits; always the mean rotation: {constant:.1f}"
    report.add("rotation_deg", float(_angles(turn, true_turn).median()), bar="<= 3", note=note)

    distance = true_centre.norm(dim=1)
    for name, axes, bar in (("lateral", [0, 1], 1.5), ("depth", [2], 4.0)):
        error = 100 * (centre - true_centre)[:, axes].norm(dim=1) / distance
        constant = float((100 * (true_centre - true_centre.mean(dim=0))[:, axes].norm(dim=1) / distance).median())
        note = f"median, of the distance from the camera; always the mean place: {constant:.2f}"
        report.add(f"centre_{name}_percent", float(error.median()), bar=f"<= {bar:g}", note=note)
    _add_reprojection(report, head, stills, fit)


def _add_reprojection(report: Report, head: LinearHeadModel, stills: Stills, fit: HeadFit) -> None:
    true = torch.from_numpy(stills.points[stills.seen] / RESOLUTION).float()
    detected = torch.from_numpy(stills.detected[stills.seen, :, :2] / RESOLUTION).float()
    fitted = in_picture(dense_embedding(head).place(head(fit.params).vertices), fit.camera)
    size = (true[:, _OUTER_CORNERS[0]] - true[:, _OUTER_CORNERS[1]]).norm(dim=1)

    def percent(first: Tensor, second: Tensor) -> float:
        return float((100 * (first - second).norm(dim=2).mean(dim=1) / size).median())

    own, above = percent(detected, true), percent(fitted, true)
    constant = percent(true.mean(dim=0, keepdim=True).expand_as(true), true)
    note = f"of the eyes' distance; fitted to true points {above:.2f}, detected to true ones {own:.2f}, always the mean {constant:.1f}"
    report.add("landmarks_above_detector_percent", above - own, bar="<= 1.5", note=note)
    report.add("landmarks_fitted_to_detected_percent", percent(fitted, detected), note="how well the heads explain what was detected")


def add_control(report: Report, name: str, found: Tensor, true: Tensor) -> None:
    """Rank correlation of a control [N] that was drawn evenly."""
    from scipy.stats import spearmanr

    note = f"{len(true)} portraits; a constant has 0; mean error {float((found - true).abs().mean()):.3f}, always the mean"
    note += f" {float((true - true.mean()).abs().mean()):.3f}"
    report.add(f"{name}_spearman", float(spearmanr(found, true).statistic), bar=">= 0.9", note=note)


def add_stills(report: Report, judge: Judge) -> None:
    """All rows of single portraits."""
    head = judge.head
    stills = judge.stills("test")
    fit = judge.fit(stills)
    add_places(report, head, stills, fit)
    add_gaze(report, head, stills, fit)
    add_looking_down(report, head, stills, fit)
    for name in ("gaze", "blink", "jaw", "smile"):
        stills = judge.stills(name)
        fit = judge.fit(stills)
        true = stills.params[torch.from_numpy(np.flatnonzero(stills.seen))]
        if name == "gaze":
            add_gaze(report, head, stills, fit, name="even_gaze")
        elif name == "blink":
            add_blinks(report, head, stills, fit)
        elif name == "jaw":
            add_control(report, name, fit.params.pose[:, Joint.JAW, 0], true.pose[:, Joint.JAW, 0])
        else:
            columns = [head.expression_index(f"mouthSmile{side}") for side in ("Left", "Right")]
            add_control(report, name, fit.params.expression[:, columns].mean(dim=1), true.expression[:, columns].mean(dim=1))


def _in_camera(head: LinearHeadModel, fit: HeadFit) -> tuple[Tensor, Tensor]:
    """Rotations [N, 3, 3] from heads' to cameras' axes, and the middle between the eyeballs [N, 3] in camera coordinates."""
    params = without_neck(head, fit.params)
    axes, position = _pose(fit.camera)
    turn = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL])
    centre = ((between_eyes(head, params) - position)[:, None] @ axes)[:, 0]
    return axes.transpose(1, 2) @ turn, centre


def _pose(camera: Camera) -> tuple[Tensor, Tensor]:
    return camera.cam2world[:, :3, :3], camera.cam2world[:, :3, 3]


def _angles(first: Tensor, second: Tensor) -> Tensor:
    """Degrees [N] between rotations [N, 3, 3]."""
    trace = (first * second).sum(dim=(1, 2))
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def _nearest_rotation(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix)
    return left @ torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(left @ right))])) @ right


def main() -> None:
    """Render, detect, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few portraits of each kind, one film")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--cache", type=Path, help="folder that keeps renderings and detections")
    parser.add_argument("--rows", choices=("all", "stills", "films", "real", "speed"), default="all", help="only these")
    parser.add_argument("--calibrate", action="store_true", help="measure and store the detector's habits, nothing else")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    report = Report("tracking")
    with open_pool(physical_cores()) as pool, open_detector() as detector, torch.no_grad():
        judge = Judge(detector, pool, options.cache, _QUICK if options.quick else None)
        if options.calibrate:
            save_noise(calibrate(judge.stills("fit_noise")))
            return
        if options.rows in ("all", "stills"):
            add_stills(report, judge)
    if options.rows in ("all", "films"):
        tracking_clips.run(report, options.cache, count=1 if options.quick else None)
    if options.rows in ("all", "real"):
        tracking_real.add_real(report)
    if options.rows in ("all", "speed"):
        with tracking_speed.work_folder(None) as folder:
            load = tracking_speed.QUICK if options.quick else tracking_speed.FULL
            tracking_speed.add_speed(report, load, folder, physical_cores())
    report.finish(options.json)


if __name__ == "__main__":
    main()
