"""The sliced Wasserstein distance as figures: halves of one set are near each other, and leaving images out leaves their patches out."""

from __future__ import annotations

import pytest
import torch

from tests.training.metrics.test_swd import FAST, blobs, flat
from training.metrics.intervals import jackknife
from training.metrics.swd import blurred, named_levels, project, projected_distance, sliced_wasserstein
from training.metrics.swd_figures import halves, leave_blocks_out


@pytest.fixture(scope="module")
def reals() -> torch.Tensor:
    return blobs(192, seed=1)


def test_halves_of_the_real_set_are_near_each_other(reals):
    floor = halves(project(reals, FAST))
    half = reals[:96]
    far = named_levels(sliced_wasserstein(half, flat(half), FAST))
    assert all(floor[level] < share * far[level] for level, share in (("mean", 0.1), ("64", 0.1), ("32", 0.1), ("16", 0.4)))
    assert floor["64"] < 0.4 * sliced_wasserstein(half, blurred(half), FAST)[64]


def test_leaving_images_out_leaves_their_patches_out(reals):
    """Up to the normalisation, which stays that of the whole set."""
    few = project(reals[:20], FAST)
    less = few.without(slice(0, 5))
    assert less.count == 15
    for size, values in few.levels.items():
        assert torch.equal(less.levels[size], values[:, 5 * FAST.patches_per_image :])


def test_interval_covers_the_mean_of_repetitions():
    values, intervals = [], []
    for seed in range(16):
        real, fake = (project(images, FAST) for images in (blobs(24, 100 + seed, size=16), flat(blobs(24, 200 + seed, size=16)) * 2))
        levels = named_levels(projected_distance(real, fake))
        values.append(levels["mean"])
        intervals.append(jackknife(levels["mean"], leave_blocks_out(real, fake)["mean"]))
    mean = sum(values) / len(values)
    assert sum(low <= mean <= high for low, high in intervals) >= 13
    assert all(high - low < mean for low, high in intervals)
