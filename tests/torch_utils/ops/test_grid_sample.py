"""Texture lookups."""

from __future__ import annotations

import torch

from torch_utils.ops.grid_sample import sample_uv


def test_row_zero_is_v_one_and_column_zero_is_u_zero(rng):
    texture = torch.randn(1, 2, 4, 4, generator=rng)
    centers = (torch.arange(4) + 0.5) / 4
    v, u = torch.meshgrid(1 - centers, centers, indexing="ij")
    torch.testing.assert_close(sample_uv(texture, torch.stack([u, v], dim=-1)[None]), texture)


def test_lookups_between_centres_are_linear_and_edges_repeat():
    texture = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    uv = torch.tensor([[[[0.5, 0.5], [0.5, 0.75], [0.0, 1.0], [1.0, 0.0]]]])
    torch.testing.assert_close(sample_uv(texture, uv).flatten(), torch.tensor([1.5, 0.5, 0.0, 3.0]))


def test_gradients(rng):
    texture = torch.randn(2, 2, 5, 5, generator=rng).double().requires_grad_()
    uv = (torch.rand(2, 3, 3, 2, generator=rng).double() * 0.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(sample_uv, (texture, uv))
