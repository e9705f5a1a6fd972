"""Sliced Wasserstein distance: what it must ignore, what it must see, and at which level."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.metrics.swd import (
    SwdSettings,
    blurred,
    distance,
    laplacian_pyramid,
    level_sizes,
    mean_image_with_noise,
    mean_level,
    prepare,
    sliced_wasserstein,
)

FAST = SwdSettings(patches_per_image=24, projections=48)


def blobs(count: int, seed: int, size: int = 64) -> Tensor:
    """Images [count, 3, size, size] with structure at every scale: random fields of four sizes added up."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(count, 3, side, side, generator=generator) for side in (4, 16, 32, size)]
    enlarged = [F.interpolate(layer, size=(size, size), mode="bilinear", align_corners=False) for layer in layers]
    return 0.2 * torch.stack(enlarged).sum(dim=0)


def flat(images: Tensor) -> Tensor:
    """Every image replaced by its mean colour."""
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


@pytest.fixture(scope="module")
def reals() -> Tensor:
    return blobs(96, seed=1)


@pytest.mark.parametrize(
    ("resolution", "levels"), [(64, [64, 32, 16]), (16, [16]), (48, [48, 24]), (20, [20]), (512, [512, 256, 128, 64, 32, 16])]
)
def test_levels_halve_down_to_sixteen(resolution, levels):
    assert level_sizes(resolution) == levels


def test_pyramid_of_a_ramp_has_no_detail():
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    fine, middle, rest = laplacian_pyramid(ramp)
    inside = slice(8, -8)
    assert fine[..., inside, inside].abs().max() < 1e-6
    assert middle[..., 8:-8, 8:-8].abs().max() < 1e-6
    assert rest.shape == (1, 3, 16, 16)
    assert rest.std() > 0.4


def test_pyramid_separates_frequencies():
    """A checkerboard lives in the finest level only."""
    index = torch.arange(64)
    board = (1 - 2 * ((index[:, None] + index) % 2)).float().expand(1, 3, 64, 64)
    fine, middle, rest = laplacian_pyramid(board)
    torch.testing.assert_close(fine, board)
    assert max(float(middle.abs().max()), float(rest.abs().max())) < 1e-6


def test_equal_sets_are_at_distance_zero(reals):
    assert all(value == 0 for value in sliced_wasserstein(reals, reals.clone(), FAST).values())


def test_order_does_not_matter(reals):
    """Shuffling the images costs no more than drawing other images of the same kind."""
    reference = prepare(reals, FAST)
    shuffled = distance(prepare(reals.flip(0), FAST), reference)
    others = distance(prepare(blobs(len(reals), seed=2), FAST), reference)
    assert all(shuffled[level] < 1.5 * others[level] for level in others)
    assert max(mean_level(shuffled), mean_level(others)) < 0.1 * mean_level(distance(prepare(flat(reals), FAST), reference))


def test_symmetric_and_deterministic(reals):
    other = blurred(reals)
    assert sliced_wasserstein(reals, other, FAST) == sliced_wasserstein(reals, other, FAST)
    assert sliced_wasserstein(reals, other, FAST) == pytest.approx(sliced_wasserstein(other, reals, FAST))


def test_losing_the_finest_detail_shows_at_the_finest_level(reals):
    soft = F.avg_pool2d(F.pad(reals, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    soft_32 = F.interpolate(reals, size=(32, 32), mode="area")
    without_detail = F.interpolate(soft_32, size=(64, 64), mode="bilinear", align_corners=False)
    for changed in (soft, without_detail):
        levels = sliced_wasserstein(reals, changed, FAST)
        assert levels[64] > 4 * levels[16]
        assert levels[64] > 2 * levels[32]


def test_grows_with_the_share_of_wrong_images(reals):
    reference = prepare(blobs(len(reals), seed=3), FAST)
    wrong = flat(reals)
    means = []
    for share in (0, 24, 48, 96):
        means.append(mean_level(distance(prepare(torch.cat([wrong[:share], reals[share:]]), FAST), reference)))
    assert means == sorted(means)
    assert means[-1] > 4 * means[0]


def test_contrast_and_brightness_are_normalised_away(reals):
    """The descriptors are normalised per channel: gain and offset of a whole set change nothing."""
    gain = torch.tensor([0.5, 1.5, 1.0]).view(1, 3, 1, 1)
    levels = sliced_wasserstein(reals, reals * gain + 0.1, FAST)
    assert max(levels.values()) < 0.01


def test_resolutions_that_are_not_powers_of_two(reals):
    odd = F.interpolate(reals[:8], size=(44, 44), mode="area")
    assert list(sliced_wasserstein(odd, odd.flip(0), FAST)) == [44, 22]


@pytest.mark.parametrize(
    "images", [torch.zeros(0, 3, 64, 64), torch.zeros(4, 3, 64, 32), torch.zeros(4, 3, 4, 4)], ids=["none", "oblong", "small"]
)
def test_unusable_images_are_refused(images):
    with pytest.raises(ValueError, match="SWD"):
        prepare(images, FAST)


def test_sets_of_different_size_are_refused(reals):
    with pytest.raises(ValueError, match="same number"):
        sliced_wasserstein(reals, reals[:10], FAST)


def test_mean_image_with_noise_has_the_reals_mean_and_deviation():
    images = blobs(2000, seed=4, size=8)
    images[:, 0] *= 3
    noisy = mean_image_with_noise(images)
    torch.testing.assert_close(noisy.mean(dim=0), images.mean(dim=0), atol=0.1, rtol=0)
    torch.testing.assert_close(noisy.std(dim=0), images.std(dim=0), atol=0.02, rtol=0.1)
    pixels = (noisy - noisy.mean(dim=0)).flatten(1)
    assert abs(float(torch.corrcoef(pixels[:, :2].T)[0, 1])) < 0.1, "neighbouring pixels must be independent"


def test_blurred_keeps_only_eight_squared_numbers():
    images = blobs(3, seed=5)
    again = F.interpolate(blurred(images), size=(8, 8), mode="area")
    assert blurred(images).shape == images.shape
    assert (again - F.interpolate(images, size=(8, 8), mode="area")).abs().mean() < 0.1
    smooth = blurred(images)
    assert smooth.diff(dim=3).abs().mean() < 0.2 * images.diff(dim=3).abs().mean()
