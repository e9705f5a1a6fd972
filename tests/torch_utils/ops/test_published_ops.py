"""Our operators against reference numbers of the published ones, for every case whose parameters they offer.

Not offered, hence not compared: dense filters that are not separable, different paddings of the two axes, a flipped kernel where ours is
fixed, groups, modulated downsampling, other slopes and activations than ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.planes.crop import Boxes, crop
from next3d.stylegan2.layers import normalize_second_moment
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.modulated_conv import conv2d_resample, modulated_conv2d
from torch_utils.ops.triplane import sample_planes
from torch_utils.ops.upfirdn2d import downsample2d, upfirdn2d, upsample2d

Inputs = dict[str, Tensor]
Parameters = dict[str, Any]


def taps_of(filter_: Tensor) -> tuple[float, ...]:
    """The one-dimensional filter behind a symmetric separable one."""
    line = filter_ if filter_.ndim == 1 else filter_.sum(dim=0)
    assert filter_.ndim == 1 or torch.allclose(filter_, torch.outer(line, line), atol=1e-6)
    return tuple(line.tolist())


def run_upfirdn2d(x: Inputs, p: Parameters) -> Tensor:
    padding = p["padding"]
    both = (padding, padding) if isinstance(padding, int) else tuple(padding[:2])
    taps = taps_of(x["f"])
    if p.get("flip_filter"):
        taps = taps[::-1]
    return upfirdn2d(x["x"], taps, up=p["up"], down=p["down"], padding=both, gain=p.get("gain", 1.0))


def run_bias_act(x: Inputs, p: Parameters) -> Tensor:
    return bias_act(x["x"], x.get("b"), **p)


def run_conv(x: Inputs, p: Parameters) -> Tensor:
    assert p["padding"] == x["w"].shape[-1] // 2
    return conv2d_resample(x["x"], x["w"], up=p["up"], down=p["down"])


def run_modulated(x: Inputs, p: Parameters) -> Tensor:
    return modulated_conv2d(x["x"], x["weight"], x["styles"], noise=x.get("noise"), up=p.get("up", 1), demodulate=p["demodulate"])


def run_interpolate(x: Inputs, p: Parameters) -> Tensor:
    """The whole image as one box of `crop`."""
    side = x["x"].shape[-1]
    boxes = Boxes(torch.full((1, 2), side / 2), torch.tensor([float(side)]))
    return crop(x["x"], boxes, p["size"][0])


def run_resize(x: Inputs, p: Parameters) -> Tensor:
    """How the discriminator enlarges the raw image."""
    return F.interpolate(x["x"], size=(p["size"],) * 2, mode="bilinear", align_corners=False, antialias=True)


def run_grid_sample(x: Inputs, p: Parameters) -> Tensor:
    """A tri-plane of three equal planes, looked up where all three read the same place."""
    features = x["x"][:, None].expand(-1, 3, -1, -1, -1).contiguous()
    points = F.pad(x["grid"].flatten(1, 2), (0, 1))  # x, y, 0
    found = sample_planes(features, points, axes=((0, 1), (0, 1), (0, 1)), box_warp=2.0)
    return found.transpose(1, 2).reshape(1, -1, *x["grid"].shape[1:3])


CASES: dict[str, Callable[[Inputs, Parameters], Tensor]] = {
    **dict.fromkeys(("01", "05"), run_upfirdn2d),
    "00": run_upfirdn2d,
    "09": lambda x, p: upsample2d(x["x"], taps_of(x["f"])),
    "10": lambda x, p: downsample2d(x["x"], taps_of(x["f"])),
    "11": lambda x, p: upfirdn2d(x["x"], taps_of(x["f"]), padding=(2, 1)),
    **dict.fromkeys(("14", "16", "19", "22", "24"), run_bias_act),
    **dict.fromkeys(("25", "27", "29", "30", "31"), run_conv),
    **dict.fromkeys([str(case) for case in range(35, 52)], run_modulated),
    "53": lambda x, p: normalize_second_moment(x["x"]),
    **dict.fromkeys(("54", "55"), run_resize),
    **dict.fromkeys(("59", "60"), run_interpolate),
    "62": run_grid_sample,
}


@pytest.fixture(scope="module")
def published(shared_dir: Path) -> tuple[dict[str, Any], Any]:
    folder = shared_dir / "golden"
    if not (folder / "ops.npz").exists():
        pytest.skip("no reference numbers in ../shared/golden")
    described = {case["case"]: case for case in json.loads((folder / "ops.json").read_text())}
    return described, np.load(folder / "ops.npz", allow_pickle=False)


@pytest.mark.parametrize("case", sorted(CASES))
def test_agrees_with_the_published_operator(case, published):
    described, arrays = published
    inputs = {name: torch.from_numpy(arrays[f"{case}/{name}"]) for name in described[case]["inputs"]}
    expected = torch.from_numpy(arrays[f"{case}/out"])
    result = CASES[case](inputs, described[case]["params"])
    assert result.shape == expected.shape
    assert float((result - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
