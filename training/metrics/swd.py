"""Sliced Wasserstein distance between two sets of images (Karras et al. 2018, "Progressive Growing of GANs", Sec. 5).

Every image becomes a Laplacian pyramid (Burt & Adelson 1983) from its own resolution down to 16 x 16; from every level come random
7 x 7 patches with all three channels, normalised to mean 0 and deviation 1 per channel over the set. Between two such clouds of
points the distance is the 1-D Wasserstein-1 distance (sort both, mean absolute difference) averaged over random unit directions.
The finest level compares texture and edges, the coarsest one layout and colour. It needs no network and no download.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COARSEST_LEVEL = 16
"""The pyramid stops at this resolution."""
CUSTOMARY_FACTOR = 1e3
"""Published figures are the distance times this."""
CHUNK = 64
"""Images whose pyramid is in memory at once."""


@dataclass(frozen=True, kw_only=True)
class SwdSettings:
    """How finely the distance is measured."""

    patches_per_image: int = 64
    """Patches from every level of every image (the paper: 128 from 16384 images)."""
    patch_size: int = 7
    """Side of a patch in pixels."""
    projections: int = 256
    """Random directions (the paper: 512)."""
    seed: int = 0
    """Key of patch positions and directions; sets compared with each other share it."""

    def __post_init__(self) -> None:
        if min(self.patches_per_image, self.patch_size, self.projections) < 1:
            raise ValueError(f"SWD: patches_per_image, patch_size and projections must be positive, got {self}")


@dataclass(frozen=True)
class SwdReference:
    """One set of images, ready to be compared with many others."""

    settings: SwdSettings
    count: int
    """Number of images."""
    levels: dict[int, Tensor]
    """Resolution of the level to sorted projections [projections, count * patches_per_image]."""


@dataclass(frozen=True)
class Projections:
    """One set of images before sorting, so that images can still be left out."""

    settings: SwdSettings
    count: int
    """Number of images."""
    levels: dict[int, Tensor]
    """Resolution of the level to projections [projections, count * patches_per_image], image by image."""

    def sorted(self) -> SwdReference:
        """Ready to be compared."""
        return SwdReference(self.settings, self.count, {size: _sort_rows(values) for size, values in self.levels.items()})

    def without(self, images: slice) -> Projections:
        """The other images alone; descriptors stay normalised over all of them."""
        keep = torch.ones(self.count, dtype=torch.bool)
        keep[images] = False
        columns = keep.repeat_interleave(self.settings.patches_per_image)
        return Projections(self.settings, int(keep.sum()), {size: values[:, columns] for size, values in self.levels.items()})

    def along(self, directions: int) -> Projections:
        """The same images along the first directions alone."""
        return Projections(self.settings, self.count, {size: values[:directions] for size, values in self.levels.items()})


def level_sizes(resolution: int) -> list[int]:
    """Resolutions of the pyramid's levels, finest first: halves as long as they are whole and at least 16."""
    sizes = [resolution]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= COARSEST_LEVEL:
        sizes.append(sizes[-1] // 2)
    return sizes


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Split images [N, C, H, H] into band-pass levels, finest first; the last one is the low-pass remainder.

    Level k is the difference between the k-times halved image and its prediction from the next one, so that adding the
    predictions back restores the image.
    """
    levels = []
    current = images
    for _ in level_sizes(images.shape[-1])[1:]:
        smaller = _halve(current)
        levels.append(current - _double(smaller))
        current = smaller
    return [*levels, current]


def prepare(images: Tensor, settings: SwdSettings | None = None) -> SwdReference:
    """Project and sort the descriptors of a set of images [N, 3, H, H]; raises ValueError as `project`."""
    return project(images, settings).sorted()


def project(images: Tensor, settings: SwdSettings | None = None) -> Projections:
    """Project the descriptors of a set of images [N, 3, H, H]; image i always gives the patches at its own keyed positions.

    Raises:
        ValueError: not square, no images, or smaller than a patch.
    """
    settings = settings or SwdSettings()
    if images.ndim != 4 or images.shape[2] != images.shape[3] or len(images) == 0:
        raise ValueError(f"SWD: images of shape {tuple(images.shape)}, expected [N, C, H, H] with N > 0")
    sizes = level_sizes(images.shape[-1])
    if sizes[-1] < settings.patch_size:
        raise ValueError(f"SWD: images of {images.shape[-1]} pixels hold no patch of {settings.patch_size}")
    positions = [_patch_positions(size, len(images), settings) for size in sizes]
    patches: list[list[Tensor]] = [[] for _ in sizes]
    for start in range(0, len(images), CHUNK):
        for level, pixels in enumerate(laplacian_pyramid(images[start : start + CHUNK].float())):
            patches[level].append(_extract(pixels, positions[level][start : start + CHUNK].to(images.device), settings.patch_size))
    levels = {size: _project(_normalise(torch.cat(parts)), settings, key=size) for size, parts in zip(sizes, patches, strict=True)}
    return Projections(settings, len(images), levels)


def distance(first: SwdReference, second: SwdReference) -> dict[int, float]:
    """Sliced Wasserstein distance x 1e3 per level, finest first.

    Raises:
        ValueError: the two sets differ in number of images, resolution or settings.
    """
    if (first.settings, first.count, list(first.levels)) != (second.settings, second.count, list(second.levels)):
        raise ValueError(
            f"SWD: sets of {first.count} images with levels {list(first.levels)} and of {second.count} with {list(second.levels)}; "
            "both need the same number of images, the same resolution and the same settings"
        )
    return {
        size: CUSTOMARY_FACTOR * float((projected - second.levels[size]).abs().mean(dtype=torch.float64))
        for size, projected in first.levels.items()
    }


def sliced_wasserstein(first: Tensor, second: Tensor, settings: SwdSettings | None = None) -> dict[int, float]:
    """Distance x 1e3 per level between two equally large sets of images [N, 3, H, H], finest level first."""
    return distance(prepare(first, settings), prepare(second, settings))


def projected_distance(first: Projections, second: Projections) -> dict[int, float]:
    """`distance` of sets that are not sorted yet."""
    return distance(first.sorted(), second.sorted())


def mean_level(levels: dict[int, float]) -> float:
    """Mean over the levels: the one number by which sets are ranked."""
    return sum(levels.values()) / len(levels)


def named_levels(levels: dict[int, float]) -> dict[str, float]:
    """The mean and the levels, by name."""
    return {"mean": mean_level(levels), **{str(size): value for size, value in levels.items()}}


def mean_image_with_noise(reals: Tensor, seed: int = 0) -> Tensor:
    """Baseline "an average face": the mean of images [N, C, H, H] plus white noise with every pixel's own deviation; not clamped."""
    draws = torch.randn(reals.shape, generator=torch.Generator().manual_seed(seed)).to(reals)
    return reals.mean(dim=0) + reals.std(dim=0, correction=0) * draws


def blurred(reals: Tensor, size: int = 8) -> Tensor:
    """Baseline "right but blurred": images [N, C, H, H] averaged down to size x size and enlarged bilinearly."""
    small = F.interpolate(reals, size=(size, size), mode="area")
    return F.interpolate(small, size=reals.shape[-2:], mode="bilinear", align_corners=False)


def _binomial(images: Tensor, gain: float) -> Tensor:
    """Smooth with the separable 1-4-6-4-1 kernel, edges reflected; `gain` scales each axis."""
    taps = images.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) * (gain / 16)
    planes = F.pad(images, (2, 2, 2, 2), mode="reflect").flatten(0, 1)[:, None]  # [N*C, 1, H+4, W+4]
    smooth = F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, 5)), taps.view(1, 1, 5, 1))
    return smooth.reshape(images.shape)


