"""InceptionV3 (Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", Table 1) as the network that FID means.

Names and shapes of its parameters are those of `pt_inception-2015-12-05-6726825d.pth`, the published PyTorch port of the TensorFlow graph
with which FID was introduced (Heusel et al. 2017). That graph departs from the paper in what it averages and where: its 3 x 3 average
pooling leaves the padding out of the mean, and the pooling branch of the last block takes the maximum. Features are the 2048 averages over
the last 8 x 8 map ("pool3"). Its classifier is not built: FID does not use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM_CHANNELS = 32
"""Of the first convolution."""
INPUT_SIZE = 299
NORM_EPS = 1e-3
"""Of the batch normalisation in the TensorFlow graph."""


class Unit(nn.Module):
    """Convolution without bias, batch normalisation in evaluation mode, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


@dataclass(frozen=True)
class Step:
    """One unit of a branch: its name in the file and its convolution."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    @property
    def padding(self) -> tuple[int, int]:
        """Sizes stay, except where the stride halves them."""
        return (self.kernel[0] // 2, self.kernel[1] // 2) if self.stride == 1 else (0, 0)


@dataclass(frozen=True)
class Branch:
    """Units one after the other; `fork` units all read the last one and stand side by side."""

    steps: tuple[Step, ...] = ()
    fork: tuple[Step, ...] = ()
    pool: Callable[[Tensor], Tensor] | None = None
    """Applied first."""


def average(x: Tensor) -> Tensor:
    """3 x 3 mean of the pixels that exist: padding does not count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum(x: Tensor) -> Tensor:
    """3 x 3 maximum at the same size."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: Tensor) -> Tensor:
    """3 x 3 maximum, every second pixel, no padding."""
    return F.max_pool2d(x, 3, stride=2)


class Block(nn.Module):
    """Branches side by side; their outputs are concatenated in the order given. Units are attributes, named as in the file."""

    def __init__(self, inputs: int, branches: Sequence[Branch], width: float) -> None:
        super().__init__()
        self.branches = branches
        self.outputs = 0
        for branch in branches:
            channels = inputs
            for step in branch.steps:
                channels = self._add(step, channels, width)
            if branch.fork:
                channels = sum(self._add(step, channels, width) for step in branch.fork)
            self.outputs += channels

    def _add(self, step: Step, inputs: int, width: float) -> int:
        outputs = scaled(step.outputs, width)
        self.add_module(step.name, Unit(inputs, outputs, step.kernel, step.stride, step.padding))
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part for branch in self.branches for part in self._run(branch, x)], dim=1)

    def _run(self, branch: Branch, x: Tensor) -> list[Tensor]:
        if branch.pool is not None:
            x = branch.pool(x)
        for step in branch.steps:
            x = self.get_submodule(step.name)(x)
        return [self.get_submodule(step.name)(x) for step in branch.fork] or [x]


def scaled(channels: int, width: float) -> int:
    """Channels of a narrower network."""
    return max(1, round(channels * width))


def _five(pooled: int) -> tuple[Branch, ...]:
    """35 x 35 blocks: a 5 x 5 convolution, and two 3 x 3 ones in its place (Fig. 5)."""
    return (
        Branch((Step("branch1x1", 64),)),
        Branch((Step("branch5x5_1", 48), Step("branch5x5_2", 64, (5, 5)))),
        Branch((Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, (3, 3)), Step("branch3x3dbl_3", 96, (3, 3)))),
        Branch((Step("branch_pool", pooled),), pool=average),
    )


def _seven(middle: int) -> tuple[Branch, ...]:
    """17 x 17 blocks: 7 x 7 convolutions taken apart into rows and columns (Fig. 6)."""
    row, column = (1, 7), (7, 1)
    long = [(middle, (1, 1)), (middle, column), (middle, row), (middle, column), (192, row)]
    return (
        Branch((Step("branch1x1", 192),)),
        Branch((Step("branch7x7_1", middle), Step("branch7x7_2", middle, row), Step("branch7x7_3", 192, column))),
        Branch(tuple(Step(f"branch7x7dbl_{index + 1}", outputs, kernel) for index, (outputs, kernel) in enumerate(long))),
        Branch((Step("branch_pool", 192),), pool=average),
    )


def _wide(pool: Callable[[Tensor], Tensor]) -> tuple[Branch, ...]:
    """8 x 8 blocks: a row and a column side by side (Fig. 7)."""
    row, column = (1, 3), (3, 1)
    return (
        Branch((Step("branch1x1", 320),)),
        Branch((Step("branch3x3_1", 384),), (Step("branch3x3_2a", 384, row), Step("branch3x3_2b", 384, column))),
        Branch(
            (Step("branch3x3dbl_1", 448), Step("branch3x3dbl_2", 384, (3, 3))),
            (Step("branch3x3dbl_3a", 384, row), Step("branch3x3dbl_3b", 384, column)),
        ),
        Branch((Step("branch_pool", 192),), pool=pool),
    )


_TO_17 = (
    Branch((Step("branch3x3", 384, (3, 3), 2),)),
    Branch((Step("branch3x3dbl_1", 64), Step("branch3x3dbl_2", 96, (3, 3)), Step("branch3x3dbl_3", 96, (3, 3), 2))),
    Branch(pool=halve),
)
_TO_8 = (
    Branch((Step("branch3x3_1", 192), Step("branch3x3_2", 320, (3, 3), 2))),
    Branch(
        (
            Step("branch7x7x3_1", 192),
            Step("branch7x7x3_2", 192, (1, 7)),
            Step("branch7x7x3_3", 192, (7, 1)),
            Step("branch7x7x3_4", 192, (3, 3), 2),
        )
    ),
    Branch(pool=halve),
)
_STEM = (
    ("Conv2d_1a_3x3", STEM_CHANNELS, 3, 2, 0, False),
    ("Conv2d_2a_3x3", 32, 3, 1, 0, False),
    ("Conv2d_2b_3x3", 64, 3, 1, 1, True),
    ("Conv2d_3b_1x1", 80, 1, 1, 0, False),
    ("Conv2d_4a_3x3", 192, 3, 1, 0, True),
)
"""Name, channels, kernel, stride, padding, and whether a maximum halves the picture afterwards."""
_BLOCKS: Mapping[str, tuple[Branch, ...]] = {
    "Mixed_5b": _five(32),
    "Mixed_5c": _five(64),
    "Mixed_5d": _five(64),
    "Mixed_6a": _TO_17,
    "Mixed_6b": _seven(128),
    "Mixed_6c": _seven(160),
    "Mixed_6d": _seven(160),
    "Mixed_6e": _seven(192),
    "Mixed_7a": _TO_8,
    "Mixed_7b": _wide(average),
    "Mixed_7c": _wide(maximum),
}


class InceptionV3(nn.Module):
    """299 x 299 pictures to pool3 features."""

    def __init__(self, width: float = 1.0) -> None:
        """`width` scales all channels: 1 is the published network, small ones serve tests."""
        super().__init__()
        channels = 3
        for name, outputs, kernel, stride, padding, _ in _STEM:
            outputs = scaled(outputs, width)
            self.add_module(name, Unit(channels, outputs, (kernel, kernel), stride, (padding, padding)))
            channels = outputs
        for name, branches in _BLOCKS.items():
            block = Block(channels, branches, width)
            self.add_module(name, block)
            channels = block.outputs
        self.features = channels
        """Length of a feature vector."""

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, 2048] of images [N, 3, H, W] in [-1, 1]; other sizes than 299 are resized."""
        x = resized(images)
        for name, *_, pooled in _STEM:
            x = self.get_submodule(name)(x)
            x = halve(x) if pooled else x
        for name in _BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))


def resized(images: Tensor) -> Tensor:
    """To 299 x 299, bilinear between pixel centres and without a low-pass filter: what the port does to pictures of any size."""
    if images.shape[-2:] == (INPUT_SIZE, INPUT_SIZE):
        return images
    return F.interpolate(images, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False, antialias=False)
