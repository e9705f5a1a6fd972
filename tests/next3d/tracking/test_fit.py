"""Heads from points: known ones come back, whatever stands beside them in the batch, and bad points do little."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.flame import load_flame
from next3d.head.limits import limit_pose
from next3d.head.model import HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.render.cameras import PORTRAIT_FOCAL, PORTRAIT_RADIUS, portrait_intrinsics, project
from next3d.synthetic.sampling import sample_params
from next3d.tracking import fit as fit_module
from next3d.tracking.fit import FitSettings, first_guess, fit_heads, similarity
from next3d.tracking.noise import detector_noise, plain_noise
from next3d.tracking.points import landmarks_among_dense, point_model
from next3d.types import Camera
from tests.flame_files import fake_flame

COUNT = 3


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    loaded = load_head("procedural")
    assert isinstance(loaded, LinearHeadModel)
    return loaded


@pytest.fixture(scope="module")
def camera() -> Camera:
    label = torch.eye(4)
    label[1, 1] = label[2, 2] = -1
    label[2, 3] = PORTRAIT_RADIUS
    return Camera(label[None], portrait_intrinsics(1))


@pytest.fixture(scope="module")
def params(head) -> HeadParams:
    """People who turn up to 20 degrees, nearer and further than usual, whose necks are straight."""
    some = sample_params(head, torch.Generator().manual_seed(3), COUNT)
    pose = some.pose.clone()
    pose[:, Joint.NECK] = 0
    pose[:, Joint.GLOBAL] = torch.tensor([[0.1, 0.3, 0.1], [-0.15, -0.2, -0.2], [0.0, 0.05, 0.0]])
    moved = torch.tensor([[0.05, -0.03, 0.2], [0.0, 0.02, -0.2], [-0.04, 0.0, 0.0]])
    return replace(some, pose=limit_pose(pose), translation=moved)


def exact_points(head: LinearHeadModel, params: HeadParams, camera: Camera) -> Tensor:
    """What a detector without errors finds: [N, 478, 3] in unit coordinates."""
    cameras = camera.map(lambda tensor: tensor.expand(len(params.shape), *tensor.shape[1:]))
    shown = project(dense_embedding(head).place(head(params).vertices), cameras)
    middle = shown[..., 2].mean(dim=1, keepdim=True)
    return torch.cat([(shown[..., :2] + 1) / 2, (PORTRAIT_FOCAL * (shown[..., 2] - middle) / middle)[..., None]], dim=2)


@pytest.fixture(scope="module")
def points(head, params, camera) -> Tensor:
    return exact_points(head, params, camera)


@pytest.fixture
def without_habits(monkeypatch) -> None:
    monkeypatch.setattr(fit_module, "detector_noise", lambda head: plain_noise(point_model(head)))


def turned_degrees(first: HeadParams, second: HeadParams) -> Tensor:
    turns = [axis_angle_to_matrix(one.pose[:, Joint.GLOBAL]) for one in (first, second)]
    return torch.rad2deg(matrix_to_axis_angle(turns[0].transpose(1, 2) @ turns[1]).norm(dim=1))


@pytest.mark.usefixtures("without_habits")
def test_known_heads_come_back_from_exact_points(head, params, points, camera):
    fit = fit_heads(head, points, camera, FitSettings(steps=15))
    assert turned_degrees(fit.params, params).max() < 2
    assert fit.error.max() < 0.01
    between = (fit.params.pose[:, Joint.JAW, 0] - params.pose[:, Joint.JAW, 0]).abs()
    assert between.max() < 0.06
    eyes = head.topology.regions["left_eye"] | head.topology.regions["right_eye"]
    away = [head(one).vertices[:, eyes].mean(dim=1) - camera.cam2world[:, :3, 3] for one in (fit.params, params)]
    assert ((away[0] - away[1]).norm(dim=1) / away[1].norm(dim=1)).max() < 0.04


def test_habits_are_known(head, params, points, camera, monkeypatch, rng):
    """Points as the detector is used to err are nearer to the true ones after the fit than after one by a plain detector's noise."""
    noise, model = detector_noise(head), point_model(head)
    cameras = camera.map(lambda tensor: tensor.expand(COUNT, *tensor.shape[1:]))
    _, view = first_guess(model, points, cameras, torch.ones(COUNT, 478), 1)
    bias = torch.randn(COUNT, noise.factors.shape[2], generator=rng)
    seen = points + noise.expected(view.pose, bias) @ torch.linalg.inv(view.axes).transpose(1, 2)
    wrong = []
    for known in (noise, plain_noise(model)):
        monkeypatch.setattr(fit_module, "detector_noise", lambda head, known=known: known)
        found = exact_points(head, fit_heads(head, seen, camera).params, camera)
        wrong.append((found - points)[..., :2].norm(dim=2).mean())
    assert wrong[0] < 0.85 * wrong[1]


