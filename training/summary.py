"""What `--dry-run` prints: the configuration, the data set, the size of the networks and what an image costs."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from next3d.config import to_json
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.fakes import prepare
from training.state import new_state


def describe(config: TrainConfig, dataset: PortraitDataset, device: torch.device, ranks: int = 1) -> str:
    """Text for people; the networks are built once for it."""
    costs = measure(config, dataset)
    share = config.run.batch // ranks
    lines = [
        to_json(config),
        f"Data set       {dataset.path}: {len(dataset)} images of {dataset.stored_resolution}²",
        f"Generator      {costs['generator_parameters'] / 1e6:.2f} M parameters, {costs['generator_gflop']:.3f} GFLOP per image",
        f"Discriminator  {costs['discriminator_parameters'] / 1e6:.2f} M parameters, {costs['discriminator_gflop']:.3f} GFLOP per image",
        f"Device         {device if ranks == 1 else device.type}, {torch.get_num_threads()} CPU threads",
        f"Processes      {ranks}, each with {share} images per step in {share // min(share, config.run.part)} part(s)",
    ]
    return "\n".join(lines)


def measure(config: TrainConfig, dataset: PortraitDataset) -> dict[str, float]:
    """Parameters of both networks and GFLOP (a multiply-add is two) of one forward pass over one image."""
    state = new_state(config, dataset.topology, torch.device("cpu"))
    generator, discriminator = state.average, state.discriminator.requires_grad_(False)
    batch = dataset.read_sound([0])
    label = batch.camera.to_label()
    z = torch.zeros(1, config.model.generator.latent_size)
    mesh = dataset.head_mesh(batch)
    with FlopCounterMode(display=False) as generator_flops:
        output = generator(z, label, mesh)
    part = prepare(generator, config.model.discriminator, output.image, batch.camera, mesh, swapped=label, position=batch.index)
    with FlopCounterMode(display=False) as discriminator_flops:
        discriminator(output.image, output.image_raw, part.mesh_image, label)
    return {
        "generator_parameters": _count(generator),
        "generator_gflop": generator_flops.get_total_flops() / 1e9,
        "discriminator_parameters": _count(discriminator),
        "discriminator_gflop": discriminator_flops.get_total_flops() / 1e9,
    }


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
