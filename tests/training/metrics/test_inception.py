"""InceptionV3: the published names and shapes, FID's own way of pooling, and any picture size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.metrics.inception import InceptionV3, average, maximum


def test_names_and_shapes_of_the_published_file():
    """Facts of the published file: a few shapes of every kind of block, and the numbers of tensors and parameters."""
    with torch.device("meta"):
        network = InceptionV3()
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    expected = {
        "Conv2d_1a_3x3.conv.weight": [32, 3, 3, 3],
        "Conv2d_4a_3x3.bn.running_var": [192],
        "Mixed_5b.branch5x5_2.conv.weight": [64, 48, 5, 5],
        "Mixed_5d.branch_pool.conv.weight": [64, 288, 1, 1],
        "Mixed_6a.branch3x3dbl_3.conv.weight": [96, 96, 3, 3],
        "Mixed_6b.branch7x7_2.conv.weight": [128, 128, 1, 7],
        "Mixed_6e.branch7x7dbl_4.conv.weight": [192, 192, 7, 1],
        "Mixed_7a.branch7x7x3_4.conv.weight": [192, 192, 3, 3],
        "Mixed_7b.branch3x3_2a.conv.weight": [384, 384, 1, 3],
        "Mixed_7c.branch3x3dbl_3b.conv.weight": [384, 384, 3, 1],
        "Mixed_7c.branch_pool.bn.bias": [192],
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert network.features == 2048
    assert sum(name.endswith("conv.weight") for name in shapes) == 94
    assert sum(parameter.numel() for parameter in network.parameters()) == 21_785_568


def test_average_leaves_padding_out():
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(average(ones), ones)
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 0, 0] = 4
    assert float(average(corner)[..., 0, 0]) == 1  # of the four pixels that exist
    assert float(maximum(-ones).max()) == -1  # padding is no pixel


@pytest.fixture(scope="module")
def small() -> InceptionV3:
    torch.manual_seed(0)
    return InceptionV3(width=1 / 16).eval()


@torch.inference_mode()
def test_pictures_of_any_size(small, rng):
    images = torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1
    features = small(images)
    assert features.shape == (2, 128)
    enlarged = F.interpolate(images, size=(299, 299), mode="bilinear")
    torch.testing.assert_close(small(enlarged), features)
    torch.testing.assert_close(small(images[1:]), features[1:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features[0], features[1], rtol=1e-3)


@torch.inference_mode()
def test_last_block_takes_the_maximum(small):
    """The pooling branch comes last; it differs between the two blocks only by how it pools."""
    x = torch.randn(1, small.Mixed_7b.outputs, 8, 8)
    pooled = small.Mixed_7c(x)[:, -12:]
    torch.testing.assert_close(pooled, small.Mixed_7c.branch_pool(maximum(x)))
    y = torch.randn(1, small.Mixed_7a.outputs, 8, 8)
    torch.testing.assert_close(small.Mixed_7b(y)[:, -12:], small.Mixed_7b.branch_pool(average(y)))
