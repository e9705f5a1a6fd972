"""Tracking is judged by what it says it is: the truth has no error, and a detector's habits are found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.report import Report
from bench.tracking import add_places
from bench.tracking_data import CAMERAS, RESOLUTION, Stills
from bench.tracking_eyes import add_blinks, add_gaze, add_looking_down, measure_irises
from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.synthetic.sampling import sample_camera, sample_params
from next3d.tracking.eyeballs import EYES, eye_pair, in_picture
from next3d.tracking.gaze import IRIS_POINTS
from next3d.tracking.types import HeadFit


@pytest.fixture(scope="module")
def known():
    """A head model, portraits without pictures of which a perfect detector saw all but the last, and the true heads of those."""
    head, count = load_head("procedural"), 6
    rng = torch.Generator().manual_seed(4)
    params, camera = sample_params(head, rng, count), sample_camera(rng, count, CAMERAS)
    points = in_picture(dense_embedding(head).place(head(params).vertices), camera).double().numpy() * RESOLUTION
    detected = np.concatenate([points, np.zeros((count, 478, 1))], axis=2)
    detected[-1] = np.nan
    stills = Stills(np.zeros((count, 1, 1, 3), np.uint8), params, camera, points, np.zeros(count), detected)
    return head, stills, HeadFit(params[: count - 1], camera[: count - 1], torch.zeros(count - 1))


def test_the_truth_has_no_error(known):
    head, stills, fit = known
    report = Report("test")
    add_places(report, head, stills, fit)
    add_gaze(report, head, stills, fit)
    add_blinks(report, head, stills, fit)
    add_looking_down(report, head, stills, fit)
    value = {figure.name: figure.value for figure in report.figures}
    assert value["faces_found_percent"] == pytest.approx(100 * 5 / 6)
    assert value["blink_spearman"] == pytest.approx(1)
    for name in ("rotation_deg", "centre_lateral_percent", "centre_depth_percent", "gaze_head_deg", "gaze_camera_deg", "blink_error"):
        assert value[name] == pytest.approx(0, abs=0.05), name


def test_how_a_detector_reads_irises_is_measured(known):
    head, stills, fit = known
    eyes = eye_pair(head, fit)
    middle = in_picture(eyes.corners, fit.camera).mean(dim=2)
    shown = in_picture(eyes.look(fit.params.pose[:, list(EYES), :2]), fit.camera)
    points = torch.from_numpy(stills.detected[stills.seen] / RESOLUTION).float()
    for eye, numbers in enumerate(IRIS_POINTS):
        points[:, list(numbers), :2] = middle[:, eye, None] + 0.7 * (shown[:, eye] - middle[:, eye, None])
    reading, left = measure_irises(head, fit, points)
    assert reading.gain_along == pytest.approx(0.7, abs=1e-3)
    assert reading.gain_across == pytest.approx(0.7, abs=1e-3)
    assert left.max() < 1e-3
