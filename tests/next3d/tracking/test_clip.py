"""Heads in films: smooth motions are found, noise falls, blinks and jaws keep up, gaps are bridged, windows do not show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.flame import load_flame
from next3d.head.model import HeadParams, Joint, LinearHeadModel
from next3d.render.cameras import PORTRAIT_FOCAL, PORTRAIT_RADIUS, orbit_camera, project
from next3d.tracking.align import crop_frame
from next3d.tracking.clip import ClipSettings, fit_clip
from next3d.tracking.eyes import fit_eyes
from next3d.tracking.face_mesh import open_detector
from next3d.tracking.fit import fit_heads
from next3d.tracking.noise import plain_noise
from next3d.tracking.points import point_model
from next3d.tracking.smooth import smooth_frames
from next3d.tracking.types import HeadFit, Pixels
from next3d.types import Camera
from tests.flame_files import fake_flame

FPS = 25.0
COUNT = 60
BLINK = 30
NOISE = 0.002
"""Unit coordinates: about a hundredth of the distance of the eye corners."""


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    loaded = load_head("procedural")
    assert isinstance(loaded, LinearHeadModel)
    return loaded


@pytest.fixture(autouse=True)
def _a_detector_without_habits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of these tests are true ones with noise; those of a real detector have habits, which a real fit minds."""
    for module in ("fit", "clip"):
        monkeypatch.setattr(f"next3d.tracking.{module}.detector_noise", lambda head: plain_noise(point_model(head)))


def person_in_motion(head: LinearHeadModel, count: int = COUNT) -> HeadParams:
    """Nods, turns, opens the mouth three times in two seconds, and shuts the eyes around frame 30 for four frames."""
    time = torch.arange(count) / FPS
    params = head.neutral(count)
    shape = 0.7 * torch.randn(1, params.shape.shape[1], generator=torch.Generator().manual_seed(3))
    pose, expression = params.pose.clone(), params.expression.clone()
    pose[:, Joint.GLOBAL, 0] = 0.1 * torch.sin(2 * torch.pi * 0.7 * time)
    pose[:, Joint.GLOBAL, 1] = 0.3 * torch.sin(2 * torch.pi * 0.5 * time)
    pose[:, Joint.JAW, 0] = 0.14 - 0.1 * torch.cos(3 * torch.pi * time)
    frames = torch.arange(count)
    shut = (1.5 - (frames - BLINK - 0.5).abs() * 0.5).clamp(0, 1)
    for side in ("Left", "Right"):
        expression[:, head.expression_index(f"eyeBlink{side}")] = shut
    translation = params.translation + torch.stack([0.05 * torch.sin(time), 0 * time, 0.1 * time / 2], dim=1)
    return HeadParams(shape.expand(count, -1), expression, pose, translation, params.scale)


def detected(head: LinearHeadModel, params: HeadParams, noise: float, seed: int = 0) -> Tensor:
    """Points [T, 478, 3], unit coordinates, as a faultless detector with noise sees them."""
    shown = project(dense_embedding(head).place(head(params).vertices), camera(len(params.scale)))
    depth = PORTRAIT_FOCAL * (shown[..., 2:] - PORTRAIT_RADIUS) / PORTRAIT_RADIUS
    points = torch.cat([(shown[..., :2] + 1) / 2, depth], dim=2)
    return points + noise * torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))


def camera(count: int) -> Camera:
    return orbit_camera(torch.zeros(count), torch.zeros(count))


def track(head: LinearHeadModel, points: Tensor, seen: Tensor | None = None, settings: ClipSettings | None = None) -> HeadFit:
    seen = torch.ones(len(points), dtype=torch.bool) if seen is None else seen
    return fit_clip(head, points, seen, camera(len(points)), FPS, settings or ClipSettings())


def jitter(values: Tensor, true: Tensor) -> float:
    """Root mean square second difference of what values have beyond others."""
    return float((values - true).diff(n=2, dim=0).square().mean().sqrt())


@pytest.fixture(scope="module")
def motion(head: LinearHeadModel) -> HeadParams:
    return person_in_motion(head)


def test_a_smooth_motion_is_found(head: LinearHeadModel, motion: HeadParams) -> None:
    fit = track(head, detected(head, motion, 0.0))
    gap = head(fit.params).landmarks - head(motion).landmarks
    assert float(gap.norm(dim=2)[:, 17:].median()) < 0.012  # half a centimetre, most of it depth
    turn = (fit.params.pose[:, Joint.GLOBAL] - motion.pose[:, Joint.GLOBAL]).norm(dim=1)
    assert float(turn.max()) < 0.04
    assert bool((fit.params.shape == fit.params.shape[:1]).all())
    assert bool(fit.error.isfinite().all())


