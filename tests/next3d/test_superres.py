"""Super-resolution."""

from __future__ import annotations

import pytest
import torch

from next3d.config import SuperresConfig
from next3d.superres import Superresolution


def superres(size: int, output: int, **changes) -> Superresolution:
    config = SuperresConfig(input_resolution=size, channels=(6, 5), **changes)
    return Superresolution(config, in_channels=4, image_resolution=output, style_size=8)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("resolution", [8, 16, 24], ids=["enlarged first", "as it is", "shrunk first"])
def test_every_rendering_resolution_gives_the_image_s_size(factor, resolution, rng):
    module = superres(16, 16 * factor)
    features = torch.randn(2, 4, resolution, resolution, generator=rng)
    image, first = module(features, torch.randn(2, 3, 8, generator=rng), "const")
    assert image.shape == (2, 3, 16 * factor, 16 * factor)
    assert first.shape == (2, 3, 8 * factor, 8 * factor)
    image.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_it_adds_to_the_upsampled_raw_image(rng):
    """With the blocks' outputs at zero the image is the raw image, enlarged."""
    module = superres(16, 32)
    for block in (module.block0, module.block1):
        torch.nn.init.zeros_(block.torgb.weight)
    flat = torch.zeros(1, 4, 16, 16)
    flat[:, 0], flat[:, 1], flat[:, 2] = 0.3, -0.7, 0.1
    image, _ = module(flat, torch.randn(1, 3, 8, generator=rng), "const")
    torch.testing.assert_close(image[0, :, 8:-8, 8:-8], torch.tensor([0.3, -0.7, 0.1])[:, None, None].expand(3, 16, 16))


def test_input_is_left_as_it_was(rng):
    """The published modules add in place; ours must not."""
    features = torch.randn(1, 4, 16, 16, generator=rng)
    before = features.clone()
    superres(16, 32)(features, torch.randn(1, 3, 8, generator=rng), "const")
    assert torch.equal(features, before)


def test_it_reads_the_last_style_row_only(rng):
    module, features, rows = superres(16, 32), torch.randn(1, 4, 16, 16, generator=rng), torch.randn(1, 5, 8, generator=rng)
    other = rows.clone()
    other[:, :-1] = 0
    assert torch.equal(module(features, rows, "const")[0], module(features, other, "const")[0])


def test_noise_only_where_the_configuration_says(rng):
    assert not any("noise" in name for name in superres(16, 32).state_dict())
    assert any("noise" in name for name in superres(16, 32, noise=True).state_dict())


@pytest.mark.parametrize(("size", "output"), [(16, 16), (16, 128), (24, 32)])
def test_refuses_other_factors(size, output):
    with pytest.raises(ValueError, match="factor of 2 or 4"):
        superres(size, output)
