"""Tri-plane lookups: what they mean, and C++ against PyTorch's grid_sample, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from torch_utils.custom_ops import BackendError
from torch_utils.ops.triplane import sample_planes

AXES = ((0, 1), (0, 2), (2, 1))
BACKENDS = ["ref", "cpu"]


def scene(rng: torch.Generator, shape: tuple[int, ...], points: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Random planes and points, some of them on the border of the cube or outside."""
    features = torch.randn(shape, generator=rng, dtype=dtype)
    return features, (torch.rand(shape[0], points, 3, generator=rng, dtype=dtype) - 0.5) * 2.6


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_of_the_three_planes(backend):
    """At the centre of a pixel of each plane the lookup is the mean of those three pixels; outside the cube it is zero."""
    features = torch.arange(3.0 * 4 * 4).reshape(1, 3, 1, 4, 4)
    center = (torch.tensor([2, 0, 1]) + 0.5) / 4 * 2 - 1  # x in column 2, y in row 0, z in row or column 1 of a box of side 2
    points = torch.stack([center, torch.tensor([9.0, 0.0, 0.0]), torch.tensor([9.0, 9.0, 9.0])])[None]
    expected = (features[0, 0, 0, 0, 2] + features[0, 1, 0, 1, 2] + features[0, 2, 0, 0, 1]) / 3
    found = sample_planes(features, points, axes=AXES, box_warp=2.0, backend=backend)[0, :, 0]
    torch.testing.assert_close(found[0], expected)
    assert found[1] != 0, "the side plane (z, y) does not see x"
    assert found[2] == 0


@pytest.mark.parametrize("shape", [(2, 3, 8, 16, 16), (3, 3, 16, 5, 9), (1, 3, 12, 6, 7), (1, 3, 32, 7, 7), (2, 3, 5, 1, 1)], ids=str)
def test_cpp_equals_reference(shape, rng):
    """Values, and gradients of features and points; 130 points do not fill the last block."""
    features, points = (t.requires_grad_() for t in scene(rng, shape, 130))
    weights = torch.randn(shape[0], 130, shape[2], generator=rng)
    results = {}
    for backend in BACKENDS:
        found = sample_planes(features, points, axes=AXES, box_warp=1.7, backend=backend)
        results[backend] = (found, *torch.autograd.grad((found * weights).sum(), (features, points)))
    for actual, expected in zip(results["cpu"], results["ref"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-5)


def test_cpp_equals_reference_for_strides(rng):
    features, points = scene(rng, (2, 3, 8, 6, 10), 50)
    strided = features.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)
    places = points.transpose(1, 2).contiguous().transpose(1, 2)
    actual = sample_planes(strided, places, axes=AXES, box_warp=1.0, backend="cpu")
    torch.testing.assert_close(actual, sample_planes(features, points, axes=AXES, box_warp=1.0, backend="ref"))


def test_planes_whose_channels_lie_side_by_side_are_not_copied(rng):
    """The order that our networks' planes have, and in which gradients come back: values and gradients are those of any other order."""
    features, points = scene(rng, (2, 3, 12, 6, 10), 50)
    found = []
    for leaf in (features, features.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)):
        looked_up = sample_planes(leaf.requires_grad_(), points, axes=AXES, box_warp=1.0, backend="cpu")
        (gradient,) = torch.autograd.grad(looked_up.square().sum(), leaf)
        assert gradient.permute(0, 3, 4, 1, 2).is_contiguous()
        found.append((looked_up, gradient))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("channels", [3, 8])
def test_gradients_match_finite_differences(channels, rng):
    features, points = (t.requires_grad_() for t in scene(rng, (2, 3, channels, 5, 5), 7, torch.float64))
    assert torch.autograd.gradcheck(
        lambda f, p: sample_planes(f, p, axes=AXES, box_warp=1.5, backend="cpu"), (features, points), check_batched_grad=False
    )


@pytest.mark.parametrize("wanted", ["features", "points"])
def test_gradient_of_one_input_alone(wanted, rng):
    features, points = scene(rng, (1, 3, 8, 5, 5), 20)
    leaf = (features if wanted == "features" else points).requires_grad_()
    gradients = [torch.autograd.grad(sample_planes(features, points, axes=AXES, box_warp=1.0, backend=b).sum(), leaf)[0] for b in BACKENDS]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_odd_points_read_zeros(rng):
    """NaN and infinity are outside of everything."""
    features, _ = scene(rng, (1, 3, 8, 5, 5), 1)
    points = torch.tensor([[[torch.nan] * 3, [torch.inf] * 3, [-torch.inf] * 3, [1e30] * 3]])
    assert sample_planes(features, points, axes=AXES, box_warp=1.0, backend="cpu").eq(0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_points(backend, rng):
    features, points = scene(rng, (2, 3, 8, 5, 5), 0)
    assert sample_planes(features, points, axes=AXES, box_warp=1.0, backend=backend).shape == (2, 0, 8)


def test_result_does_not_depend_on_threads(rng):
    features, points = (t.requires_grad_() for t in scene(rng, (2, 3, 8, 9, 9), 5000))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found = sample_planes(features, points, axes=AXES, box_warp=2.0, backend="cpu")
            results.append((found, *torch.autograd.grad(found.square().sum(), (features, points))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_operators_are_registered_as_torch_expects(rng):
    features, points = (t.requires_grad_() for t in scene(rng, (2, 3, 4, 5, 5), 6))
    sample_planes(features, points, axes=AXES, box_warp=1.0, backend="cpu")  # loads them
    torch.library.opcheck(torch.ops.next3d.sample_planes, (features, points, [0, 1, 0, 2, 2, 1], 2.0))


def test_flops_are_counted(rng):
    features, points = scene(rng, (2, 3, 4, 5, 5), 6)
    with FlopCounterMode(display=False) as counter:
        sample_planes(features, points, axes=AXES, box_warp=1.0, backend="cpu")
    assert counter.get_total_flops() == 2 * 4 * 3 * 4 * 12


BAD_INPUT = {
    "four planes": (torch.zeros(1, 4, 2, 5, 5), torch.zeros(1, 6, 3), r"features: shape \(1, 4, 2, 5, 5\), expected \[N, 3, C, P, P\]"),
    "points in 2D": (torch.zeros(1, 3, 2, 5, 5), torch.zeros(1, 6, 2), r"points: shape \(1, 6, 2\), expected \[1, M, 3\]"),
    "other batch": (torch.zeros(1, 3, 2, 5, 5), torch.zeros(2, 6, 3), r"points: shape \(2, 6, 3\), expected \[1, M, 3\]"),
    "other dtype": (torch.zeros(1, 3, 2, 5, 5), torch.zeros(1, 6, 3).double(), "points are torch.float64, features torch.float32"),
}


@pytest.mark.parametrize(("features", "points", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_named(features, points, message):
    with pytest.raises(ValueError, match=message):
        sample_planes(features, points, axes=AXES, box_warp=1.0)


def test_missing_backend_is_an_error(rng):
    with pytest.raises(BackendError, match="triplane: there is no 'cuda' backend"):
        sample_planes(*scene(rng, (1, 3, 2, 5, 5), 3), axes=AXES, box_warp=1.0, backend="cuda")
