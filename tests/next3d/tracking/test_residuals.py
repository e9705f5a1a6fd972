"""Points of a head during a fit: where the head model puts them, and how they move with every unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.flame import load_flame
from next3d.head.model import Joint, LinearHeadModel
from next3d.render.cameras import portrait_intrinsics
from next3d.tracking.noise import DetectorNoise, plain_noise
from next3d.tracking.points import ANGLES, PointModel, point_model
from next3d.tracking.residuals import HeadState, View, moved, place, predict, predict_with_slopes
from tests.flame_files import fake_flame


@pytest.fixture(scope="module", params=["procedural", "flame"])
def head(request, tmp_path_factory) -> LinearHeadModel:
    if request.param == "procedural":
        loaded = load_head("procedural")
        assert isinstance(loaded, LinearHeadModel)
        return loaded
    return load_flame(fake_flame().write(tmp_path_factory.mktemp("flame")))


def double(model: PointModel) -> PointModel:
    return model.to(torch.device("cpu"), torch.float64)


def random_state(model: PointModel, count: int, rng: torch.Generator) -> HeadState:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)).expand(count, 3, 3)
    state = HeadState(
        rotation=upright,
        centre=torch.tensor([[0.1, -0.05, 2.6]], dtype=torch.float64).expand(count, 3),
        motion=torch.cat([0.3 * draw(count, model.expressions), 0.15 * draw(count, ANGLES)], dim=1),
        bias=draw(count, 1),
        shape=draw(count, model.shapes),
    )
    turn = torch.cat([0.3 * draw(count, 3), torch.zeros(count, model.expressions + ANGLES + 1 + model.shapes + 3)], dim=1)
    return moved(state, turn)


def random_view(model: PointModel, count: int, rng: torch.Generator) -> View:
    points = len(model.base)
    return View(
        intrinsics=portrait_intrinsics(count).double(),
        origin=torch.full((count, 2), 0.5, dtype=torch.float64),
        axes=torch.randn(count, 3, 3, generator=rng, dtype=torch.float64),
        pose=torch.randn(count, 5, generator=rng, dtype=torch.float64),
        target=torch.zeros(count, points, 3, dtype=torch.float64),
        trust=torch.ones(count, points, dtype=torch.float64),
    )


def habits(model: PointModel, rng: torch.Generator) -> DetectorNoise:
    plain = plain_noise(model)
    return replace(plain, slopes=0.01 * torch.randn(plain.slopes.shape, generator=rng, dtype=torch.float64))


def test_points_are_where_the_head_model_has_them(head, rng):
    """With jaw and eyes turned, and correctives at work: what the skinned mesh says, to rounding."""
    model = point_model(head)
    state = random_state(double(model), 2, rng).map(lambda tensor: tensor.float())
    pose = torch.zeros(2, len(Joint), 3)
    pose[:, [Joint.JAW, Joint.LEFT_EYE, Joint.RIGHT_EYE]] = state.angles
    params = replace(head.neutral(2), shape=state.shape, expression=state.motion[:, :-ANGLES], pose=pose)
    mesh = head(params)
    expected = dense_embedding(head).place(mesh.vertices) if len(model.base) == 478 else mesh.landmarks
    torch.testing.assert_close(place(model, state) + model.anchor, expected, atol=2e-5, rtol=0)


def test_slopes_are_those_of_finite_differences(head, rng):
    """Every column, at a head that is turned, shaped and moved in every way."""
    model = double(point_model(head))
    state, view, noise = random_state(model, 1, rng), random_view(model, 1, rng), habits(model, rng)
    expected, slopes = predict_with_slopes(model, state, view, noise)
    torch.testing.assert_close(expected, predict(model, state, view, noise))
    step = 1e-5
    columns = torch.randperm(slopes.shape[-1], generator=rng)[:40].tolist()
    for column in {*range(6), *range(6 + model.expressions, 6 + model.expressions + ANGLES + 1), *columns}:
        way = torch.zeros(1, slopes.shape[-1], dtype=torch.float64)
        way[0, column] = step
        ahead, behind = (predict(model, moved(state, sign * way), view, noise) for sign in (1, -1))
        numeric = (ahead - behind) / (2 * step)
        torch.testing.assert_close(slopes[..., column], numeric, atol=1e-6, rtol=1e-6, msg=f"unknown {column}")
