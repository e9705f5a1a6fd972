"""What is measured on a face, and what is rejected for it. The portrait is scikit-image's astronaut, degraded on purpose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from next3d.head import load_head
from next3d.head.model import Joint, axis_angle_to_matrix, matrix_to_axis_angle, yaw_in_view
from next3d.render.cameras import orbit_camera
from next3d.tracking import quality
from next3d.tracking.align import crop_frame
from next3d.tracking.face_mesh import Detector, open_detector
from next3d.tracking.fit import fit_heads
from next3d.tracking.quality import Quality, QualityLimits, judge, no_face, sharpness, view_angles
from next3d.tracking.types import CropFrame, Face, HeadFit, Pixels

LIMITS = QualityLimits()


@pytest.fixture(scope="module")
def portrait() -> Pixels:
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[:300, 80:380])


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    pytest.importorskip("mediapipe")
    with open_detector() as opened:
        yield opened


def verdict(detector: Detector, photo: Pixels) -> Quality:
    """As the pipeline judges the largest face of a photo."""
    faces = detector.detect(photo)
    if not faces:
        return no_face()
    face = max(faces, key=lambda found: float(np.ptp(found.points[:, 0])))
    frame = crop_frame(face.points)
    points = torch.from_numpy(frame.to_unit(face.points)[None]).float()
    fit = fit_heads(load_head("procedural"), points, orbit_camera(torch.zeros(1), torch.zeros(1)))
    return judge(photo, face, frame, fit)


def resized(photo: Pixels, factor: float) -> Pixels:
    image = Image.fromarray(photo)
    return np.asarray(image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC))


def blurred(photo: Pixels, sigma: float) -> Pixels:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(photo: Pixels, deviation: float) -> Pixels:
    return (photo + np.random.default_rng(0).normal(0, deviation, photo.shape)).clip(0, 255).astype(np.uint8)


def covered(photo: Pixels) -> Pixels:
    """Something dark in front of the lower face."""
    changed = photo.copy()
    changed[120:185, 105:185] = 30
    return changed


DEGRADED: dict[str, tuple[Callable[[Pixels], Pixels], set[str]]] = {
    "blurred": (lambda photo: blurred(photo, 3), {quality.TOO_BLURRED}),
    "blurred and noisy": (lambda photo: noisy(blurred(photo, 4), 6), {quality.TOO_BLURRED}),
    "tiny": (lambda photo: resized(photo, 0.5), {quality.TOO_SMALL}),
    "enlarged from tiny": (lambda photo: resized(resized(photo, 0.2), 5), {quality.TOO_BLURRED, quality.NO_FACE}),
    "on its side": (lambda photo: np.ascontiguousarray(np.rot90(photo)), {quality.EXTREME_POSE}),
    "cut at the eyes": (lambda photo: photo[100:], {quality.PARTLY_OUTSIDE}),
    "dark": (lambda photo: photo // 16, {quality.TOO_DARK, quality.NO_FACE}),
    "without a face": (lambda photo: photo[:, :60], {quality.NO_FACE}),
}


def test_a_good_portrait_passes(detector: Detector, portrait: Pixels) -> None:
    found = verdict(detector, portrait)
    assert found.accepted
    assert found.score > 0.1  # its crop has 150 pixels for 512
    assert found.measures is not None
    assert abs(found.measures.yaw) < 0.3
    assert found.measures.sharpness > 4 * LIMITS.least_sharpness


@pytest.mark.parametrize("case", DEGRADED)
def test_what_is_spoilt_is_rejected_for_it(case: str, detector: Detector, portrait: Pixels) -> None:
    spoil, expected = DEGRADED[case]
    found = verdict(detector, spoil(portrait))
    assert expected & set(found.reasons), found
    assert found.score == 0


def test_what_is_covered_makes_looks_disagree(detector: Detector, portrait: Pixels) -> None:
    """A dark thing over mouth and chin at least doubles the spread and lowers the score."""
    plain, hidden = verdict(detector, portrait), verdict(detector, covered(portrait))
    assert plain.measures is not None
    assert hidden.measures is not None
    assert plain.measures.spread is not None
    assert hidden.measures.spread is not None
    assert hidden.measures.spread > 2 * plain.measures.spread
    assert hidden.score < 0.5 * plain.score


def test_sharpness_falls_with_blur_and_does_not_see_contrast_or_noise(portrait: Pixels) -> None:
    grey = portrait[60:180, 100:200].mean(axis=2).astype(np.float32) / 255
    picture = (grey * 255).astype(np.uint8)
    series = [sharpness(blurred(picture, sigma).astype(np.float32) / 255) for sigma in (0.1, 0.7, 1.5, 3.0, 6.0)]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(series)), series
    plain = sharpness(grey)
    assert sharpness(0.4 * grey + 0.3) == pytest.approx(plain, rel=1e-3)
    noise = np.random.default_rng(0).normal(0, 0.03, grey.shape).astype(np.float32)
    assert sharpness(grey + noise) == pytest.approx(plain, rel=0.25)
    assert sharpness(np.full((64, 64), 0.5, dtype=np.float32)) == 0


def turned_fit(yaw: float, pitch: float, roll: float, *, by_camera: bool) -> HeadFit:
    """A head whose global rotation, or whose camera, makes it look turned; the turn is about z, then x, then y."""
    axes = torch.eye(3)
    turn = axis_angle_to_matrix(yaw * axes[1]) @ axis_angle_to_matrix(pitch * axes[0]) @ axis_angle_to_matrix(roll * axes[2])
    camera = orbit_camera(torch.zeros(1), torch.zeros(1))
    params = load_head("procedural").neutral(1)
    if by_camera:
        cam2world = camera.cam2world.clone()
        cam2world[0, :3, :3] = turn.T @ cam2world[0, :3, :3]
        return HeadFit(params, replace(camera, cam2world=cam2world), torch.zeros(1))
    pose = params.pose.clone()
    pose[:, Joint.GLOBAL] = matrix_to_axis_angle(turn[None])
    return HeadFit(replace(params, pose=pose), camera, torch.zeros(1))


@pytest.mark.parametrize("by_camera", [False, True], ids=["head turns", "camera moves"])
def test_angles_are_those_seen_by_the_camera(by_camera: bool) -> None:
    """Whether head or camera moved; signs agree with the head model's own yaw, with looking down, and with the picture's turn."""
    for angles in ((0.5, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, -0.4), (-0.7, 0.2, 0.3)):
        fit = turned_fit(*angles, by_camera=by_camera)
        torch.testing.assert_close(view_angles(fit)[0], torch.tensor(angles), atol=1e-5, rtol=0)
    fit = turned_fit(0.5, 0.0, 0.0, by_camera=by_camera)
    torch.testing.assert_close(view_angles(fit)[:, 0], yaw_in_view(fit.params.pose, fit.camera))


def flat_face() -> Face:
    points = np.random.default_rng(0).uniform(40, 60, (478, 3)) * (1, 1, 0)
    points[33], points[263] = (35, 50, 0), (65, 50, 0)
    return Face(points)


def test_a_crop_beyond_the_photo_counts_its_missing_part() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    fit = turned_fit(0, 0, 0, by_camera=False)
    for frame, outside in ((CropFrame(0, 0, 100), 0.0), (CropFrame(-50, 0, 100), 0.5), (CropFrame(-50, -50, 200), 0.75)):
        measures = judge(photo, flat_face(), frame, fit).measures
        assert measures is not None
        assert measures.outside == pytest.approx(outside)
        assert measures.face_outside == 0


def test_fits_that_are_not_finite_are_rejected() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    fit = replace(turned_fit(0, 0, 0, by_camera=False), error=torch.tensor([math.nan]))
    assert quality.POOR_FIT in judge(photo, flat_face(), CropFrame(0, 0, 100), fit).reasons
