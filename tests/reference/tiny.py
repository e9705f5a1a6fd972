"""The smallest networks with everything that released ones have, under the official names, also what is stored and never used.

Their weights are random, and rounded to float16 as in a folder of reference numbers; biases, noise strengths and averages are not zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from next3d.config import DiscriminatorConfig, GeneratorConfig, MouthConfig, RenderConfig, SuperresConfig, TriplaneConfig
from next3d.discriminator import Discriminator
from next3d.head.topology import Topology
from next3d.official.build import build_generator, official_name
from next3d.stylegan2.layers import Conv2d
from next3d.stylegan2.mapping import MappingNetwork
from next3d.stylegan2.synthesis import SynthesisNetwork
from next3d.superres import Superresolution
from torch_utils.ops.upfirdn2d import BINOMIAL

State = dict[str, Tensor]

LATENT, STYLE, LABEL = 16, 16, 25
BASE, WIDTH = 256, 6
"""Channels at resolution r are BASE / r, at most WIDTH."""
PLANES, TEXTURE, CHANNELS = 64, 32, 4
SAMPLES, HIDDEN, FEATURES = 6, 8, 8
SUPERRES_CHANNELS = (6, 4)
DENSITY = {"next3d": (3.0, -2.0), "eg3d": (14.0, -8.0)}
"""Gain and bias of the decoder's density, so that rays are neither empty nor blocked at once."""
NOISE_TILE = 16
MAPPED = ("texture_backbone", "mouth_backbone", "neural_blending")
"""Parts with a mapping network of their own that never runs."""


def rendering_arguments(module: str, resolution: int, **changes: Any) -> dict[str, Any]:
    """`rendering_kwargs` of an official generator."""
    return {
        "image_resolution": resolution,
        "disparity_space_sampling": False,
        "clamp_mode": "softplus",
        "superresolution_module": module,
        "c_gen_conditioning_zero": False,
        "c_scale": 1,
        "superresolution_noise_mode": "none",
        "decoder_lr_mul": 1,
        "sr_antialias": True,
        "depth_resolution": SAMPLES,
        "depth_resolution_importance": SAMPLES,
        "ray_start": 2.25,
        "ray_end": 3.3,
        "box_warp": 1,
    } | changes


def generator_arguments(class_name: str, module: str, resolution: int, **rendering: Any) -> dict[str, Any]:
    """Arguments of an official generator's constructor; `rendering` changes its `rendering_kwargs`."""
    return {
        "class_name": class_name,
        "c_dim": LABEL,
        "z_dim": LATENT,
        "w_dim": STYLE,
        "mapping_kwargs": {"num_layers": 2},
        "channel_base": BASE,
        "channel_max": WIDTH,
        "rendering_kwargs": rendering_arguments(module, resolution, **rendering),
        "num_fp16_res": 0,
        "sr_num_fp16_res": 4,
        "conv_clamp": None,
        "img_resolution": resolution,
        "img_channels": 3,
    }


def next3d_arguments(**rendering: Any) -> dict[str, Any]:
    """Of a Next3D generator of 128x128 images."""
    package = "training_avatar_texture"
    module = f"{package}.superresolution.SuperresolutionHybrid2X"
    return generator_arguments(f"{package}.triplane_next3d.TriPlaneGenerator", module, 128, **rendering)


def eg3d_arguments(module: str = "SuperresolutionHybrid8XDC", resolution: int = 512, **rendering: Any) -> dict[str, Any]:
    """Of an EG3D generator."""
    return generator_arguments("training.triplane.TriPlaneGenerator", f"training.superresolution.{module}", resolution, **rendering)


def discriminator_arguments() -> dict[str, Any]:
    """Of a discriminator of 128x128 images."""
    return {
        "class_name": "training_avatar_texture.dual_discriminator.DualDiscriminator",
        "c_dim": LABEL,
        "mapping_kwargs": {},
        "epilogue_kwargs": {"mbstd_group_size": 4},
        "channel_base": 2 * BASE,
        "channel_max": WIDTH,
        "num_fp16_res": 4,
        "conv_clamp": 256,
        "img_resolution": 128,
        "img_channels": 3,
    }


def next3d_state(seed: int, topology: Topology) -> State:
    """State dict of a Next3D generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _next3d_config()
        own = _official(build_generator(config, topology))
        own |= dict(_unused_blocks("mouth_backbone", config, config.mouth.bottleneck, config.mouth.resolution))
        own |= dict(_unused_blocks("neural_blending", config, config.mouth.blend_bottleneck, config.plane_resolution))
        for part in MAPPED:
            own |= _prefixed(f"{part}.mapping.", MappingNetwork(LATENT, LABEL, STYLE, layers=2))
        return _redrawn(own | _unused_noise(config), DENSITY["next3d"]) | _mesh_buffers(topology)


def eg3d_state(seed: int, input_resolution: int = 128, resolution: int = 512) -> State:
    """State dict of an EG3D generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = TriplaneConfig(kind="released-eg3d", image_resolution=resolution, **_common(input_resolution))
        return _redrawn(_official(build_generator(config, None)) | _unused_noise(config), DENSITY["eg3d"])


