"""Configurations of released networks: from the arguments that they were built with, and from the shapes of their tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dnnlib.errors import CheckpointError, ConfigError
from next3d.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    GeneratorKind,
    MappingConfig,
    MouthConfig,
    RenderConfig,
    SuperresConfig,
    TriplaneConfig,
)

Tensors = Mapping[str, Tensor]

MOUTH_RESOLUTION = 64
"""Size to which released networks resize the mouth's crop."""
SUPERRES_INPUT = {
    "SuperresolutionHybrid2X": 64,
    "SuperresolutionHybrid4X": 128,
    "SuperresolutionHybrid8X": 128,
    "SuperresolutionHybrid8XDC": 128,
}
"""Resolution to which each module resizes the features."""
MAX_REASON = 200
"""Letters of a reason in a message."""
SUPERRES_CLAMP = 256.0
"""Limit of activations in blocks that were made for half precision; it stays active in single precision."""


def kind_of(tensors: Tensors) -> GeneratorKind | None:
    """Which generator the tensors belong to; None for a discriminator.

    Raises:
        CheckpointError: neither.
    """
    if "texture_backbone.synthesis.b4.const" in tensors:
        return "released-next3d"
    if "backbone.synthesis.b4.const" in tensors:
        return "released-eg3d"
    if "b4.fc.weight" in tensors:
        return None
    first = ", ".join(list(tensors)[:3]) or "none"
    raise CheckpointError(
        f"its tensors ({first}, ...) belong to no network that is known; expected an EG3D or Next3D generator or discriminator"
    )


def generator_config(kind: GeneratorKind, tensors: Tensors, arguments: Mapping[str, Any], resolution: int | None) -> TriplaneConfig:
    """Configuration of a released generator.

    Args:
        kind: what `kind_of` found.
        tensors: under their official names.
        arguments: of the official constructor.
        resolution: neural rendering resolution; None takes the default.

    Raises:
        CheckpointError: an argument is missing, or asks for something that is not built here.
    """
    with explained():
        return _generator_config(kind, tensors, arguments, resolution)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what happens when tensors and arguments do not belong to a released network into a `CheckpointError`."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(
            f"{error.args[0]!r} is missing; expected all tensors and constructor arguments of a released network"
        ) from error
    except (ConfigError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:MAX_REASON]
        raise CheckpointError(f"its constructor arguments cannot be used: {reason}") from error


def _generator_config(kind: GeneratorKind, tensors: Tensors, arguments: Mapping[str, Any], resolution: int | None) -> TriplaneConfig:
    rendering = arguments["rendering_kwargs"]
    _require(rendering, "clamp_mode", "softplus")
    _require(rendering, "disparity_space_sampling", False)
    planes = _largest_block(tensors, "backbone.synthesis.")
    channels = tensors[f"backbone.synthesis.b{planes}.torgb.weight"].shape[0] // 3
    hidden, outputs = tensors["decoder.net.0.weight"].shape[0], tensors["decoder.net.2.weight"].shape[0]
    common: dict[str, Any] = {
        "kind": kind,
        "image_resolution": int(arguments["img_resolution"]),
        "latent_size": int(arguments["z_dim"]),
        "style_size": int(arguments["w_dim"]),
        "label_size": _label_size(tensors, "backbone.mapping."),
        "plane_resolution": planes,
        "plane_channels": channels,
        "channel_base": int(arguments.get("channel_base", 32768)),
        "channel_max": int(arguments.get("channel_max", 512)),
        "mapping": _mapping(tensors, arguments, rendering),
        "render": RenderConfig(
            resolution=resolution or 64,
            coarse_samples=int(rendering["depth_resolution"]),
            fine_samples=int(rendering["depth_resolution_importance"]),
            ray_start=float(rendering["ray_start"]),
            ray_end=float(rendering["ray_end"]),
            box_warp=float(rendering["box_warp"]),
            decoder_hidden=hidden,
            feature_channels=outputs - 1,
        ),
        "superres": _superres(tensors, arguments, rendering),
        "clamp": _clamp(arguments),
    }
    if kind == "released-eg3d":
        return TriplaneConfig(**common)
    texture = _largest_block(tensors, "texture_backbone.synthesis.")
    return GeneratorConfig(**common, texture_resolution=texture, head="", mouth=_mouth(tensors, planes, common))


