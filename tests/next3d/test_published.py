"""Networks with the reference weights give the reference numbers: layers, kernels and their conventions are the published ones.

Only parts that do what the published networks do are compared: rasters, side plane, mouth box and the positions of ray samples differ
on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from next3d.config import DiscriminatorConfig, SuperresConfig
from next3d.decoder import Decoder
from next3d.discriminator import Discriminator
from next3d.stylegan2.mapping import MappingNetwork
from next3d.stylegan2.style_unet import StyleUNet
from next3d.stylegan2.synthesis import SynthesisNetwork
from next3d.superres import Superresolution
from torch_utils.ops.triplane import sample_planes

SIZES = {"style_size": 512, "channel_base": 2048, "channel_max": 32}
"""Of the small reference networks."""

Module = TypeVar("Module", bound=nn.Module)


class Arrays:
    """One file of reference numbers; each array is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.opened = np.load(path, allow_pickle=False)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.opened[name], dtype=np.float32))


Read = Callable[[str], Arrays]


@pytest.fixture(scope="module")
def read(shared_dir: Path) -> Read:
    """Reads a file of reference numbers; tests that need one that is not there are skipped."""

    def arrays(name: str) -> Arrays:
        path = shared_dir / "golden" / name
        if not path.exists():
            pytest.skip(f"no {name} in ../shared/golden")
        return Arrays(path)

    return arrays


def filled(module: Module, weights: Arrays, prefix: str = "") -> Module:
    """The module with the published weights under `prefix`; every tensor of ours must be there in the same shape."""
    own = module.state_dict()
    own.pop("mapping.w_avg", None)  # the discriminator's mapping is never truncated
    module.load_state_dict({name: weights[prefix + name].reshape(value.shape) for name, value in own.items()}, strict=False)
    return module.eval().requires_grad_(False)


def assert_agree(found: Tensor, expected: Tensor, *, largest: float, rms: float) -> None:
    """Errors relative to the largest value and to the whole, as the reference's own noise floor is given."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) <= largest
    assert float((found - expected).norm() / expected.norm()) <= rms


def test_discriminator_and_its_gradient_penalty(read):
    given = read("next3d_disc_small.io.npz")
    config = DiscriminatorConfig(image_resolution=128, channel_base=2048, channel_max=64, mesh_image=False)
    module = filled(Discriminator(config), read("next3d_disc_small.state.npz"))
    image, raw = given["in/image"].requires_grad_(), given["in/image_raw"].requires_grad_()
    logits = module(image, raw, None, given["in/c"])
    torch.testing.assert_close(logits, given["logits"], rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(logits.sum(), (image, raw))
    assert_agree(gradients[0], given["r1/grad_image"], largest=0.01, rms=2e-3)
    assert_agree(gradients[1], given["r1/grad_image_raw"], largest=0.01, rms=2e-3)
    penalty = sum(gradient.square().sum(dim=(1, 2, 3)) for gradient in gradients)
    torch.testing.assert_close(penalty, given["r1/penalty"], rtol=1e-3, atol=0)
    single = module(image[:1], raw[:1], None, given["in/c"][:1])
    torch.testing.assert_close(single, given["logits_single0"], rtol=0, atol=1e-5)


def test_mapping_and_truncation(read):
    given = read("eg3d_small.io.npz")
    module = filled(MappingNetwork(64, 25, 512, layers=2), read("eg3d_small.state.npz"), "backbone.mapping.")
    rows = module(given["in/z"], given["in/c"])[:, None].expand(-1, 14, -1)
    torch.testing.assert_close(rows, given["A/ws"], rtol=0, atol=2e-5)
    torch.testing.assert_close(module.truncate(rows, 0.7, 7), given["B/ws"], rtol=0, atol=2e-5)


def test_synthesis_and_decoder(read):
    """EG3D's planes, and density and colour at points of its cube, with its own plane axes."""
    weights, given = read("eg3d_small.state.npz"), read("eg3d_small.io.npz")
    module = filled(SynthesisNetwork(resolution=256, image_channels=96, **SIZES), weights, "backbone.synthesis.")
    planes = module(given["A/ws"][:1])
    assert_agree(planes[..., 3::8, 3::8], given["A/planes/sub"][:1], largest=2e-5, rms=1e-5)
    features = sample_planes(planes.unflatten(1, (3, -1)), given["S/points"][:1], axes=((0, 1), (0, 2), (2, 0)), box_warp=1.0)
    found = filled(Decoder(32, hidden=64, out_features=32), weights, "decoder.")(features)
    assert_agree(found.density[..., None], given["S/sigma"][:1], largest=2e-5, rms=1e-5)
    assert_agree(found.features, given["S/rgb"][:1], largest=2e-5, rms=1e-5)


def test_style_unet(read):
    """The released mouth network on the stored crop."""
    weights, given = read("next3d_small.state.npz"), read("next3d_small.io.npz")
    crop, rows = given["A/mouth_crop64"], given["A/ws"][:, :14]
    if crop.shape[-1] != 64:
        pytest.skip("the stored crop is thinned")
    module = StyleUNet(condition_channels=32, condition_resolution=64, bottleneck=4, output_resolution=256, image_channels=32, **SIZES)
    filled(module, weights, "mouth_backbone.synthesis.")
    assert_agree(module(crop[:1], rows[:1])[..., 3::8, 3::8], given["A/mouth_plane/sub"][:1], largest=2e-5, rms=1e-5)


def test_superresolution(read):
    """The released 2x module from the stored rendered features."""
    weights, given = read("next3d_small.state.npz"), read("next3d_small.io.npz")
    config = SuperresConfig(input_resolution=64, channels=(128, 64))
    module = Superresolution(config, in_channels=32, image_resolution=128, style_size=512)
    filled(module, weights, "superresolution.")
    features = given["A/feature_samples"][:1].mT.unflatten(2, (32, 32))
    image = module(features, given["A/ws"][:1, :14], "none")
    assert_agree(image, given["A/image"][:1], largest=5e-4, rms=3e-5)