def discriminator_state(seed: int) -> State:
    """State dict of a discriminator; the mean of its label's embedding is not kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = DiscriminatorConfig(image_resolution=128, channel_base=2 * BASE, channel_max=WIDTH, mesh_image=False)
        state = _official(Discriminator(config))
        del state["mapping.w_avg"]
        return _redrawn(state)


def is_parameter(name: str) -> bool:
    """Whether an official tensor is a parameter; the others are buffers."""
    return name.endswith((".weight", ".bias", ".const", ".noise_strength"))


def _common(input_resolution: int) -> dict[str, Any]:
    return {
        "latent_size": LATENT,
        "style_size": STYLE,
        "plane_resolution": PLANES,
        "plane_channels": CHANNELS,
        "channel_base": BASE,
        "channel_max": WIDTH,
        "render": RenderConfig(coarse_samples=SAMPLES, fine_samples=SAMPLES, decoder_hidden=HIDDEN, feature_channels=FEATURES),
        "superres": SuperresConfig(input_resolution=input_resolution, channels=SUPERRES_CHANNELS),
    }


def _next3d_config() -> GeneratorConfig:
    sizes = {"channel_base": BASE, "channel_max": WIDTH, "blend_channel_base": BASE}
    mouth = MouthConfig(resolution=64, output_resolution=64, bottleneck=4, blend_bottleneck=16, **sizes)
    return GeneratorConfig(
        kind="released-next3d", image_resolution=128, texture_resolution=TEXTURE, head="", mouth=mouth, **_common(input_resolution=64)
    )


def _official(module: nn.Module) -> State:
    return {official_name(name): value for name, value in module.state_dict().items()}


def _prefixed(prefix: str, module: nn.Module) -> State:
    return {prefix + name: value for name, value in module.state_dict().items()}


def _unused_blocks(part: str, config: GeneratorConfig, bottleneck: int, condition: int) -> Iterator[tuple[str, Tensor]]:
    """What the originals' conditional networks have below the resolution at which they start, and the fusion at the condition's."""
    sizes = {"style_size": STYLE, "channel_base": BASE, "channel_max": WIDTH}
    low = SynthesisNetwork(resolution=bottleneck, image_channels=config.plane_channels, **sizes)
    yield from _prefixed(f"{part}.synthesis.", low).items()
    channels, index = min(BASE // condition, WIDTH), (condition // bottleneck).bit_length() - 1
    yield from _prefixed(f"{part}.synthesis.fusion.{index}.", Conv2d(2 * channels, channels, 3)).items()


def _unused_noise(config: TriplaneConfig) -> State:
    """The noise maps of super-resolution, which is run without noise."""
    superres = SuperresConfig(input_resolution=config.superres.input_resolution, channels=SUPERRES_CHANNELS, noise=True)
    module = Superresolution(superres, in_channels=FEATURES, image_resolution=config.image_resolution, style_size=STYLE)
    return {name: value for name, value in _prefixed("superresolution.", module).items() if ".noise_" in name}


def _redrawn(state: Mapping[str, Tensor], density: tuple[float, float] | None = None) -> State:
    """The state with everything redrawn that starts at a constant, rounded, and with the filters that released files repeat everywhere."""
    drawn = {name: _redraw(name, value) for name, value in state.items()}
    if density is not None:
        drawn["decoder.net.2.weight"][0] *= density[0]
        drawn["decoder.net.2.bias"][0] = density[1]
    rounded = {name: value.half().float() for name, value in drawn.items()}
    line = torch.tensor(BINOMIAL)
    taps = torch.outer(line, line) / line.sum() ** 2
    return rounded | {f"{owner}.resample_filter".lstrip("."): taps for owner in sorted(_filtering(rounded))}


def _redraw(name: str, value: Tensor) -> Tensor:
    if name.endswith("noise_const"):  # a small tile, repeated, packs well
        tiles = -(-value.shape[0] // NOISE_TILE)
        return torch.randn(NOISE_TILE, NOISE_TILE).repeat(tiles, tiles)[: value.shape[0], : value.shape[1]]
    if name.endswith("noise_strength"):
        return 0.2 + 0.1 * torch.rand([])
    if name.endswith("affine.bias"):
        return 1 + 0.3 * torch.randn_like(value)
    if name.endswith(("bias", "w_avg")):
        return 0.3 * torch.randn_like(value)
    return value.clone()


def _filtering(names: Mapping[str, Tensor]) -> set[str]:
    """Modules of the originals that own a copy of the resampling filter: 3x3 convolutions, encoders' inputs, skips, and all blocks."""
    layers = {name.rpartition(".")[0] for name, value in names.items() if name.endswith(".weight") and value.ndim == 4}
    layers = {name for name in layers if not name.endswith("torgb")}
    blocks = {name.rpartition(".")[0] for name in layers if ".fusion." not in name and not name.startswith("b4.")}
    return layers | blocks | ({"superresolution"} if f"{MAPPED[0]}.mapping.w_avg" in names else {""} if "b4.fc.weight" in names else set())


def _mesh_buffers(topology: Topology) -> State:
    """The mesh as released generators hold it, with what follows from it and is never used."""
    uvs = topology.uvs * 2 - 1
    third = torch.cat([uvs, torch.ones(len(uvs), 1)], dim=1)
    return {
        "faces": topology.faces[None],
        "raw_uvcoords": topology.uvs[None],
        "uvfaces": topology.uv_faces[None],
        "uvcoords": third[None],
        "face_uvcoords": third[topology.uv_faces][None],
        "dense_faces": topology.faces[None, :32].clone(),
    }
