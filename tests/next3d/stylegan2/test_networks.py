"""Synthesis network and style-UNet: sizes, what each input reaches, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from next3d.stylegan2.style_unet import StyleUNet
from next3d.stylegan2.synthesis import SynthesisNetwork, block_resolutions, block_styles, style_rows


def idle(module: nn.Module) -> list[str]:
    """Parameters without a gradient."""
    return [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]


def synthesis(resolution: int) -> SynthesisNetwork:
    return SynthesisNetwork(style_size=8, resolution=resolution, image_channels=5, channel_base=64, channel_max=8)


def unet(**changes) -> StyleUNet:
    options = {
        "condition_channels": 5,
        "condition_resolution": 16,
        "bottleneck": 4,
        "output_resolution": 16,
        "image_channels": 3,
        "style_size": 8,
        "channel_base": 64,
        "channel_max": 8,
    }
    return StyleUNet(**(options | changes))


def rows_for(resolution: int, rng: torch.Generator) -> Tensor:
    return torch.randn(2, style_rows(resolution), 8, generator=rng)


def test_resolutions_and_rows():
    assert block_resolutions(4, 32) == [4, 8, 16, 32]
    assert block_resolutions(16, 16) == [16]
    assert [style_rows(resolution) for resolution in (4, 8, 64, 256)] == [2, 4, 10, 14]


@pytest.mark.parametrize("resolution", [8, 32])
def test_synthesis_size_and_gradients(resolution, rng):
    network = synthesis(resolution)
    image = network(rows_for(resolution, rng))
    assert image.shape == (2, 5, resolution, resolution)
    (image * torch.randn(image.shape, generator=rng)).sum().backward()
    assert not idle(network)


def test_every_style_row_is_read_and_shared_as_published(rng):
    """The 4x4 block reads rows 0 and 1, a later block's output and the next block's first convolution share one row."""
    network = synthesis(16).requires_grad_(False)
    rows = rows_for(16, rng).requires_grad_()
    network(rows).square().sum().backward()
    assert rows.grad is not None
    assert (rows.grad.abs().sum(dim=(0, 2)) > 0).all()
    numbered = torch.arange(6.0).reshape(1, 6, 1)
    assert block_styles(numbered, 8).flatten().tolist() == [1, 2, 3]
    assert block_styles(numbered, 16).flatten().tolist() == [3, 4, 5]


def test_synthesis_batch_is_independent(rng):
    network, rows = synthesis(16), rows_for(16, rng)
    torch.testing.assert_close(network(rows)[1:], network(rows[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"bottleneck": 8}, {"output_resolution": 32}, {"residual_blocks": 2}, {"condition_resolution": 32, "output_resolution": 32}],
    ids=["plain", "shallow", "enlarging", "residual blocks", "deep"],
)
def test_unet_size_and_gradients(changes, rng):
    network = unet(**changes)
    size, output = changes.get("condition_resolution", 16), changes.get("output_resolution", 16)
    condition = torch.randn(2, 5, size, size, generator=rng)
    image = network(condition, rows_for(output, rng))
    assert image.shape == (2, 3, output, output)
    (image * torch.randn(image.shape, generator=rng)).sum().backward()
    assert not idle(network)


def test_unet_sees_condition_and_style(rng):
    network = unet().requires_grad_(False)
    condition, rows = torch.randn(2, 5, 16, 16, generator=rng), rows_for(16, rng)
    image = network(condition, rows)
    assert not torch.allclose(network(condition + 0.1, rows), image)
    assert not torch.allclose(network(condition, rows.flip(0)), image)
    fine = torch.randn(2, 5, 16, 16, generator=rng)
    fine = fine - torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(fine, 4), scale_factor=4.0)
    assert not torch.allclose(network(condition + fine, rows), image), "detail that the bottleneck cannot carry"


def test_unet_is_local_where_it_can_be(rng):
    """A change in one corner of the condition changes that corner of the image: nothing is flipped on the way, at any scale."""
    shares = []
    for _ in range(6):
        network = unet(condition_resolution=32, output_resolution=32, bottleneck=8).requires_grad_(False)
        condition, rows = torch.randn(2, 5, 32, 32, generator=rng), rows_for(32, rng)
        changed = condition.clone()
        changed[..., 4:12, 20:28] += 3
        change = (network(changed, rows) - network(condition, rows)).abs().mean(dim=(0, 1))
        quadrants = torch.nn.functional.avg_pool2d(change.square()[None], 16)[0]
        shares.append(quadrants / quadrants.sum())
    assert torch.stack(shares).mean(dim=0)[0, 1] > 0.75


@pytest.mark.parametrize("changes", [{"bottleneck": 2}, {"bottleneck": 16}, {"output_resolution": 8}], ids=str)
def test_unet_refuses_sizes_that_do_not_nest(changes):
    with pytest.raises(ValueError, match="bottleneck"):
        unet(**changes)
