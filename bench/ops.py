"""Speed of the C++ operators against their references, forward and backward, at the demo's sizes.

python -m bench.ops [--quick] [--threads N] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from bench.report import Report, measure
from torch_utils.custom_ops import Backend
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.decoder_mlp import decoder_mlp
from torch_utils.ops.fill_holes import fill_holes
from torch_utils.ops.texture_views import texture_views
from torch_utils.ops.triplane import sample_planes
from torch_utils.ops.upfirdn2d import upfirdn2d
from torch_utils.ops.weighted_sum import weighted_sum

BATCH = 16
POINTS = 16384
"""Samples of one image: 32 x 32 rays of 16."""
AXES = ((0, 1), (0, 2), (2, 1))

Op = Callable[[Backend], Tensor]


def leaf(*shape: int) -> Tensor:
    """A random tensor that wants a gradient."""
    return torch.randn(shape).requires_grad_()


def lookup(channels: int) -> Op:
    """Tri-plane lookups with a gradient for the planes, as in training."""
    planes, points = leaf(BATCH, 3, channels, 64, 64), torch.rand(BATCH, POINTS, 3) - 0.5
    return lambda backend: sample_planes(planes, points, axes=AXES, box_warp=1.0, backend=backend)


def cases() -> dict[str, tuple[Op, str]]:
    """Name, operator and conditions."""
    table: dict[str, tuple[Op, str]] = {}
    for channels in (8, 16, 32):
        table[f"sample_planes_{channels}"] = (lookup(channels), f"{channels} channels, 64² planes, {POINTS} points")

    texture, uv = leaf(BATCH, 12, 64, 64), torch.rand(BATCH, 4, 64, 64, 2)
    shown = (torch.rand(BATCH, 4, 64, 64) < 0.3).float()
    table["texture_views"] = (lambda b: texture_views(texture, uv, shown, (0, 1, 2, 2), backend=b), "12 channels, 64², a third shown")

    x, weights = leaf(BATCH * POINTS, 8), (leaf(32, 8), leaf(32), leaf(17, 32), leaf(17))
    table["decoder_mlp"] = (
        lambda b: torch.cat([part.flatten() for part in decoder_mlp(x, *weights, margin=0.001, backend=b)]),
        "8, 32, 17 units",
    )

    share, values = leaf(BATCH, 1024, 16), leaf(BATCH, 1024, 16, 16)
    table["weighted_sum"] = (lambda b: weighted_sum(share, values, backend=b), "1024 rays, 16 samples, 16 channels")

    image, small = leaf(BATCH, 16, 64, 64), leaf(BATCH, 24, 32, 32)
    table["blur"] = (lambda b: upfirdn2d(image, padding=(2, 1, 2, 1), backend=b), "16 channels, 64²")
    table["downsample"] = (lambda b: upfirdn2d(image, down=2, padding=1, backend=b), "16 channels, 64² to 32²")
    table["upsample"] = (lambda b: upfirdn2d(small, up=2, padding=(2, 1, 2, 1), gain=4.0, backend=b), "24 channels, 32² to 64²")

    bias, scale, noise = leaf(16), leaf(BATCH, 16), leaf(BATCH, 1, 64, 64)
    table["bias_lrelu"] = (lambda b: bias_act(image, bias, act="lrelu", backend=b), "16 channels, 64²")
    table["scale_noise_bias_lrelu"] = (
        lambda b: bias_act(image, bias, scale=scale, noise=noise, act="lrelu", backend=b),
        "16 channels, 64²",
    )

    mask = (torch.rand(BATCH, 1, 256, 256) < 0.55).float()
    table["fill_holes"] = (lambda b: fill_holes(mask, backend=b), "256², random masks, forward only")
    return table


def run(op: Op, backend: Backend) -> None:
    """Forward and, where there is a gradient, backward."""
    result = op(backend)
    if result.requires_grad:
        result.backward(torch.ones_like(result))


@click.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def main(quick: bool, threads: int, json_path: Path | None) -> None:
    """Time each operator in C++ and as plain PyTorch, in turns."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    report = Report("ops")
    for name, (op, note) in cases().items():
        times = measure({"cpu": partial(run, op, "cpu"), "ref": partial(run, op, "ref")}, repeats=3 if quick else 15)
        report.add(f"{name}_ms", 1000 * times["cpu"], note=f"batch {BATCH}, {note}")
        report.add(f"{name}_ref_ratio", times["ref"] / times["cpu"], note="reference / C++")
    report.finish(json_path)


if __name__ == "__main__":
    main()
