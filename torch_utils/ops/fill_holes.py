"""Filling the holes of a mask."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.custom_ops import Backend, resolve_backend


def fill_holes(mask: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Set to 1 every 0-region of a mask that has no 4-connected path of zeros to the image border.

    Args:
        mask: [B, 1, H, W], values in {0, 1}, float32 or float64.
        backend: "ref", "cpu" (C++), or "auto".

    Returns:
        [B, 1, H, W], contiguous, same dtype; carries no gradient.

    Raises:
        ValueError: another shape or dtype.
        BackendError: an explicit backend that is not there.
    """
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(f"mask: shape {tuple(mask.shape)}, expected [B, 1, H, W]")
    if mask.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"mask: dtype {mask.dtype}, expected float32 or float64")
    if _backend(backend, mask.device.type) == "cpu":
        return torch.ops.next3d.fill_holes(mask.detach())
    return _fill_holes_ref(mask.detach())


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "fill_holes", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ op."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    torch.library.register_fake("next3d::fill_holes", lambda mask: mask.new_empty(mask.shape))
    torch.library.register_autograd("next3d::fill_holes", lambda ctx, gradient: None, setup_context=setup)


def _fill_holes_ref(mask: Tensor) -> Tensor:
    """Let the outside grow inwards until it stops."""
    free = 1 - mask.contiguous()
    if mask.numel() == 0:
        return free
    outside = free.clone()
    outside[..., 1:-1, 1:-1] = 0
    while True:
        across = F.max_pool2d(outside, (1, 3), stride=1, padding=(0, 1))
        down = F.max_pool2d(outside, (3, 1), stride=1, padding=(1, 0))
        grown = torch.maximum(across, down) * free
        if torch.equal(grown, outside):
            return 1 - outside
        outside = grown
