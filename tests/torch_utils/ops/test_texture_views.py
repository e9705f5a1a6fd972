"""Textures in several views: what they mean, and C++ against PyTorch's grid_sample, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from torch_utils.custom_ops import BackendError
from torch_utils.ops.texture_views import texture_views

PLANES = [0, 1, 2, 2]
BACKENDS = ["ref", "cpu"]


def scene(rng: torch.Generator, shape: tuple[int, ...], size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """A random texture, uv of which some lie outside, and weights of which half are zero."""
    texture = torch.randn(shape, generator=rng, dtype=dtype)
    uv = torch.rand(shape[0], 4, size, size + 2, 2, generator=rng, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(uv.shape[:4], generator=rng, dtype=dtype)
    return texture, uv, weights * (weights > 0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_texel_goes_to_the_plane_of_its_view(backend):
    """At the centre of a texel each view gives that texel, times its weight; two views of a plane add up; row 0 of the texture is v = 1."""
    texture = torch.arange(16.0).reshape(1, 1, 4, 4)
    centers = torch.tensor([[0.125, 0.875], [0.375, 0.875], [0.125, 0.625], [0.875, 0.125]])  # texels 0, 1, 4, 15
    uv = centers.view(1, 4, 1, 1, 2)
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0]).view(1, 4, 1, 1)
    planes = texture_views(texture, uv, weights, PLANES, backend=backend)
    torch.testing.assert_close(planes.flatten(), torch.tensor([0.0, 0.5, 2 * 4.0 + 15.0]))


@pytest.mark.parametrize("shape", [(2, 8, 16, 16), (1, 12, 5, 9), (3, 5, 7, 4), (2, 3, 1, 1)], ids=str)
def test_cpp_equals_reference(shape, rng):
    texture, uv, weights = scene(rng, shape, 9)
    flow = torch.randn(shape[0], 3, shape[1], 9, 11, generator=rng)
    results = []
    for backend in BACKENDS:
        leaf = texture.clone().requires_grad_()
        found = texture_views(leaf, uv, weights, PLANES, backend=backend)
        results.append((found, torch.autograd.grad(found, leaf, flow)[0]))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_strides_do_not_matter(rng):
    texture, uv, weights = scene(rng, (2, 4, 6, 6), 5)
    plain = texture_views(texture, uv, weights, PLANES, backend="cpu")
    strided = (texture.contiguous(memory_format=torch.channels_last), uv.mT.contiguous().mT, weights.mT.contiguous().mT)
    assert torch.equal(texture_views(*strided, PLANES, backend="cpu"), plain)


def test_gradients_match_finite_differences(rng):
    texture, uv, weights = scene(rng, (2, 3, 4, 5), 3, torch.float64)
    function = lambda leaf: texture_views(leaf, uv, weights, PLANES, backend="cpu")  # noqa: E731
    assert torch.autograd.gradcheck(function, (texture.requires_grad_(),), check_batched_grad=False)


def test_gradients_of_uv_and_weights_take_the_reference(rng):
    """Fitting heads needs them; asked for by name, the C++ version says that it has none."""
    texture, uv, weights = scene(rng, (1, 3, 4, 4), 3)
    leaves = uv.requires_grad_(), weights.requires_grad_()
    given = torch.autograd.grad(texture_views(texture, uv, weights, PLANES).square().sum(), leaves)
    expected = torch.autograd.grad(texture_views(texture, uv, weights, PLANES, backend="ref").square().sum(), leaves)
    assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
    with pytest.raises(NotImplementedError, match="no gradients of uv and weights"):
        texture_views(texture.requires_grad_(), uv, weights, PLANES, backend="cpu").sum().backward()


def test_odd_uv_stay_inside(rng):
    """NaN and infinity read some texel of the edge."""
    texture = torch.rand(1, 3, 4, 4, generator=rng)
    uv = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30]).view(1, 4, 1, 1, 1).expand(1, 4, 1, 1, 2)
    assert texture_views(texture, uv, torch.ones(1, 4, 1, 1), PLANES, backend="cpu").isfinite().all()


def test_result_does_not_depend_on_threads(rng):
    texture, uv, weights = scene(rng, (3, 8, 16, 16), 40)
    texture.requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found = texture_views(texture, uv, weights, PLANES, backend="cpu")
            results.append((found, torch.autograd.grad(found.square().sum(), texture)[0]))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_operators_are_registered_as_torch_expects(rng):
    texture, uv, weights = scene(rng, (2, 4, 5, 5), 3)
    texture_views(texture, uv, weights, PLANES, backend="cpu")  # loads them
    torch.library.opcheck(torch.ops.next3d.texture_views, (texture.requires_grad_(), uv, weights, PLANES))


def test_flops_are_counted(rng):
    with FlopCounterMode(display=False) as counter:
        texture_views(*scene(rng, (2, 4, 5, 5), 3), PLANES, backend="cpu")
    assert counter.get_total_flops() == 2 * 4 * 4 * 2 * 4 * 3 * 5


BAD_INPUT = {
    "three views": (torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 5, 5, 2), torch.zeros(1, 3, 5, 5), "planes=.* for 3 views"),
    "weights of another size": (torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 5, 5, 2), torch.zeros(1, 4, 5, 6), "weights .1, 4, 5, 6."),
    "other batch": (torch.zeros(2, 2, 4, 4), torch.zeros(1, 4, 5, 5, 2), torch.zeros(1, 4, 5, 5), "texture .2, 2, 4, 4."),
    "other dtype": (torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 5, 5, 2).double(), torch.zeros(1, 4, 5, 5), "uv torch.float64"),
}


@pytest.mark.parametrize(("texture", "uv", "weights", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_named(texture, uv, weights, message):
    with pytest.raises(ValueError, match=message):
        texture_views(texture, uv, weights, PLANES)


def test_missing_backend_is_an_error(rng):
    with pytest.raises(BackendError, match="texture_views: there is no 'cuda' backend"):
        texture_views(*scene(rng, (1, 2, 5, 5), 3), PLANES, backend="cuda")
