"""Precision and recall on sets whose answer is known."""

from __future__ import annotations

import pytest
import torch

from tests.training.metrics.pictures import paint_context
from training.metrics.context import Context
from training.metrics.precision_recall import coverage


@pytest.fixture
def context(tmp_path, knows_small_head) -> Context:
    return paint_context(tmp_path, count=8)


def share(context: Context, points: torch.Tensor, queries: torch.Tensor) -> float:
    return float(coverage(context, points, queries).mean())


def test_balls_reach_to_the_third_neighbour(context):
    """On a line of integers the ball of an inner point reaches 2 to either side, that of an end point 3."""
    line = torch.arange(10).float()[:, None]
    queries = torch.tensor([[-3.0], [-3.1], [4.4], [11.9], [12.1]])
    assert coverage(context, line, queries).tolist() == [1, 0, 1, 1, 0]


def test_a_generator_of_one_mode_is_precise_and_recalls_that_mode_alone(context, rng):
    modes = [torch.randn(200, 8, generator=rng), torch.randn(200, 8, generator=rng) + 50]
    real, fake = torch.cat(modes), torch.randn(400, 8, generator=rng)
    assert share(context, real, fake) > 0.9
    recalled = coverage(context, fake, real)
    assert recalled[:200].mean() > 0.7
    assert recalled[200:].sum() == 0


def test_equal_sets_and_strangers(context, rng):
    real = torch.randn(60, 4, generator=rng)
    assert share(context, real, real) == 1
    assert share(context, real, real + 100) == 0


def test_equal_points_have_no_ball_but_cover_themselves(context):
    """Repeated pictures are neighbours of each other at distance 0: a memorised picture covers nothing else."""
    points = torch.zeros(10, 3)
    assert coverage(context, points, torch.tensor([[0.0, 0, 0], [1e-6, 0, 0]])).tolist() == [1, 0]
