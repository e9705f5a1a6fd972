"""Heads from detected points: shape, expression, jaw, eyes and place of a head model, by maximum a posteriori.

A detection is compared with what a detector with known habits would make of the head (residuals.py, noise.py), heads and motions with
what people are like (priors.py), and the most likely head is found by Levenberg-Marquardt steps (solver.py), after a first guess by
absolute orientation (Umeyama 1991). The neck stays straight: from a face alone, nobody sees whether neck or body turned it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.dense import DENSE_COUNT
from next3d.head.model import HeadModel, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix, matrix_to_axis_angle
from next3d.tracking.noise import detector_noise, pose_features, upright_angle
from next3d.tracking.points import ANGLES, OUTER_EYE_CORNERS, PointModel, point_model
from next3d.tracking.priors import head_prior
from next3d.tracking.residuals import HeadState, View, root_offset, seen
from next3d.tracking.solver import Problem, minimise
from next3d.tracking.types import HeadFit
from next3d.types import Camera

_LOOKS = 5
"""Rounds in which the first guess finds out which points to believe."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How heads are fitted."""

    steps: int = 10
    """Of Levenberg and Marquardt."""
    warm_steps: int = 4
    """The same where `start` is given."""
    cut: float = 4.0
    """Distances in standard deviations of a point from which it is believed little."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warm_steps < 1:
            raise ValueError(f"fit: steps={self.steps}, warm_steps={self.warm_steps}; need at least 1.")
        if not self.cut > 0:
            raise ValueError(f"fit: cut={self.cut}; need more than 0.")


DEFAULT_SETTINGS = FitSettings()


@torch.no_grad()
def fit_heads(
    head: HeadModel,
    points: Tensor,
    camera: Camera,
    settings: FitSettings = DEFAULT_SETTINGS,
    *,
    people: Tensor | None = None,
    shape: Tensor | None = None,
    start: HeadParams | None = None,
    trust: Tensor | None = None,
) -> HeadFit:
    """Fit heads to detected points.

    Args:
        head: the model; the fit runs on its device and in its precision.
        points: [N, 478, 3], unit coordinates of square crops with depths in the same unit (next3d.tracking.types).
        camera: N cameras of the crops, or one for all; where the heads are found in the cameras' world.
        settings: of the fit.
        people: [N] numbers; heads with equal ones share one shape. None: everybody has their own.
        shape: [N, S] or [1, S] to keep instead of fitting it.
        start: N heads to begin with, such as those of the frame before.
        trust: [N, 478] in [0, 1]; 0 for points that are not there.

    Returns:
        N heads with scale 1 and a straight neck, and the N cameras.

    Raises:
        TypeError: the head is no linear model.
        ValueError: shapes that disagree, or points that are not finite although they are trusted.
    """
    model = point_model(head)
    assert isinstance(head, LinearHeadModel)
    camera, points, trust = _inputs(model, points, camera, trust)
    if len(points) == 0:
        return HeadFit(head.neutral(0), camera, points.new_zeros(0))
    noise, prior = detector_noise(head), head_prior(head)
    guess, view = first_guess(model, points, camera, trust, noise.factors.shape[2])
    if start is not None:
        guess = state_of(model, start.map(lambda tensor: tensor.to(points)), camera, guess)
    if shape is not None:
        guess = replace(guess, shape=_rows(shape.to(points), len(points), (model.shapes,), "shape"))
    numbers = torch.arange(len(points), device=points.device) if people is None else _people(people, points)
    problem = Problem(model, view, noise, prior, numbers, int(numbers.max()) + 1, fixed_shape=shape is not None, cut=settings.cut)
    state = minimise(problem, _shared(problem, guess), settings.steps if start is None else settings.warm_steps)
    return HeadFit(params_of(model, state, camera), camera, reprojection_error(model, state, view, points, trust))


def _inputs(model: PointModel, points: Tensor, camera: Camera, trust: Tensor | None) -> tuple[Camera, Tensor, Tensor]:
    """Everything on the model's device and of N rows, points without what is not trusted."""
    if points.ndim != 3 or points.shape[1:] != (DENSE_COUNT, 3):
        raise ValueError(f"fit: points have shape {tuple(points.shape)}, expected [N, {DENSE_COUNT}, 3]")
    count, like = len(points), model.base
    points = points.to(like)
    camera = camera.map(lambda tensor: tensor.to(like))
    camera = Camera(_rows(camera.cam2world, count, (4, 4), "cam2world"), _rows(camera.intrinsics, count, (3, 3), "intrinsics"))
    trust = points.new_ones(count, DENSE_COUNT) if trust is None else _rows(trust.to(like), count, (DENSE_COUNT,), "trust")
    bad = ~points.isfinite().all(dim=2)
    if bool((bad & (trust > 0)).any()):
        raise ValueError("fit: points are not finite (NaN or infinite); leave out faces that were not found, or give such points no trust")
    return camera, torch.where(bad[..., None], torch.zeros_like(points), points), trust


