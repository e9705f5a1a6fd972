"""Filling the holes of a mask."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.custom_ops import Backend, resolve_backend

Start = Literal["border", "corner"]
"""Where the outside begins: at every pixel of the border, or at pixel (0, 0) alone."""

STEPS_PER_LOOK = 16
"""Steps of the reference between two looks whether it has come to its end; a look waits for the device."""


def fill_holes(mask: Tensor, *, start: Start = "border", backend: Backend = "auto") -> Tensor:
    """Set to 1 every 0-region of a mask that has no 4-connected path of zeros to the start.

    Args:
        mask: [B, 1, H, W], values in {0, 1}, float32 or float64.
        start: "border": what a path of zeros joins to any pixel of the border stays 0. "corner": only what is joined to pixel (0, 0)
            does, so a wall that cuts another corner off fills that corner, and everything becomes 1 where the pixel itself is a wall.
        backend: "ref", "cpu" (C++), or "auto".

    Returns:
        [B, 1, H, W], contiguous, same dtype; carries no gradient.

    Raises:
        ValueError: another shape, dtype or start.
        BackendError: an explicit backend that is not there.
    """
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(f"mask: shape {tuple(mask.shape)}, expected [B, 1, H, W]")
    if mask.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"mask: dtype {mask.dtype}, expected float32 or float64")
    if start not in ("border", "corner"):
        raise ValueError(f"fill_holes: start={start!r}, expected 'border' or 'corner'")
    if _backend(backend, mask.device.type) == "cpu":
        return torch.ops.next3d.fill_holes(mask.detach(), start == "corner")
    return _fill_holes_ref(mask.detach(), start)


@torch.compiler.assume_constant_result
def _backend(backend: Backend, device: str) -> str:
    return resolve_backend(backend, "fill_holes", device, _register)


def _register() -> None:
    """Tell torch.compile and autograd about the C++ op."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    torch.library.register_fake("next3d::fill_holes", lambda mask, corner: mask.new_empty(mask.shape))
    torch.library.register_autograd("next3d::fill_holes", lambda ctx, gradient: (None, None), setup_context=setup)


def _fill_holes_ref(mask: Tensor, start: Start) -> Tensor:
    """Let the outside grow inwards by a pixel per step until it stops.

    The number of steps is that of the longest path, which only the data knows, so on an accelerator the host has to look at the result
    now and then. Labelling regions by pointer jumping needs no look, but in the worst case log² of the number of pixels rounds, all of
    which every mask would pay for; a definition should rather be read at a glance.
    """
    free = 1 - mask.contiguous()
    if mask.numel() == 0:
        return free
    outside = free.clone()
    if start == "corner":
        outside.flatten(1)[:, 1:] = 0
    else:
        outside[..., 1:-1, 1:-1] = 0
    while True:
        for _ in range(STEPS_PER_LOOK):
            before = outside
            across = F.max_pool2d(outside, (1, 3), stride=1, padding=(0, 1))
            down = F.max_pool2d(outside, (3, 1), stride=1, padding=(1, 0))
            outside = torch.maximum(across, down) * free
        if torch.equal(outside, before):
            return 1 - outside
