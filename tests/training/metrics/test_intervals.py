"""95 % intervals contain the truth about 95 times in a hundred."""

from __future__ import annotations

import math

import pytest
import torch

from training.metrics.intervals import blocks, bootstrap, jackknife, jackknife_error, mean_interval, wilson

TRIALS = 300
TOLERANCE = (0.90, 0.99)
"""Three standard errors of a share of 300 around 0.95 and what approximations may cost."""


def coverage(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_wilson_covers_shares(rng):
    truth = 0.9
    counts = (torch.rand(TRIALS, 60, generator=rng) < truth).sum(dim=1).tolist()
    covered = coverage([low <= truth <= high for low, high in (wilson(count, 60) for count in counts)])
    assert TOLERANCE[0] <= covered <= TOLERANCE[1]


@pytest.mark.parametrize("successes", [0, 20])
def test_wilson_stays_between_nothing_and_all(successes):
    low, high = wilson(successes, 20)
    assert 0 <= low < high <= 1
    assert high - low < 0.2


def test_mean_interval_covers_means(rng):
    draws = torch.randn(TRIALS, 8, generator=rng) * 3 + 1
    assert TOLERANCE[0] <= coverage([low <= 1 <= high for low, high in map(mean_interval, draws)]) <= TOLERANCE[1]
    assert all(map(math.isnan, mean_interval([1.0])))


def test_bootstrap_covers_medians(rng):
    draws = torch.randn(60, 101, generator=rng)
    hits = []
    for rows in draws:
        low, high = bootstrap(lambda index, rows=rows: float(rows[index].median()), len(rows), resamples=200)
        hits.append(low <= 0 <= high)
    assert coverage(hits) >= 0.86


def test_jackknife_of_a_mean_is_the_textbook_error(rng):
    rows = torch.randn(40, generator=rng).double()
    without = [float(torch.cat([rows[:i], rows[i + 1 :]]).mean()) for i in range(40)]
    assert jackknife_error(without) == pytest.approx(float(rows.std()) / math.sqrt(40), rel=1e-12)
    low, high = jackknife(float(rows.mean()), without)
    assert (low, high) == pytest.approx(mean_interval(rows))
    assert jackknife(0.1, [0.0, 1.0], least=0.0)[0] == 0


def test_blocks_are_a_partition():
    for count, most in ((10, 3), (3, 10), (20, 20), (7, 1)):
        rows = [index for block in blocks(count, most) for index in range(count)[block]]
        sizes = {len(range(count)[block]) for block in blocks(count, most)}
        assert rows == list(range(count))
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1