def _rows(tensor: Tensor, count: int, shape: tuple[int, ...], name: str) -> Tensor:
    """[1 or N, ...] to [N, ...]."""
    if tensor.shape[1:] != shape or len(tensor) not in (1, count):
        raise ValueError(f"fit: {name} has shape {tuple(tensor.shape)}, expected [{count} or 1, {', '.join(map(str, shape))}]")
    return tensor.expand(count, *shape)


def _people(people: Tensor, points: Tensor) -> Tensor:
    if people.shape != (len(points),):
        raise ValueError(f"fit: people has shape {tuple(people.shape)}, expected [{len(points)}]")
    return people.to(points.device).unique(return_inverse=True)[1]


def _shared(problem: Problem, state: HeadState) -> HeadState:
    """One shape per person: the mean of what its heads begin with."""
    if problem.fixed_shape:
        return state
    total = state.shape.new_zeros(problem.persons, state.shape.shape[1] + 1)
    rows = torch.cat([state.shape, torch.ones_like(state.shape[:, :1])], dim=1)
    total = total.index_add(0, problem.people, rows)
    return replace(state, shape=(total[:, :-1] / total[:, -1:])[problem.people])


def first_guess(model: PointModel, points: Tensor, camera: Camera, trust: Tensor, habits: int) -> tuple[HeadState, View]:
    """The mean head, turned, moved and scaled to the detected points in three dimensions, and how pictures are looked at.

    Args:
        model: of the head.
        points: [N, 478, 3], finite.
        camera: N cameras.
        trust: [N, 478].
        habits: number of the detector's habits.
    """
    measured = model.measure(points)  # [N, K, 3]
    believed = model.measure(trust[..., None])[..., 0]
    believed = torch.where(believed > 0.999, believed, 0)
    weight = believed
    for _ in range(_LOOKS):
        rotation, size, shift = similarity(model.base, measured, weight)
        gap = (size[:, None, None] * (model.base @ rotation.transpose(1, 2)) + shift[:, None] - measured)[..., :2].norm(dim=2)
        usual = gap.median(dim=1, keepdim=True).values.clamp_min(1e-6)
        weight = believed / (1 + (gap / (3 * usual)) ** 2) ** 2
    focal = torch.linalg.det(camera.intrinsics[:, :2, :2]).abs().sqrt()
    rays = torch.linalg.inv(camera.intrinsics) @ torch.cat([shift[:, :2], torch.ones_like(shift[:, :1])], dim=1)[..., None]
    centre = rays[..., 0] * (focal / size)[:, None]
    upright = axis_angle_to_matrix(upright_angle(rotation)[:, None] * rotation.new_tensor([0.0, 0.0, -1.0]))
    axes = upright / size[:, None, None]
    view = View(camera.intrinsics, shift[:, :2], axes, pose_features(rotation), measured, believed)
    target = view.measured(measured[..., :2], measured[..., 2] - shift[:, None, 2])
    new = points.new_zeros
    count = len(points)
    state = HeadState(rotation, centre, new(count, model.expressions + ANGLES), new(count, habits), new(count, model.shapes))
    return state, replace(view, target=target)