def test_results_do_not_depend_on_the_batch(head, points, camera):
    together = fit_heads(head, points, camera).params
    for index in range(COUNT):
        alone = fit_heads(head, points[index : index + 1], camera).params
        torch.testing.assert_close(alone.pose[0], together.pose[index], atol=2e-3, rtol=0)
        torch.testing.assert_close(alone.translation[0], together.translation[index], atol=2e-3, rtol=0)


def test_a_tenth_of_wild_points_changes_little(head, points, camera, rng):
    wild = torch.where(torch.rand(COUNT, 478, 1, generator=rng) < 0.1, torch.rand(points.shape, generator=rng), points)
    clean, disturbed = fit_heads(head, points, camera), fit_heads(head, wild, camera)
    assert turned_degrees(clean.params, disturbed.params).max() < 1.5
    assert (clean.params.translation - disturbed.params.translation).norm(dim=1).max() < 0.1


def test_points_without_trust_do_not_count(head, points, camera):
    """Even if they are not finite: a hidden cheek is as if the detector had never named it."""
    trust = torch.ones(COUNT, 478)
    trust[:, :60] = 0
    one, other = points.clone(), points.clone()
    one[:, :60], other[:, :60] = torch.nan, 0.7
    fits = [fit_heads(head, some, camera, trust=trust) for some in (one, other)]
    torch.testing.assert_close(fits[0].params.pose, fits[1].params.pose)
    assert turned_degrees(fits[0].params, fit_heads(head, points, camera).params).max() < 2


def test_limits_are_kept(head, points, camera):
    params = fit_heads(head, points, camera).params
    assert params.expression.min() >= 0
    assert params.expression.max() <= 1
    torch.testing.assert_close(params.pose[:, 1:], limit_pose(params.pose)[:, 1:])
    assert params.shape.abs().max() <= 3
    assert not params.pose[:, Joint.NECK].any()
    torch.testing.assert_close(params.scale, torch.ones(COUNT))


def test_people_share_a_shape(head, params, camera):
    """One shape for those with one number, whatever the numbers are; and several pictures tell it better than one."""
    same = replace(params, shape=params.shape[:1].expand(COUNT, -1))
    points = exact_points(head, same, camera)
    shared = fit_heads(head, points, camera, people=torch.tensor([7, 7, 7])).params.shape
    torch.testing.assert_close(shared[0], shared[2])
    alone = fit_heads(head, points, camera).params.shape
    assert (shared[0] - same.shape[0]).norm() < (alone - same.shape).norm(dim=1).mean()
    mixed = fit_heads(head, points, camera, people=torch.tensor([2, 0, 2])).params.shape
    torch.testing.assert_close(mixed[0], mixed[2])
    assert (mixed[0] - mixed[1]).norm() > 1e-3


def test_a_given_shape_is_kept(head, params, points, camera):
    kept = fit_heads(head, points, camera, shape=params.shape[:1]).params.shape
    torch.testing.assert_close(kept, params.shape[:1].expand(COUNT, -1))