def _halve(images: Tensor) -> Tensor:
    return _binomial(images, gain=1.0)[:, :, ::2, ::2]


def _double(images: Tensor) -> Tensor:
    """Put zeros between the pixels and smooth; the gain of 2 per axis makes up for the zeros."""
    n, c, h, w = images.shape
    spread = images.new_zeros(n, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = images
    return _binomial(spread, gain=2.0)


def _patch_positions(size: int, count: int, settings: SwdSettings) -> Tensor:
    """Top-left corners [count, patches, 2] (row, column), uniform over the places where a patch fits."""
    generator = torch.Generator().manual_seed(_key(settings.seed, size, purpose=1))
    return torch.randint(size - settings.patch_size + 1, (count, settings.patches_per_image, 2), generator=generator)


def _extract(images: Tensor, corners: Tensor, patch: int) -> Tensor:
    """Patches [N * P, C, patch * patch] of images [N, C, H, W] at corners [N, P, 2]."""
    n, channels, _, width = images.shape
    steps = torch.arange(patch, device=images.device)
    offsets = (steps[:, None] * width + steps).flatten()  # [patch * patch]
    index = (corners[..., 0] * width + corners[..., 1])[..., None] + offsets  # [N, P, patch * patch]
    picked = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, channels, -1))  # [N, C, P * patch * patch]
    return picked.view(n, channels, -1, patch * patch).transpose(1, 2).flatten(0, 1)


def _normalise(patches: Tensor) -> Tensor:
    """Descriptors [M, C * K] with mean 0 and deviation 1 per channel, from patches [M, C, K]."""
    mean = patches.mean(dim=(0, 2), keepdim=True)
    deviation = patches.std(dim=(0, 2), keepdim=True, correction=0).clamp_min(1e-8)  # a flat set stays flat
    return ((patches - mean) / deviation).flatten(1)


def _project(descriptors: Tensor, settings: SwdSettings, key: int) -> Tensor:
    """Coordinates [projections, M] of descriptors [M, D] along random unit directions."""
    generator = torch.Generator().manual_seed(_key(settings.seed, key, purpose=2))
    directions = F.normalize(torch.randn(settings.projections, descriptors.shape[1], generator=generator), dim=1)
    return directions.to(descriptors) @ descriptors.T


def _sort_rows(values: Tensor) -> Tensor:
    """Each row in ascending order; on the CPU through numpy, which carries no indices along and is many times faster."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def _key(seed: int, size: int, purpose: int) -> int:
    return (seed * 1_000_003 + size) * 8 + purpose
