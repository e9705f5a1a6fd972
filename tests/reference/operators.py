"""Every reference case of the single operators, through the public ones.

The published names, parameters and conventions on the left, ours on the right; paddings and filters are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.stylegan2.layers import normalize_second_moment
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.modulated_conv import conv2d_resample, modulated_conv2d
from torch_utils.ops.resize import resize
from torch_utils.ops.triplane import sample_planes
from torch_utils.ops.upfirdn2d import downsample2d, filter2d, upfirdn2d, upsample2d

Parameters = dict[str, Any]


def compute(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """("NN/out", result) for every case of `ops.json` and `ops.npz`.

    Raises:
        KeyError: an operator that is not known here.
    """
    arrays = np.load(folder / "ops.npz", allow_pickle=False)
    for described in json.loads((folder / "ops.json").read_text()):
        case = described["case"]
        inputs = {name: torch.from_numpy(arrays[f"{case}/{name}"]) for name in described["inputs"]}
        yield f"{case}/out", OPERATORS[described["op"]](**inputs, **described["params"])


def run_filter(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator of the `upfirdn2d` family; a filter that is not given means none."""
    return lambda x, f=None, **parameters: operator(x, f, **parameters)


def run_bias_act(x: Tensor, b: Tensor | None = None, **parameters: Any) -> Tensor:
    """Bias is called b."""
    return bias_act(x, b, **parameters)


def run_conv2d_resample(x: Tensor, w: Tensor, f: Tensor | None = None, **parameters: Any) -> Tensor:
    """Weight and filter are called w and f."""
    return conv2d_resample(x, w, f, **parameters)


def run_modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, resample_filter: Tensor | None = None, fused_modconv: bool = True, **parameters: Any
) -> Tensor:
    """Scaling weights (fused) or activations is the same sum; ours always does the latter."""
    return modulated_conv2d(x, weight, styles, resample_filter, **parameters)


def run_normalize(x: Tensor, **parameters: Any) -> Tensor:
    """The second moment."""
    return normalize_second_moment(x, **parameters)


def run_filtered_resizing(x: Tensor, f: Tensor | None, size: int, filter_mode: str | float = "antialiased") -> Tensor:
    """A filter mode that is a number is the share of antialiasing."""
    return resize(x, size, f, mode=filter_mode)


def run_interpolate(x: Tensor, size: list[int], antialias: bool = True, align_corners: object = None) -> Tensor:
    """Bilinear, corners of images on each other: `align_corners` is described, and never true."""
    if align_corners is True:
        raise ValueError("interpolate_bilinear_aa: align_corners=True is not an operator of these networks")
    return resize(x, (size[0], size[1]), mode="antialiased" if antialias else "none")


def run_grid_sample(x: Tensor, grid: Tensor, align_corners: bool = False) -> Tensor:
    """Lookups [N, H, W, 2] in one plane [N, C, P, P], as the tri-plane lookups do them."""
    if align_corners:
        raise ValueError("grid_sample_bilinear_zeros: align_corners=True is not an operator of these networks")
    points = F.pad(grid.flatten(1, 2), (0, 1))  # x, y, 0
    found = sample_planes(x[:, None], points, axes=((0, 1),), box_warp=2.0)  # [N, H * W, C]
    return found.mT.unflatten(2, grid.shape[1:3])


OPERATORS: Mapping[str, Callable[..., Tensor]] = {
    "upfirdn2d": run_filter(upfirdn2d),
    "upsample2d": run_filter(upsample2d),
    "downsample2d": run_filter(downsample2d),
    "filter2d": run_filter(filter2d),
    "bias_act": run_bias_act,
    "conv2d_resample": run_conv2d_resample,
    "modulated_conv2d": run_modulated_conv2d,
    "normalize_2nd_moment": run_normalize,
    "filtered_resizing": run_filtered_resizing,
    "interpolate_bilinear_aa": run_interpolate,
    "grid_sample_bilinear_zeros": run_grid_sample,
}