def discriminator_config(tensors: Tensors, arguments: Mapping[str, Any]) -> DiscriminatorConfig:
    """Configuration of a released discriminator; raises CheckpointError as `generator_config` does."""
    with explained():
        resolution = int(arguments["img_resolution"])
        first = tensors[f"b{resolution}.fromrgb.weight"]
        mapped = "mapping.fc0.weight" in tensors
        return DiscriminatorConfig(
            image_resolution=resolution,
            label_size=_label_size(tensors, "mapping.") if mapped else 0,
            channel_base=int(arguments.get("channel_base", 32768)),
            channel_max=int(arguments.get("channel_max", 512)),
            mesh_image=first.shape[1] == 9,
            mapping_layers=_layers(tensors, "mapping.") if mapped else 0,
            group_size=int(arguments.get("epilogue_kwargs", {}).get("mbstd_group_size", 4)),
            strided_groups=True,
            clamp=_clamp(arguments),
        )


def decoder_multiplier(arguments: Mapping[str, Any]) -> float:
    """The factor with which a released generator's decoder applies its weights; raises CheckpointError."""
    rendering = arguments.get("rendering_kwargs", {})
    value = rendering.get("decoder_lr_mul", 1) if isinstance(rendering, Mapping) else 1
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"decoder_lr_mul is {value!r}, expected a number")
    return float(value)


def _require(settings: Mapping[str, Any], name: str, value: object) -> None:
    if name in settings and settings[name] != value:
        raise CheckpointError(f"{name} is {settings[name]!r}; only networks with {value!r} can be used here")


def _clamp(arguments: Mapping[str, Any]) -> float | None:
    value = arguments.get("conv_clamp")
    return None if value is None else float(value)


def _largest_block(tensors: Tensors, prefix: str) -> int:
    """Resolution of the last synthesis block under `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"b(\d{1,5})\.conv1\.weight")
    found = [int(match[1]) for name in tensors if (match := pattern.fullmatch(name))]
    if not found:
        raise KeyError(f"{prefix}b*.conv1.weight")
    return max(found)


def _layers(tensors: Tensors, prefix: str) -> int:
    return sum(re.fullmatch(re.escape(prefix) + r"fc\d+\.weight", name) is not None for name in tensors)


def _label_size(tensors: Tensors, prefix: str) -> int:
    embed = tensors.get(f"{prefix}embed.weight", torch.empty(0, 0))
    return embed.shape[1]


def _mapping(tensors: Tensors, arguments: Mapping[str, Any], rendering: Mapping[str, Any]) -> MappingConfig:
    return MappingConfig(
        layers=_layers(tensors, "backbone.mapping."),
        lr_multiplier=float(arguments.get("mapping_kwargs", {}).get("lr_multiplier", 0.01)),
        pose_conditioning="backbone.mapping.embed.weight" in tensors,
        label_scale=0.0 if rendering.get("c_gen_conditioning_zero") else float(rendering.get("c_scale", 0)),
    )


def _superres(tensors: Tensors, arguments: Mapping[str, Any], rendering: Mapping[str, Any]) -> SuperresConfig:
    name = str(rendering["superresolution_module"]).rpartition(".")[2]
    if name not in SUPERRES_INPUT:
        raise CheckpointError(f"its super-resolution {name!r} is not known; those known are {', '.join(SUPERRES_INPUT)}")
    first, second = (tensors[f"superresolution.block{index}.conv1.weight"].shape[0] for index in (0, 1))
    return SuperresConfig(
        input_resolution=SUPERRES_INPUT[name],
        channels=(first, second),
        antialias=bool(rendering.get("sr_antialias", True)),
        noise=rendering.get("superresolution_noise_mode", "none") != "none",
        clamp=SUPERRES_CLAMP if arguments.get("sr_num_fp16_res", 0) else None,
    )


def _mouth(tensors: Tensors, planes: int, common: Mapping[str, Any]) -> MouthConfig:
    """Encoders halve their condition once per block; where they end the decoder begins."""
    blocks = [
        sum(re.fullmatch(rf"{network}\.synthesis\.encoder\.\d+\.conv1\.weight", name) is not None for name in tensors)
        for network in ("mouth_backbone", "neural_blending")
    ]
    return MouthConfig(
        variant="front",
        resolution=MOUTH_RESOLUTION,
        output_resolution=_largest_block(tensors, "mouth_backbone.synthesis."),
        bottleneck=MOUTH_RESOLUTION >> blocks[0],
        blend_bottleneck=planes >> blocks[1],
        channel_base=common["channel_base"],
        channel_max=common["channel_max"],
        blend_channel_base=common["channel_base"],
    )
