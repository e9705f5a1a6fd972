"""Kernel ridge regression: it fits, its left-out estimates are what fitting anew gives, groups add up what each tells."""

from __future__ import annotations

import pytest
import torch

from training.metrics.kernel_ridge import KernelRidge


@pytest.mark.parametrize("targets", [1, 3], ids=["one target", "three"])
@pytest.mark.parametrize("groups", [1, 2], ids=["one group", "two"])
def test_left_out_estimates_are_those_of_a_regression_without_the_row(rng, targets, groups):
    """Without the row in the sum, but with the same kernel and the same offset."""
    features = [torch.randn(40, 5, generator=rng, dtype=torch.float64) for _ in range(groups)]
    values = torch.randn(40, targets, generator=rng, dtype=torch.float64)
    regression, left_out = KernelRidge.fit_left_out(features, values, ridge=0.1)
    kernel = torch.stack([group.kernel(part) for group, part in zip(regression.groups, features, strict=True)]).mean(dim=0)
    for row in (0, 17, 39):
        rest = torch.arange(40) != row
        weights = torch.linalg.solve(kernel[rest][:, rest] + 0.1 * torch.eye(39), values[rest] - values.mean(dim=0))
        expected = kernel[row, rest] @ weights + values.mean(dim=0)
        torch.testing.assert_close(left_out[row], expected.float())


def test_one_target_is_a_column_of_several(rng):
    features, values = torch.randn(30, 4, generator=rng), torch.randn(30, 2, generator=rng)
    both, one = KernelRidge.fit(features, values), KernelRidge.fit([features], values[:, 1])
    new = torch.randn(7, 4, generator=rng)
    assert one.predict(new).shape == (7,)
    torch.testing.assert_close(both.predict(new)[:, 1], one.predict([new]))


def test_groups_tell_what_they_know(rng):
    """The sum of a function of each group is found far better by two kernels than by one over everything."""
    features = torch.randn(400, 12, generator=rng)
    values = features[:, 0].sin() + features[:, 6].cos()
    parts = [features[:, :6], features[:, 6:]]
    split = KernelRidge.fit([part[:300] for part in parts], values[:300])
    whole = KernelRidge.fit(features[:300], values[:300])
    error = (split.predict([part[300:] for part in parts]) - values[300:]).abs().mean()
    assert error < 0.8 * (whole.predict(features[300:]) - values[300:]).abs().mean()
