"""Mesh preference of discriminators that see everything, nothing, or only luck."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from next3d.types import Camera, HeadMesh
from tests.training.metrics.conftest import frontal
from training.metrics.mesh_use import mesh_preference

COUNT = 200


@pytest.fixture
def reals(rng):
    """Images whose mean is the mesh's first coordinate."""
    vertices = torch.randn(COUNT, 5, 3, generator=rng)
    images = vertices[:, 0, 0].view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    return images, HeadMesh(vertices, torch.zeros(COUNT, 68, 3)), frontal(COUNT)


def _oracle(images: Tensor, mesh: HeadMesh, camera: Camera) -> Tensor:
    return -(images.mean(dim=(1, 2, 3)) - mesh.vertices[:, 0, 0]).abs()


def test_an_oracle_always_prefers_the_true_mesh(reals):
    assert mesh_preference(_oracle, *reals) == 1
    assert mesh_preference(lambda *inputs: -_oracle(*inputs), *reals) == 0


def test_a_blind_discriminator_is_at_one_half(reals, rng):
    assert mesh_preference(lambda images, mesh, camera: images.mean(dim=(1, 2, 3)), *reals) == 0.5
    luck = mesh_preference(lambda images, mesh, camera: torch.randn(len(images), generator=rng), *reals)
    assert abs(luck - 0.5) < 0.15


def test_the_swapped_mesh_is_another_ones_but_image_and_camera_stay(reals):
    calls = []

    def record(images: Tensor, mesh: HeadMesh, camera: Camera) -> Tensor:
        calls.append((images, mesh, camera))
        return torch.zeros(len(images))

    mesh_preference(record, *reals)
    for (images, mesh, camera), (same_images, swapped, same_camera) in zip(calls[::2], calls[1::2], strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(camera.cam2world, same_camera.cam2world)
        assert (mesh.vertices != swapped.vertices).flatten(1).any(dim=1).all()
    used = torch.cat([mesh.vertices[:, 0, 0] for _, mesh, _ in calls[1::2]])
    assert len(used.unique()) == COUNT, "every mesh is handed on exactly once"


def test_one_image_cannot_be_swapped(reals):
    images, mesh, camera = reals
    with pytest.raises(ValueError, match="at least 2"):
        mesh_preference(_oracle, images[:1], mesh[:1], camera[:1])
