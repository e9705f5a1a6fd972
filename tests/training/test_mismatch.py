"""Meshes that images do not show: whose they are, and what of them stays."""

from __future__ import annotations

import pytest
import torch

from next3d.head.model import HeadParams, Joint
from next3d.types import HeadMesh
from training.mismatch import Mismatch
from training.randomness import Draws

NEIGHBOUR = [3, 0, 1, 2, 7, 4, 5, 6]


@pytest.fixture
def heads(rng) -> HeadParams:
    shapes = ((8, 5), (8, 6), (8, 5, 3), (8, 3), (8,))
    return HeadParams(*(torch.rand(shape, generator=rng) for shape in shapes))


def mismatched(heads: HeadParams, share: float, positions: torch.Tensor | None = None, directions: float = 0.0) -> HeadParams:
    found = Mismatch(Draws(0), 4, share, directions).heads(heads, torch.arange(8) if positions is None else positions)
    assert isinstance(found, HeadParams)
    return found


def test_without_a_share_it_is_the_neighbour_in_the_group(heads):
    found = mismatched(heads, 0.0)
    assert all(torch.equal(vars(found)[name], value[NEIGHBOUR]) for name, value in vars(heads).items())


def test_expression_jaw_and_gaze_alone(heads):
    """The rest is the image's own head in its own pose: only eyes and mouth give the mismatch away."""
    found = mismatched(heads, 1.0)
    for name in ("shape", "translation", "scale"):
        assert torch.equal(vars(found)[name], vars(heads)[name])
    assert torch.equal(found.pose[:, : Joint.JAW], heads.pose[:, : Joint.JAW])
    assert torch.equal(found.pose[:, Joint.JAW :], heads.pose[NEIGHBOUR][:, Joint.JAW :])
    assert torch.equal(found.expression, heads.expression[NEIGHBOUR])


def test_some_differ_in_nothing_but_directions(heads):
    """Jaw and gaze stay for the share of the image's own heads that is asked for, and another person's head never keeps them."""
    found = [mismatched(heads, 0.5, row, 0.3) for row in torch.arange(4000).reshape(-1, 8)]
    own = torch.stack([(one.shape == heads.shape).all(dim=1) for one in found])
    still = torch.stack([(one.pose == heads.pose).all(dim=(1, 2)) for one in found])
    assert not (still & ~own).any()
    assert float(still[own].float().mean()) == pytest.approx(0.3, abs=0.03)
    assert all(torch.equal(one.expression, heads.expression[NEIGHBOUR]) for one in found)


def test_the_share_is_that_of_samples_and_each_is_of_one_kind(heads):
    positions = torch.arange(4000).reshape(-1, 8)
    own = torch.stack([(mismatched(heads, 0.3, row).shape == heads.shape).all(dim=1) for row in positions])
    assert float(own.float().mean()) == pytest.approx(0.3, abs=0.02)
    found = mismatched(heads, 0.5)
    kept = (found.shape == heads.shape).all(dim=1)
    assert 0 < kept.sum() < 8
    assert torch.equal((found.scale == heads.scale), kept)
    assert torch.equal((found.pose[:, : Joint.JAW] == heads.pose[:, : Joint.JAW]).all(dim=(1, 2)), kept)


def test_splitting_a_batch_changes_nothing(heads):
    whole = mismatched(heads, 0.5)
    parts = [mismatched(heads[start : start + 4], 0.5, torch.arange(start, start + 4)) for start in (0, 4)]
    assert all(torch.equal(value, torch.cat([vars(part)[name] for part in parts])) for name, value in vars(whole).items())


def test_meshes_cannot_be_taken_apart(rng):
    mesh = HeadMesh(torch.rand(8, 9, 3, generator=rng), torch.rand(8, 68, 3, generator=rng))
    found = Mismatch(Draws(0), 4, 1.0).heads(mesh, torch.arange(8))
    assert isinstance(found, HeadMesh)
    assert torch.equal(found.vertices, mesh.vertices[NEIGHBOUR])