def test_a_warm_start_stays(head, points, camera):
    """A few steps from a fit lead nowhere else."""
    cold = fit_heads(head, points, camera, FitSettings(steps=20))
    warm = fit_heads(head, points, camera, FitSettings(warm_steps=2), start=cold.params)
    assert turned_degrees(cold.params, warm.params).max() < 1
    assert (cold.error - warm.error).abs().max() < 3e-3


def test_the_world_is_the_cameras(head, points, camera):
    """A camera that stands elsewhere finds the head elsewhere, and the same picture of it."""
    turn = torch.eye(4)
    turn[:3, :3] = axis_angle_to_matrix(torch.tensor([[0.2, 0.7, -0.1]]))[0]
    turn[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    other = Camera(turn @ camera.cam2world, camera.intrinsics)
    first, second = fit_heads(head, points, camera), fit_heads(head, points, other)
    pictures = [project(head(fit.params).vertices, fit.camera) for fit in (first, second)]
    torch.testing.assert_close(pictures[0], pictures[1], atol=2e-3, rtol=0)


@pytest.mark.parametrize("count", [0, 1])
def test_few_heads(head, points, camera, count):
    fit = fit_heads(head, points[:count], camera)
    assert fit.params.shape.shape == (count, len(head.shape_names))
    assert fit.error.shape == (count,)


def test_flame_is_fitted_by_its_landmarks(camera, tmp_path):
    head = load_flame(fake_flame().write(tmp_path))
    model = point_model(head)
    pose = torch.zeros(1, len(Joint), 3)
    pose[:, Joint.GLOBAL, 1] = 0.2
    truth = replace(head.neutral(1), pose=pose)
    shown = project(head(truth).landmarks, camera)
    flat = torch.cat([(shown[..., :2] + 1) / 2, PORTRAIT_FOCAL * (shown[..., 2:] / shown[..., 2:].mean() - 1)], dim=2)  # [1, 68, 3]
    mixing = torch.zeros(68, 478).scatter_add(1, model.source, model.share)
    fit = fit_heads(head, torch.linalg.pinv(mixing) @ flat, camera)
    assert turned_degrees(fit.params, truth).max() < 5
    assert fit.params.shape.abs().max() < 3


def test_landmarks_are_means_of_points_nearby():
    source, share = landmarks_among_dense()
    assert source.shape == (68, 4)
    torch.testing.assert_close(share.sum(dim=1), torch.ones(68))
    corner = source[36][share[36].argmax()]
    assert corner == 33, "the outer corner of the right eye"


def test_similarities_come_back(rng):
    source = torch.randn(5, 20, 3, generator=rng)
    rotation = axis_angle_to_matrix(torch.randn(5, 3, generator=rng))
    size, shift = torch.rand(5, generator=rng) + 0.5, torch.randn(5, 3, generator=rng)
    target = size[:, None, None] * source @ rotation.transpose(1, 2) + shift[:, None]
    found = similarity(source, target, torch.rand(5, 20, generator=rng))
    for value, expected in zip(found, (rotation, size, shift), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4)


BAD = {
    "too few points": (lambda points: points[:, :68], {}, "expected \\[N, 478, 3\\]"),
    "not finite": (lambda points: points.index_fill(1, torch.tensor([5]), torch.nan), {}, "not finite"),
    "people": (lambda points: points, {"people": torch.zeros(2, dtype=torch.int64)}, "people"),
    "shape": (lambda points: points, {"shape": torch.zeros(1, 4)}, "shape"),
    "trust": (lambda points: points, {"trust": torch.ones(COUNT, 68)}, "trust"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(head, points, camera, name):
    change, options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        fit_heads(head, change(points), camera, **options)


def test_other_heads_are_refused(points, camera):
    with pytest.raises(TypeError, match="linear model"):
        fit_heads(torch.nn.Identity(), points, camera)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"steps": 0}, {"warm_steps": 0}, {"cut": 0.0}])
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match="fit:"):
        FitSettings(**options)
