"""Batches to steps: what a step sees of the data set, and the averaged generator that follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from torch_utils.distributed import gather_rows, world
from training.augment import STRENGTH, Augmentation, adapted, initial_counters
from training.batch import Batch
from training.conditions import Conditions
from training.config import TrainConfig
from training.dataset import PortraitDataset
from training.ema import update_average
from training.fakes import StepInput, prepare
from training.mirror import Mirror
from training.mismatch import Mismatch
from training.phases import REAL_SIGN, Phases, StepSettings
from training.precision import tensor_float, use_precision
from training.randomness import Draws
from training.schedule import blur_sigma, ema_decay, raw_resolution, swap_probability
from training.state import TrainState
from training.views import Presentation


@dataclass(frozen=True)
class SkippedStep:
    """A step that changed nothing because something was not finite."""

    step: int
    """Number of the step, from 0."""
    images: int
    """Real images shown before it."""
    items: tuple[int, ...]
    """Positions in the data set of the whole batch, over all ranks."""
    losses: dict[str, float]
    """Means over the batch, by name; at least one of them, or a gradient, is not finite."""


@dataclass(frozen=True)
class _Made:
    """A step whose outcome nobody has looked at yet."""

    step: int
    images: int
    items: Tensor
    losses: dict[str, Tensor]
    skipped: Tensor


class Trainer:
    """Turns batches into steps. Knows nothing of files and time."""

    def __init__(self, config: TrainConfig, dataset: PortraitDataset, state: TrainState, device: torch.device) -> None:
        """Every rank makes one, of the same state.

        Raises:
            ConfigError: the ranks' weights differ, or the data set or this machine cannot give what the configuration asks for.
        """
        self.config, self.dataset, self.state, self.device = config, dataset, state, device
        check_replicas(state)
        self.dtype = next(state.generator.parameters()).dtype
        self.draws = Draws(config.run.seed, self.dtype)
        self._mirror = Mirror(dataset.topology, device) if config.data.mirror else None
        shares = (config.loss.mismatch_expression, config.loss.mismatch_directions)
        self._mismatch = Mismatch(self.draws, config.model.discriminator.group_size, *shares)
        expression = config.model.generator.mapping.expression_size > 0
        self._conditions = Conditions(dataset, expression=expression, mirror=config.data.mirror, device=device, dtype=self.dtype)
        use_precision(state.generator, state.discriminator, config.precision)
        noise = self._conditions.label_spread * config.loss.label_noise if config.loss.label_noise else None
        present = Presentation(Augmentation(config.augment, self.draws, dataset.topology), self.draws, noise)
        self.phases = Phases(
            state.generator, state.discriminator, state.optimizers, config.loss, self.draws, present=present, half=config.precision.half
        )
        for name, value in initial_counters(config.augment, device).items():
            state.counters.setdefault(name, value)
        self._strength = torch.full((), config.augment.p, dtype=torch.float64, device=device)
        self._render_at(state.images)
        self._unsettled: list[_Made] = []

    def step(self, batch: Batch) -> None:
        """One step on this rank's share of the next batch of the run; every rank's is equally large."""
        state, config = self.state, self.config
        state.generator.train()
        state.discriminator.train()
        self._render_at(state.images)
        settings = StepSettings(
            step=state.step,
            share=len(batch),
            blur_fraction=blur_sigma(config.schedule, state.images, 1),
            swap_probability=swap_probability(config.schedule, state.images),
            strength=state.counters[STRENGTH] if config.augment.kind == "ada" else self._strength,
        )
        with tensor_float(config.precision.tf32):
            self.phases.step(self._parts(batch), settings)
        if config.augment.kind == "ada":
            self._adapt(len(batch) * world().size)
        self._unsettled.append(_Made(state.step, state.images, batch.index, self.phases.means, self.phases.skipped))
        whole = len(batch) * world().size
        state.images += whole
        state.step += 1
        update_average(state.average, state.generator, ema_decay(config.schedule, state.images, whole), self.phases.skipped)

    def settle(self) -> list[SkippedStep]:
        """The steps since the last call that were skipped. Waits for the device; every rank calls it after the same step."""
        made, self._unsettled = self._unsettled, []
        if not made:
            return []
        flags = torch.stack([one.skipped for one in made]).tolist()
        return [_skipped(one) for one, flag in zip(made, flags, strict=True) if flag]

    def _adapt(self, batch: int) -> None:
        """Move the strength of the augmentation, unless the step was skipped."""
        counters, skipped = self.state.counters, self.phases.skipped > 0
        mean = self.phases.means[REAL_SIGN].double()
        for name, value in adapted(self.config.augment, counters, mean, step=self.state.step, batch=batch).items():
            counters[name] = torch.where(skipped, counters[name], value)
        self.phases.statistics.add("augment/real_sign", mean)

    def _render_at(self, images: int) -> None:
        """The neural rendering resolution that the schedule has for this number of images, in both generators: files record it."""
        resolution = raw_resolution(self.config.schedule, images, self.config.model.generator.render.resolution)
        self.state.generator.set_resolution(resolution)
        self.state.average.set_resolution(resolution)

    def _parts(self, batch: Batch) -> list[StepInput]:
        """The share on the device, in parts, with rasters and mesh renderings."""
        first = self.state.images + world().rank * len(batch)
        size = self.config.run.part
        return [self._part(batch[i : i + size], first + i) for i in range(0, len(batch), size)]

    def _part(self, batch: Batch, first: int) -> StepInput:
        """Samples at the global positions from `first` on."""
        batch = batch.map(lambda tensor: tensor.to(self.device, non_blocking=True))
        position = torch.arange(first, first + len(batch), device=self.device)
        image, camera = self._typed(batch.image), batch.camera.map(self._typed)
        mesh, flip = self.dataset.head_mesh(batch).map(self._typed), None
        other = None
        if self.config.loss.mismatch_weight > 0:
            other = self.dataset.pose(self._mismatch.heads(batch.head, position)).map(self._typed)
        if self._mirror is not None:
            flip = self.draws.below("mirror", position, 2) == 1
            image, camera, mesh = self._mirror.image(image, flip), self._mirror.camera(camera, flip), self._mirror.mesh(mesh, flip)
            other = None if other is None else self._mirror.mesh(other, flip)
        part = prepare(
            self.state.generator,
            self.config.model.discriminator,
            image,
            camera,
            mesh,
            swapped=self._conditions.others(self.draws, position),
            position=position,
            other_mesh=other,
            surface=self.config.loss.surface_weight > 0,
            extra=self._conditions.extra(batch.head, flip),
        )
        return part.map(self._typed)  # rasters are float32 whatever the mesh is

    def _typed(self, tensor: Tensor) -> Tensor:
        """Floating-point numbers in the type of the weights."""
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


def _skipped(made: _Made) -> SkippedStep:
    items = gather_rows(made.items.cpu()).tolist()
    names, values = list(made.losses), torch.stack(list(made.losses.values())).tolist()
    return SkippedStep(made.step, made.images, tuple(items), dict(zip(names, values, strict=True)))


def check_replicas(state: TrainState) -> None:
    """Compare what the ranks begin with, by sums over the bits of every tensor. Does nothing where a process is alone.

    Raises:
        ConfigError: they differ; the message names a rank and a tensor.
    """
    if world().size == 1:
        return
    tensors = {f"{name}.{key}": value for name, network in state.networks().items() for key, value in network.state_dict().items()}
    for name, optimizer in zip(("generator", "discriminator"), state.optimizers, strict=True):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}_optimizer.{index}.{field}": value for field, value in moments.items()}
    tensors |= state.counters
    names = ["images", "step", *tensors]
    mine = torch.stack([torch.tensor(state.images), torch.tensor(state.step), *(_bit_sum(value) for value in tensors.values())])
    counts = gather_rows(torch.tensor([len(names)]))
    if bool((counts != counts[0]).any()):
        raise ConfigError(
            "ranks: they begin with different numbers of tensors; start all of them with the same version, flags and --resume"
        )
    rows = gather_rows(mine[None])
    different = (rows != rows[0]).nonzero()
    if len(different):
        rank, column = different[0].tolist()
        raise ConfigError(
            f"rank {rank}: its {names[column]} is not that of rank 0; start all ranks with the same version, flags and --resume file"
        )


def _bit_sum(tensor: Tensor) -> Tensor:
    """[] int64: sum of the bytes' pairs, weighted by place, so that changed, swapped and moved values show."""
    halves = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).to(torch.int64)
    return (halves * (torch.arange(len(halves)) % 65521 + 1)).sum()
