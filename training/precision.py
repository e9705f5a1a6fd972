"""Numbers in which networks are trained: half precision in blocks of high resolution, TensorFloat-32, compiled networks.

Half precision follows Karras et al. 2020, "Training GANs with limited data" (implementation details): the highest resolutions compute
in float16, activations are clamped, weights and styles of modulated convolutions are normalised before, and what overflows in a gradient
is made finite. Weights, optimisers, averages and files are float32: a network trained so is used like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dnnlib.errors import ConfigError
from next3d.config import ModelConfig
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from next3d.stylegan2.layers import SynthesisLayer
from next3d.stylegan2.style_unet import StyleUNet
from next3d.stylegan2.synthesis import SynthesisNetwork
from training.config import PrecisionConfig

CLAMP = 256.0
"""Limit of activations that float16 has to hold, with room for sums (2^8, as the paper)."""
LARGEST_GRADIENT = 1e5
"""What an infinite gradient becomes."""


def clamped(model: ModelConfig, precision: PrecisionConfig) -> ModelConfig:
    """The networks with activations clamped where float16 asks for it and nothing else is said."""
    if not precision.half or precision.half_type != "float16":
        return model
    generator, discriminator = model.generator, model.discriminator
    if precision.generator_blocks and generator.clamp is None:
        generator = replace(generator, clamp=CLAMP)
    if precision.superres_blocks and generator.superres.clamp is None:
        generator = replace(generator, superres=replace(generator.superres, clamp=CLAMP))
    if precision.discriminator_blocks and discriminator.clamp is None:
        discriminator = replace(discriminator, clamp=CLAMP)
    return replace(model, generator=generator, discriminator=discriminator)


def with_blocks(precision: PrecisionConfig) -> PrecisionConfig:
    """bfloat16 in the blocks where it saves most, if it is asked for and no blocks are named."""
    if precision.half or precision.half_type != "bfloat16":
        return precision
    return replace(precision, generator_blocks=4, superres_blocks=2, discriminator_blocks=4)


def use_precision(generator: Generator, discriminator: Discriminator, config: PrecisionConfig) -> None:
    """Let the blocks that the configuration names compute in half precision, and compile what it asks for.

    Raises:
        ConfigError: there is no working compiler.
    """
    half = torch.float16 if config.half_type == "float16" else torch.bfloat16
    for network in synthesis_networks(generator):
        network.compute_in(half, config.generator_blocks)
    generator.superres.compute_in(half, config.superres_blocks)
    discriminator.compute_in(half, config.discriminator_blocks)
    if config.compile:
        _check_compiler(next(generator.parameters()).device)
        for network in synthesis_networks(generator):
            compile_network(network)
        compile_network(generator.superres)


def synthesis_networks(generator: Generator) -> list[SynthesisNetwork | StyleUNet]:
    """Texture, static and mouth networks."""
    return [generator.texture, generator.static, *(part for part in generator.mouth.children() if isinstance(part, StyleUNet))]


def compile_network(network: nn.Module, backend: str = "inductor") -> None:
    """Replace the forward pass of a synthesis network by a compiled one, in place; parameters and their names stay.

    Where noise comes from a function, its maps are drawn before, in the order in which layers ask for them: what draws them cannot be
    compiled, and would break the network into pieces.
    """
    plain = network.forward
    sizes = [layer.resolution for layer in network.modules() if isinstance(layer, SynthesisLayer) and layer.use_noise]

    def with_maps(inputs: tuple[Tensor, ...], maps: list[Tensor]) -> Any:
        given = iter(maps)
        return plain(*inputs, lambda shape: next(given))

    compiled = torch.compile(plain, dynamic=False, backend=backend)
    compiled_with_maps = torch.compile(with_maps, dynamic=False, backend=backend)

    def forward(*arguments: Any) -> Any:
        *inputs, noise = arguments
        if not callable(noise):
            return compiled(*arguments)
        return compiled_with_maps(tuple(inputs), [noise((len(inputs[0]), 1, size, size)) for size in sizes])

    network.forward = forward


def make_finite(gradients: list[Tensor]) -> None:
    """Replace, in place, what overflowed in half precision."""
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=0.0, posinf=LARGEST_GRADIENT, neginf=-LARGEST_GRADIENT, out=gradient)


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """TensorFloat-32 in matrix products and convolutions, on or off, while it lasts."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _check_compiler(device: torch.device) -> None:
    """Compile something small: better to fail here than in the first step."""
    try:
        torch.compile(lambda x: (x + 1).sin())(torch.zeros(2, device=device))
    except Exception as error:  # whatever a missing compiler makes of it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"--compile: torch.compile is not usable here ({reason}); install a C++ compiler (and Triton for GPUs) or leave it out"
        ) from error
