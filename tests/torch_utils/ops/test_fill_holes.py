"""Filling holes: by hand, against a flood fill of scipy, and C++ against reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_utils.custom_ops import BackendError
from torch_utils.ops.fill_holes import fill_holes

BACKENDS = ["ref", "cpu"]
SHAPES = [(1, 1, 1, 1), (2, 1, 7, 5), (3, 1, 1, 9), (2, 1, 64, 31), (0, 1, 4, 4), (2, 1, 0, 4)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_ring_is_filled_and_bay_is_not(backend):
    """A hole behind a diagonal gap is closed, because paths go through edges; a bay that opens to the border stays."""
    mask = torch.tensor(
        [
            [0, 0, 0, 0, 0, 0, 0],
            [0, 1, 1, 0, 1, 1, 1],
            [0, 1, 0, 1, 1, 0, 0],
            [0, 1, 1, 1, 1, 1, 1],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    )
    expected = mask.clone()
    expected[2, 2] = 1
    assert torch.equal(fill_holes(mask[None, None].float(), backend=backend)[0, 0].long(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_scipy(shape, dtype, backend, rng):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = (torch.rand(shape, generator=rng) < 0.55).to(dtype)
    filled = fill_holes(mask, backend=backend)
    expected = [ndimage.binary_fill_holes(image[0].numpy()) for image in mask]
    assert filled.dtype == dtype
    assert filled.shape == mask.shape
    if mask.numel():
        np.testing.assert_array_equal(filled[:, 0].numpy(), np.stack(expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_spiral_is_followed_to_its_end(backend):
    """The path to the outside may be much longer than the image is wide."""
    mask = torch.ones(1, 1, 21, 21)
    for k in range(0, 10, 2):  # concentric corridors, joined alternately left and right
        mask[..., k : 21 - k, k] = mask[..., k : 21 - k, 20 - k] = mask[..., k, k : 21 - k] = mask[..., 20 - k, k : 21 - k] = 0
        mask[..., 10, k + 1 if k % 4 else 19 - k] = 0
    assert torch.equal(fill_holes(mask, backend=backend), mask)
    mask[..., 0, :] = mask[..., -1, :] = mask[..., :, 0] = mask[..., :, -1] = 1
    assert fill_holes(mask, backend=backend).eq(1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_the_corner_a_wall_cuts_others_off(backend):
    """Zeros count as outside only if joined to pixel (0, 0): the region behind a wall is filled although it touches the border."""
    mask = torch.tensor([[0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]])
    expected = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    assert torch.equal(fill_holes(mask[None, None].float(), start="corner", backend=backend)[0, 0].long(), expected)
    assert torch.equal(fill_holes(mask[None, None].float(), backend=backend)[0, 0, 0].long(), mask[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_a_corner_that_is_a_wall_everything_is_filled(backend):
    mask = torch.zeros(2, 1, 5, 3)
    mask[0, 0, 0, 0] = 1
    filled = fill_holes(mask, start="corner", backend=backend)
    assert filled[0].eq(1).all()
    assert filled[1].eq(0).all(), "images of a batch are filled apart"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_from_the_corner_equals_labelled_regions(shape, backend, rng):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = (torch.rand(shape, generator=rng) < 0.35).float()
    filled = fill_holes(mask, start="corner", backend=backend)
    assert filled.shape == mask.shape
    for image, found in zip(mask[:, 0].numpy(), filled[:, 0].numpy(), strict=True):
        if image.size:
            labels, _ = ndimage.label(image == 0)  # 0 where there is a wall
            np.testing.assert_array_equal(found == 0, (labels == labels[0, 0]) & (image == 0))


@pytest.mark.parametrize("start", ["border", "corner"])
def test_strides_do_not_matter(start, rng):
    mask = (torch.rand(3, 1, 40, 25, generator=rng) < 0.4).float().mT
    assert not mask.is_contiguous()
    expected = fill_holes(mask.contiguous(), start=start, backend="ref")
    for backend in BACKENDS:
        assert torch.equal(fill_holes(mask, start=start, backend=backend), expected)


def test_carries_no_gradient(rng):
    mask = torch.ones(1, 1, 4, 4, requires_grad=True)
    assert not fill_holes(mask, backend="ref").requires_grad
    assert not fill_holes(mask, backend="cpu").requires_grad


def test_operator_is_registered_as_torch_expects(rng):
    mask = (torch.rand(2, 1, 6, 5, generator=rng) < 0.5).float()
    fill_holes(mask, backend="cpu")  # loads it
    for corner in (False, True):
        torch.library.opcheck(torch.ops.next3d.fill_holes, (mask.clone().requires_grad_(), corner))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(2, 3, 4, 4), r"mask: shape \(2, 3, 4, 4\), expected \[B, 1, H, W\]"),
        (torch.zeros(4, 4), r"mask: shape \(4, 4\)"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.bool), "mask: dtype torch.bool, expected float32 or float64"),
    ],
    ids=["three channels", "no batch", "bool"],
)
def test_bad_input_is_named(mask, message):
    with pytest.raises(ValueError, match=message):
        fill_holes(mask)


def test_unknown_start_is_named():
    with pytest.raises(ValueError, match="start='centre', expected 'border' or 'corner'"):
        fill_holes(torch.zeros(1, 1, 4, 4), start="centre")


def test_missing_backend_is_an_error():
    with pytest.raises(BackendError, match="fill_holes: there is no 'cuda' backend"):
        fill_holes(torch.zeros(1, 1, 4, 4), backend="cuda")