def test_noise_falls_and_the_jaw_keeps_up(head: LinearHeadModel, motion: HeadParams) -> None:
    """Beside single frames fitted with the same shape: half of what noise does (0.6 for the quick jaw), the whole way, no lag."""
    points, clean = detected(head, motion, NOISE), detected(head, motion, 0.0)
    film, still = track(head, points).params, track(head, clean).params
    alone, quiet = (fit_heads(head, one, camera(COUNT), shape=still.shape[:1]).params for one in (points, clean))
    for joint, part in ((Joint.GLOBAL, 0.5), (Joint.JAW, 0.6)):
        assert jitter(film.pose[:, joint], still.pose[:, joint]) < part * jitter(alone.pose[:, joint], quiet.pose[:, joint]), joint
    assert jitter(film.translation, still.translation) < 0.5 * jitter(alone.translation, quiet.translation)
    assert jitter(film.expression, still.expression) < 0.5 * jitter(alone.expression, quiet.expression)
    jaw, wide = film.pose[5:-5, Joint.JAW, 0], alone.pose[5:-5, Joint.JAW, 0]
    assert float(jaw.max() - jaw.min()) > 0.85 * float(wide.max() - wide.min())
    late = [float((film.pose[5 + step : COUNT - 5 + step, Joint.JAW, 0] * (wide - wide.mean())).sum()) for step in range(-3, 4)]
    assert int(np.argmax(late)) == 3


def test_a_short_blink_stays(head: LinearHeadModel, motion: HeadParams) -> None:
    """Four frames of shut eyes: at least four fifths of what single frames see."""
    points = detected(head, motion, NOISE)
    film = track(head, points).params
    alone = fit_eyes(head, fit_heads(head, points, camera(COUNT), shape=film.shape[:1]), points).params
    for side in ("Left", "Right"):
        column = head.expression_index(f"eyeBlink{side}")
        ours, single = film.expression[:, column], alone.expression[:, column]
        assert abs(int(ours.argmax()) - BLINK) <= 1
        assert float(ours.max() - ours.median()) > 0.8 * float(single.max() - single.median())
        still = torch.cat([torch.arange(BLINK - 8), torch.arange(BLINK + 9, COUNT)])
        assert float(ours[still].std()) < float(single[still].std()) + 1e-3


def test_gaps_are_bridged_and_marked(head: LinearHeadModel, motion: HeadParams) -> None:
    points = detected(head, motion, 0.0)
    seen = torch.ones(COUNT, dtype=torch.bool)
    seen[:3], seen[20:26], seen[-2:] = False, False, False
    points[~seen] = torch.nan
    fit = track(head, points, seen)
    assert bool((fit.error.isfinite() == seen).all())
    turn = (fit.params.pose[:, Joint.GLOBAL] - motion.pose[:, Joint.GLOBAL]).norm(dim=1)
    assert float(turn[3:-2].max()) < 0.05
    for name in ("pose", "expression", "translation"):
        value = getattr(fit.params, name)
        assert bool(value.isfinite().all())
        assert bool((value[:3] == value[3]).all())
        assert bool((value[-2:] == value[-3]).all())


def test_a_long_gap_divides(head: LinearHeadModel, motion: HeadParams) -> None:
    """Nothing is made up for seconds: the head keeps the nearest pose that was seen."""
    points = detected(head, motion, 0.0)
    seen = torch.ones(COUNT, dtype=torch.bool)
    seen[10:50] = False
    fit = track(head, points, seen)
    np.testing.assert_array_equal(fit.params.pose[15].numpy(), fit.params.pose[9].numpy())
    np.testing.assert_array_equal(fit.params.pose[45].numpy(), fit.params.pose[50].numpy())


def test_windows_do_not_show(head: LinearHeadModel, motion: HeadParams) -> None:
    """Solved in three windows or in one: the same to a hundredth of a degree."""
    points = detected(head, motion, NOISE)
    whole, parts = track(head, points).params, track(head, points, settings=ClipSettings(window=20, overlap=1.0)).params
    assert float((whole.pose - parts.pose).abs().max()) < 2e-3
    assert float((whole.expression - parts.expression).abs().max()) < 2e-2
    assert float((whole.translation - parts.translation).abs().max()) < 2e-3


def test_one_frame_is_a_photo(head: LinearHeadModel, motion: HeadParams) -> None:
    points = detected(head, motion, NOISE)[:3]
    photo = fit_eyes(head, fit_heads(head, points[1:2], camera(1)), points[1:2])
    alone = track(head, points[1:2])
    among = track(head, points, torch.tensor([False, True, False]))
    for name in ("shape", "expression", "pose", "translation"):
        np.testing.assert_array_equal(getattr(alone.params, name).numpy(), getattr(photo.params, name).numpy())
        np.testing.assert_allclose(getattr(among.params, name)[2].numpy(), getattr(photo.params, name)[0].numpy(), atol=1e-6)
    assert bool(among.error[[0, 2]].isnan().all())


