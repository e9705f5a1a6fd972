"""Images looked up along grids, differentiable twice by the images: what penalties on gradients behind a warp need."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BILINEAR, _REFLECTION = 0, 2
"""PyTorch's numbers for the modes that `warp` uses."""


def warp(images: Tensor, grid: Tensor) -> Tensor:
    """Bilinear lookup; beyond its edges an image goes on as its own reflection.

    PyTorch's own `grid_sample` cannot be differentiated twice. The lookup is linear in the images, so the derivative of its gradient is
    the same lookup again.

    Args:
        images: [N, C, H, W], floating point; may want gradients of first and second order.
        grid: [N, rows, columns, 2], x and y in [-1, 1] from edge to edge; gets no gradient.

    Returns:
        [N, C, rows, columns].

    Raises:
        ValueError: a grid that wants a gradient.
    """
    if grid.requires_grad:
        raise ValueError("warp: the grid wants a gradient, which it cannot get; detach it")
    return _Lookup.apply(images, grid)


class _Lookup(torch.autograd.Function):
    """Images to what the grid finds in them."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradient, *ctx.saved_tensors, ctx.size), None


class _Spread(torch.autograd.Function):
    """The transpose of `_Lookup`: every value goes back to the pixels that it was mixed from."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        images = values.new_empty(size)  # only the grid's gradient, which is not asked for, would read them
        found, _ = torch.ops.aten.grid_sampler_2d_backward(values, images, grid, _BILINEAR, _REFLECTION, False, [True, False])
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Lookup.apply(gradient, *ctx.saved_tensors), None, None
