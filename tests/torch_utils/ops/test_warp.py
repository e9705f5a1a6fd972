from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from torch_utils.ops.warp import warp


def grid(rng: torch.Generator, reach: float = 1.6) -> torch.Tensor:
    """Places inside and outside of the image."""
    return (torch.rand(2, 5, 4, 2, generator=rng, dtype=torch.float64) * 2 - 1) * reach


def test_it_is_grid_sample(rng):
    images, where = torch.randn(2, 3, 7, 6, generator=rng, dtype=torch.float64, requires_grad=True), grid(rng)
    expected = F.grid_sample(images, where, mode="bilinear", padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(warp(images, where), expected)
    pull = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    mine, theirs = (torch.autograd.grad((found * pull).sum(), images)[0] for found in (warp(images, where), expected))
    torch.testing.assert_close(mine, theirs)


def test_both_derivatives_are_right(rng):
    images, where = torch.randn(2, 1, 4, 4, generator=rng, dtype=torch.float64, requires_grad=True), grid(rng)
    assert torch.autograd.gradcheck(lambda x: warp(x, where), (images,))
    assert torch.autograd.gradgradcheck(lambda x: warp(x, where).square(), (images,))


def test_a_grid_that_wants_a_gradient_is_refused(rng):
    with pytest.raises(ValueError, match="detach"):
        warp(torch.zeros(2, 1, 4, 4, dtype=torch.float64), grid(rng).requires_grad_())
