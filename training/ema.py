"""The averaged generator: what is saved, shown and measured (Karras et al. 2018, "Progressive Growing of GANs", Sec. 4.3)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

_Network = TypeVar("_Network", bound=nn.Module)


def averaged_copy(network: _Network) -> _Network:
    """A copy that takes no gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, skipped: Tensor | None = None) -> None:
    """Move the average towards the network: it keeps `decay` of itself; buffers are copied.

    Args:
        average: what moves.
        network: where to.
        decay: in [0, 1].
        skipped: [] on the device, 1 leaves the average where it is; nobody waits to read it.
    """
    kept: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(network.parameters())
    if skipped is None:
        torch._foreach_lerp_(kept, current, 1 - decay)
    else:
        weight = (1 - skipped).to(kept[0].dtype) * (1 - decay)
        torch._foreach_lerp_(kept, current, [weight] * len(kept))
    for mine, other in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(other)