@pytest.mark.parametrize("count", [2, 3])
def test_very_short_clips(head: LinearHeadModel, motion: HeadParams, count: int) -> None:
    fit = track(head, detected(head, motion, 0.0)[:count])
    assert float((fit.params.pose[:, Joint.GLOBAL] - motion.pose[:count, Joint.GLOBAL]).norm(dim=1).max()) < 0.06


def test_uneven_times(head: LinearHeadModel, motion: HeadParams) -> None:
    """A film of which every third frame is missing: with its times, the fit is that of the whole film, where both have frames."""
    keep = torch.tensor([index for index in range(COUNT) if index % 3 != 1])
    points = detected(head, motion, NOISE)
    whole = track(head, points).params
    some = fit_clip(
        head, points[keep], torch.ones(len(keep), dtype=torch.bool), camera(len(keep)), FPS, times=keep.double().numpy() / FPS
    ).params
    assert float((some.pose[:, Joint.GLOBAL] - whole.pose[keep, Joint.GLOBAL]).norm(dim=1).median()) < 0.01


def test_same_bytes_every_time(head: LinearHeadModel, motion: HeadParams) -> None:
    points = detected(head, motion, NOISE)[:12]
    first, second = track(head, points), track(head, points.clone())
    for name in ("shape", "expression", "pose", "translation"):
        assert getattr(first.params, name).equal(getattr(second.params, name))


def test_no_face_in_any_frame_is_an_error(head: LinearHeadModel) -> None:
    with pytest.raises(ValueError, match="no frame shows a face"):
        track(head, torch.full((3, 478, 3), torch.nan), torch.zeros(3, dtype=torch.bool))


def test_a_known_shape_is_kept(head: LinearHeadModel, motion: HeadParams) -> None:
    points = detected(head, motion, 0.0)[:8]
    fit = fit_clip(head, points, torch.ones(8, dtype=torch.bool), camera(8), FPS, shape=motion.shape[0])
    assert fit.params.shape.equal(motion.shape[:8])
    replaced = replace(fit.params, expression=motion.expression[:8])
    assert float((head(replaced).landmarks - head(motion[:8]).landmarks).norm(dim=2).median()) < 0.02


def test_other_heads_in_films(head: LinearHeadModel, motion: HeadParams, tmp_path: Path) -> None:
    """A model in FLAME's format, which has no named expressions: it turns as the true head does, without its noise."""
    flame = load_flame(fake_flame().write(tmp_path / "flame"))
    points = detected(head, motion[:30], NOISE)
    film = fit_clip(flame, points, torch.ones(30, dtype=torch.bool), camera(30), FPS).params
    alone = fit_heads(flame, points, camera(30), shape=film.shape[:1]).params
    turn, single = film.pose[:, Joint.GLOBAL], alone.pose[:, Joint.GLOBAL]
    assert bool(film.expression.isfinite().all())
    assert float(turn.diff(n=2, dim=0).square().mean()) < 0.25 * float(single.diff(n=2, dim=0).square().mean())
    assert float(torch.corrcoef(torch.stack([turn[:, 1], motion.pose[:30, Joint.GLOBAL, 1]]))[0, 1]) > 0.98


def test_a_photo_under_a_shaking_camera_stays_still(head: LinearHeadModel) -> None:
    """Real pixels: the head moves with the picture, and the crop less than that."""
    pytest.importorskip("mediapipe")
    photo, rng = Image.fromarray(astronaut_pixels()), np.random.default_rng(0)
    time = np.arange(16) / FPS
    corners = np.stack([60 + 6 * np.sin(2 * np.pi * 1.7 * time), 10 + 4 * np.sin(2 * np.pi * 2.3 * time + 1)], axis=1)
    points = []
    with open_detector() as detector:
        for left, top in corners:
            shown = np.asarray(photo.transform((300, 300), Image.Transform.AFFINE, (1, 0, left, 0, 1, top), Image.Resampling.BICUBIC))
            face = detector.follow((shown + 4.0 * rng.standard_normal(shown.shape)).clip(0, 255).astype(np.uint8))
            assert face is not None
            points.append(face.points)
    frames = smooth_frames([crop_frame(face) for face in points], FPS)
    unit = torch.from_numpy(np.stack([frame.to_unit(face) for frame, face in zip(frames, points, strict=True)])).float()
    fit = track(head, unit)
    shown_heads = (project(head(fit.params).landmarks, fit.camera)[..., :2] + 1) / 2
    placed = [frame.to_photo(one) + corner for frame, one, corner in zip(frames, shown_heads.double().numpy(), corners, strict=True)]
    eyes = np.linalg.norm(placed[0][36] - placed[0][45])
    assert float(np.std(placed, axis=0)[17:].max()) < 0.01 * eyes
    assert float(np.diff([frame.left for frame in frames], 2).std()) < 0.8 * float(np.diff(corners[:, 0], 2).std())


def astronaut_pixels() -> Pixels:
    from skimage.data import astronaut

    pixels: Pixels = astronaut()
    return pixels