def similarity(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The similarity that takes points nearest to others, by least squares (Umeyama 1991, Eq. 40-42).

    Args:
        source: [K, 3] or [N, K, 3].
        target: [N, K, 3].
        weight: [N, K], not negative.

    Returns:
        Rotations [N, 3, 3], sizes [N] and shifts [N, 3]: target = size * rotation @ source + shift.
    """
    share = (weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12))[..., None]
    source = source.expand_as(target)
    middle, aim = (share * source).sum(dim=1), (share * target).sum(dim=1)
    away, wanted = source - middle[:, None], target - aim[:, None]
    left, values, right = torch.linalg.svd((share * wanted).transpose(1, 2) @ away)
    sign = torch.ones_like(values)
    sign[:, 2] = torch.linalg.det(left @ right).sign()
    rotation = left @ torch.diag_embed(sign) @ right
    size = (values * sign).sum(dim=1) / (share * away * away).sum(dim=(1, 2)).clamp_min(1e-12)
    return rotation, size, aim - size[:, None] * (rotation @ middle[..., None])[..., 0]


def state_of(model: PointModel, params: HeadParams, camera: Camera, like: HeadState) -> HeadState:
    """Parameters as a state to begin with. Habits are those of `like`, and so are places where necks bend: a state has none."""
    angles = params.pose[:, [Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE], :2].flatten(1)
    state = replace(like, motion=torch.cat([params.expression, angles], dim=1), shape=params.shape)
    whole, root = axis_angle_to_matrix(params.pose[:, Joint.GLOBAL]), root_offset(model, state)
    placed = (whole @ (model.anchor - root)[..., None])[..., 0] + root + params.translation
    to_camera = camera.cam2world[:, :3, :3].transpose(1, 2)
    centre = (to_camera @ (placed - camera.cam2world[:, :3, 3])[..., None])[..., 0]
    straight = (params.pose[:, Joint.NECK] == 0).all(dim=1)
    rotation = torch.where(straight[:, None, None], to_camera @ whole, like.rotation)
    return replace(state, rotation=rotation, centre=torch.where(straight[:, None], centre, like.centre))


def params_of(model: PointModel, state: HeadState, camera: Camera) -> HeadParams:
    """A state as parameters in the cameras' world."""
    whole = camera.cam2world[:, :3, :3] @ state.rotation
    root = root_offset(model, state)
    placed = (camera.cam2world[:, :3, :3] @ state.centre[..., None])[..., 0] + camera.cam2world[:, :3, 3]
    pose = state.motion.new_zeros(len(whole), len(Joint), 3)
    pose[:, Joint.GLOBAL] = matrix_to_axis_angle(whole)
    pose[:, [Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE]] = state.angles
    translation = placed - root - (whole @ (model.anchor - root)[..., None])[..., 0]
    return HeadParams(state.shape, state.motion[:, :-ANGLES], pose, translation, translation.new_ones(len(whole)))


def reprojection_error(model: PointModel, state: HeadState, view: View, points: Tensor, trust: Tensor) -> Tensor:
    """[N]: mean distance of the fitted from the detected points, in parts of that of the outer eye corners."""
    gap = (seen(model, state, view)[0] - model.measure(points)[..., :2]).norm(dim=2)
    believed = model.measure(trust[..., None])[..., 0]
    eyes = (points[:, OUTER_EYE_CORNERS[0], :2] - points[:, OUTER_EYE_CORNERS[1], :2]).norm(dim=1)
    return (gap * believed).sum(dim=1) / believed.sum(dim=1).clamp_min(1e-6) / eyes.clamp_min(1e-6)
