"""Bias, activation, gain and clamp in one step (StyleGAN2, Sec. 2 and App. B)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["linear", "lrelu", "softplus", "sigmoid"]

LRELU_SLOPE = 0.2
DEFAULT_GAIN: dict[str, float] = {"linear": 1.0, "lrelu": 2.0**0.5, "softplus": 1.0, "sigmoid": 1.0}
"""Gains that keep the second moment of unit-variance input."""


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    dim: int = 1,
    act: Activation = "linear",
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """`clamp(act(x + bias) * gain)`.

    Args:
        x: any shape.
        bias: [x.shape[dim]] or None.
        dim: the dimension that `bias` belongs to.
        act: activation; "lrelu" has slope 0.2.
        gain: output scale; None takes the activation's `DEFAULT_GAIN`.
        clamp: limit of the absolute value after the gain; None does not limit.

    Raises:
        ValueError: unknown activation, or a bias that does not fit.
    """
    if act not in DEFAULT_GAIN:
        raise ValueError(f"bias_act: act={act!r}, expected one of {', '.join(DEFAULT_GAIN)}")
    if bias is not None:
        if bias.shape != (x.shape[dim],):
            raise ValueError(f"bias_act: bias {tuple(bias.shape)}, expected ({x.shape[dim]},)")
        x = x + bias.to(x.dtype).reshape([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    gain = DEFAULT_GAIN[act] if gain is None else gain
    if act == "lrelu":
        x = F.leaky_relu(x, LRELU_SLOPE)
    elif act == "softplus":
        x = F.softplus(x)
    elif act == "sigmoid":
        x = torch.sigmoid(x)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
