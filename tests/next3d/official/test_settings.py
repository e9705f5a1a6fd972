"""Configurations of released networks follow from their arguments and tensors; what cannot be built is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dnnlib.errors import CheckpointError
from next3d.config import GeneratorConfig
from next3d.discriminator import Discriminator
from next3d.generator import TriplaneGenerator
from next3d.official import load_official_state
from next3d.official.settings import discriminator_config, generator_config, kind_of
from next3d.render.cameras import orbit_camera
from tests.models import labels
from tests.reference import tiny

MODULES = {
    "SuperresolutionHybrid2X": (64, 128),
    "SuperresolutionHybrid4X": (128, 256),
    "SuperresolutionHybrid8X": (128, 512),
    "SuperresolutionHybrid8XDC": (128, 512),
}
Edit = Callable[[tiny.State, dict[str, Any]], object]


@pytest.fixture(scope="module")
def eg3d_tensors() -> tiny.State:
    return tiny.eg3d_state(0)


@pytest.fixture(scope="module")
def next3d_tensors(head) -> tiny.State:
    return tiny.next3d_state(0, head.topology)


@pytest.fixture(scope="module")
def judge_tensors() -> tiny.State:
    return tiny.discriminator_state(0)


def built(tensors: tiny.State, arguments: dict[str, Any]) -> TriplaneGenerator:
    module = load_official_state(tensors, arguments)
    assert isinstance(module, TriplaneGenerator)
    return module


def latents() -> Tensor:
    return torch.randn(2, tiny.LATENT, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("module", MODULES)
def test_every_super_resolution_module_runs(module):
    width, resolution = MODULES[module]
    generator = built(tiny.eg3d_state(0, width, resolution), tiny.eg3d_arguments(module, resolution))
    assert generator.config.superres.input_resolution == width
    assert generator.config.superres.channels == tiny.SUPERRES_CHANNELS
    assert generator.config.superres.clamp == 256
    styles = generator.mapping(latents()[:1], labels(1))
    planes = generator.still(generator.identity(styles))
    output = generator.render(planes, orbit_camera(torch.zeros(1), torch.zeros(1)), styles, resolution=16)
    assert output.image.shape == (1, 3, resolution, resolution)
    assert torch.isfinite(output.image).all()


def test_what_the_tensors_say(next3d_tensors):
    """No argument names these: planes, texture, mouth, decoder and mapping are read from shapes."""
    config = generator_config("released-next3d", next3d_tensors, tiny.next3d_arguments(), None)
    assert isinstance(config, GeneratorConfig)
    assert (config.plane_resolution, config.texture_resolution, config.plane_channels) == (64, 32, 4)
    assert (config.mouth.bottleneck, config.mouth.resolution, config.mouth.output_resolution) == (4, 64, 64)
    assert config.mouth.blend_bottleneck == 16
    assert (config.render.decoder_hidden, config.render.feature_channels) == (tiny.HIDDEN, tiny.FEATURES)
    assert config.mapping.layers == 2
    assert config.label_size == 25
    assert not config.head, "the mesh names no head model"
    assert config.render.resolution == 64
    assert generator_config("released-next3d", next3d_tensors, tiny.next3d_arguments(), 128).render.resolution == 128


def test_what_the_arguments_say(eg3d_tensors):
    arguments = tiny.eg3d_arguments(ray_start=0.1, ray_end=2.6, box_warp=1.6, depth_resolution=7, depth_resolution_importance=9)
    config = generator_config("released-eg3d", eg3d_tensors, arguments | {"conv_clamp": 256, "sr_num_fp16_res": 0}, None)
    render = config.render
    assert (render.ray_start, render.ray_end, render.box_warp) == (0.1, 2.6, 1.6)
    assert (render.coarse_samples, render.fine_samples) == (7, 9)
    assert config.clamp == 256
    assert config.superres.clamp is None, "without half precision there is no limit"
    assert generator_config("released-eg3d", eg3d_tensors, tiny.eg3d_arguments(sr_antialias=False), None).superres.antialias is False


def test_hidden_labels_change_nothing(eg3d_tensors):
    hidden, shown = (built(eg3d_tensors, tiny.eg3d_arguments(c_gen_conditioning_zero=zero)) for zero in (True, False))
    z, c = latents(), labels(2)
    assert torch.equal(hidden.mapping(z, c).static, hidden.mapping(z, 0 * c).static)
    assert not torch.equal(shown.mapping(z, c).static, shown.mapping(z, 0 * c).static)
    assert torch.equal(shown.mapping(z, 0 * c).static, hidden.mapping(z, c).static)


def test_labels_are_scaled(eg3d_tensors):
    half, whole = (built(eg3d_tensors, tiny.eg3d_arguments(c_scale=scale)) for scale in (0.5, 1))
    z, c = latents(), labels(2)
    assert torch.equal(half.mapping(z, c).static, whole.mapping(z, 0.5 * c).static)
    assert not torch.equal(half.mapping(z, c).static, whole.mapping(z, c).static)
    further = torch.cat([c, torch.ones(2, 4)], dim=1)
    assert torch.equal(whole.mapping(z, further).static, whole.mapping(z, c).static)


def test_networks_without_label_are_read(eg3d_tensors):
    tensors = {name: value for name, value in eg3d_tensors.items() if ".embed." not in name}
    tensors["backbone.mapping.fc0.weight"] = tensors["backbone.mapping.fc0.weight"][:, : tiny.LATENT]
    generator = built(tensors, tiny.eg3d_arguments())
    assert not generator.config.mapping.pose_conditioning
    assert torch.equal(generator.mapping(latents(), labels(2)).static, generator.mapping(latents(), 0 * labels(2)).static)


def test_discriminators(judge_tensors):
    config = discriminator_config(judge_tensors, tiny.discriminator_arguments())
    assert (config.image_resolution, config.label_size, config.mapping_layers, config.group_size) == (128, 25, 8, 4)
    assert config.clamp == 256
    assert not config.mesh_image
    assert discriminator_config(judge_tensors, tiny.discriminator_arguments() | {"epilogue_kwargs": {}}).group_size == 4
    assert isinstance(load_official_state(judge_tensors, tiny.discriminator_arguments()), Discriminator)


def test_kinds_are_told_apart(eg3d_tensors, next3d_tensors, judge_tensors):
    assert [kind_of(tensors) for tensors in (next3d_tensors, eg3d_tensors, judge_tensors)] == ["released-next3d", "released-eg3d", None]
    with pytest.raises(CheckpointError, match=r"its tensors \(layer\.weight, \.\.\.\) belong to no network that is known"):
        kind_of({"layer.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"its tensors \(none, \.\.\.\)"):
        kind_of({})


def drop(name: str) -> Edit:
    return lambda tensors, arguments: tensors.pop(name)


def resize(name: str) -> Edit:
    def edit(tensors: tiny.State, arguments: dict[str, Any]) -> None:
        tensors[name] = torch.zeros(3, 5)

    return edit


def rendering(**changes: Any) -> Edit:
    return lambda tensors, arguments: arguments["rendering_kwargs"].update(changes)


def arguments_with(**changes: Any) -> Edit:
    return lambda tensors, arguments: arguments.update(changes)


def without_argument(name: str) -> Edit:
    return lambda tensors, arguments: arguments.pop(name)


def without_rendering(name: str) -> Edit:
    return lambda tensors, arguments: arguments["rendering_kwargs"].pop(name)


def other_filter(tensors: tiny.State, arguments: dict[str, Any]) -> None:
    tensors["backbone.synthesis.b8.conv0.resample_filter"] = torch.ones(4, 4) / 16


REFUSED: dict[str, tuple[Edit, str]] = {
    "other density": (rendering(clamp_mode="relu"), "clamp_mode is 'relu'; only networks with 'softplus' can be used here"),
    "depths by disparity": (rendering(disparity_space_sampling=True), "disparity_space_sampling is True; only networks with False"),
    "automatic ends of rays": (rendering(ray_start="auto"), "its constructor arguments cannot be used: could not convert string to float"),
    "unknown super-resolution": (
        rendering(superresolution_module="a.b.Superres16X"),
        "its super-resolution 'Superres16X' is not known; those",
    ),
    "another factor": (rendering(superresolution_module="a.SuperresolutionHybrid2X"), "super-resolution: from 64 to 512; the two blocks"),
    "other filter": (other_filter, "'backbone.synthesis.b8.conv0.resample_filter' is not the binomial filter"),
    "missing weight": (drop("backbone.synthesis.b8.conv0.weight"), "'backbone.synthesis.b8.conv0.weight' is missing"),
    "missing decoder": (drop("decoder.net.2.weight"), "'decoder.net.2.weight' is missing; expected all tensors"),
    "wrong shape": (
        resize("backbone.synthesis.b16.conv1.affine.weight"),
        r"'backbone.synthesis.b16.conv1.affine.weight' has shape \[3, 5\] \(float32\), expected \[",
    ),
    "missing argument": (without_argument("z_dim"), "'z_dim' is missing; expected all tensors and constructor arguments"),
    "missing rendering argument": (without_rendering("box_warp"), "'box_warp' is missing"),
    "arguments of another network": (arguments_with(channel_max=8), "expected .* by its arguments"),
    "size that is no number": (arguments_with(img_resolution=None), "its constructor arguments cannot be used"),
    "no rendering arguments": (arguments_with(rendering_kwargs=7), "its constructor arguments cannot be used"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_refused_with_a_sentence(eg3d_tensors, name):
    edit, reason = REFUSED[name]
    tensors, arguments = dict(eg3d_tensors), tiny.eg3d_arguments()
    edit(tensors, arguments)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_official_state(tensors, arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (drop("faces"), "'faces' of the mesh is missing"),
        (resize("uvfaces"), "'uvfaces' of the mesh is missing or not a batch of one"),
        (drop("mouth_backbone.synthesis.b8.conv0.weight"), "'mouth_backbone.synthesis.b8.conv0.weight' is missing"),
    ],
    ids=["no faces", "flat uv faces", "half a mouth"],
)
def test_a_damaged_next3d_is_refused_with_a_sentence(next3d_tensors, edit, reason):
    tensors = dict(next3d_tensors)
    edit(tensors, {})
    with pytest.raises(CheckpointError, match=reason):
        load_official_state(tensors, tiny.next3d_arguments())


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (drop("b128.fromrgb.weight"), "'b128.fromrgb.weight' is missing"),
        (drop("b4.out.bias"), "'b4.out.bias' is missing"),
        (resize("b8.conv0.weight"), "'b8.conv0.weight' has shape"),
        (without_argument("img_resolution"), "'img_resolution' is missing"),
        (arguments_with(epilogue_kwargs={"mbstd_group_size": 0}), "group_size=0, expected at least 1"),
    ],
    ids=["no input", "no output", "wrong shape", "no size", "no group"],
)
def test_a_damaged_discriminator_is_refused_with_a_sentence(judge_tensors, edit, reason):
    tensors, arguments = dict(judge_tensors), tiny.discriminator_arguments()
    edit(tensors, arguments)
    with pytest.raises(CheckpointError, match=reason):
        load_official_state(tensors, arguments)
