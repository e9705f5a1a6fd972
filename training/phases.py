"""One training step: generator, discriminator, and R1 every so often.

Losses are means over the whole batch of all ranks: each part (`--batch-gpu`) adds its share of its rank's mean, and gradients are
averaged over ranks during the last part's backward pass, so splitting a batch changes nothing.
Backward passes name the parameters they are for (`inputs=`), so nothing computes gradients that nobody uses.

A phase is the passes over all parts that lead to steps of optimisers. If a loss or gradient of it is not finite, on any rank, the steps
from there to the end of this training step change nothing: `skipped` says so on the device, and nobody waits to read it.

The density term joins the generator's ordinary step, where the planes are at hand, and needs no step of its own. R1 takes a step of
its own, so the discriminator's optimiser makes k + 1 steps where it would make k; its learning rate and decays are corrected for that
(StyleGAN2, Appendix B).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dnnlib.errors import ConfigError
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from next3d.types import GeneratorOutput
from torch_utils.distributed import sum_over_ranks, world
from torch_utils.replica import Replica, accumulate
from training.augment import View
from training.config import LossConfig, OptimizerConfig
from training.fakes import FakeMaker, Fakes, StepInput
from training.losses import (
    blur,
    density_difference,
    density_fall,
    density_variation,
    gradient_penalty,
    judged_fake,
    judged_real,
    surface_distance,
)
from training.precision import make_finite
from training.randomness import Draws
from training.report import Statistics
from training.views import Presentation


@dataclass(frozen=True)
class StepSettings:
    """Scheduled quantities of one step."""

    step: int
    """Number of the step, from 0."""
    share: int
    """Samples in all parts of this rank together; every rank has as many."""
    blur_fraction: float
    """Standard deviation of the blur as a fraction of the image's width."""
    swap_probability: float
    strength: Tensor
    """[] probability of every augmenting transform, on the device."""


REAL_SIGN = "sign/real"
"""Mean sign of the verdicts on reals: what the adaptive augmentation goes by."""
Gradients = Callable[[StepInput, StepSettings], None]
"""Adds the gradients of one part of the batch."""


def build_optimizer(network: nn.Module, config: OptimizerConfig, interval: int | None = None) -> Adam:
    """Adam over all parameters, with one fused kernel where the device has it.

    Args:
        network: what it trains.
        config: step size and decays.
        interval: a regulariser takes a step of its own after every so many; None if there is none.

    Raises:
        ConfigError: the configuration names a part that the network does not have.
    """
    correction = 1.0 if interval is None else interval / (interval + 1)
    betas = (config.betas[0] ** correction, config.betas[1] ** correction)
    rate, factors = config.lr * correction, dict(config.multipliers)
    parts = dict(network.named_children())
    if unknown := sorted(set(factors) - set(parts)):
        raise ConfigError(f"optimizer: no part {unknown[0]!r} to learn at a rate of its own; there are {', '.join(parts)}")
    groups = [{"params": list(part.parameters()), "lr": rate * factors.get(name, 1.0)} for name, part in parts.items()]
    # In the order of the network's parameters, whatever the rates are: states are saved by number.
    return Adam(groups if factors else network.parameters(), lr=rate, betas=betas, eps=config.eps, fused=True)


class Phases:
    """The steps of both networks over the parts of a batch."""

    skipped: Tensor
    """[] float32 on the device: 1 if something of this step was not finite, else 0; the same on every rank."""
    means: dict[str, Tensor]
    """[] each: this step's mean of every loss and of what else was noted, over the whole batch; known when their phase has ended."""

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        optimizers: tuple[Adam, Adam],
        config: LossConfig,
        draws: Draws,
        *,
        present: Presentation,
        half: bool = False,
    ) -> None:
        """Phases of networks; `half`: some of them compute in half precision, whose gradients may overflow and are made finite."""
        self.generator, self.discriminator = generator, discriminator
        self.generator_optimizer, self.discriminator_optimizer = optimizers
        self.config = config
        self.draws = draws
        self._present, self._half = present, half
        self.statistics = Statistics()
        self._generator, self._discriminator = Replica(generator), Replica(discriminator)
        self._make_for_generator = FakeMaker(generator, draws, config, "generator")
        self._make_for_discriminator = FakeMaker(generator, draws, config, "discriminator")
        self._begin()

    def step(self, parts: Sequence[StepInput], settings: StepSettings) -> None:
        """Train both networks on this rank's share of one batch."""
        self._begin()
        if self.config.share_fakes:
            self._phase(self._shared_gradients, parts, settings, self._generator, self._discriminator)
            self._descend(self.generator_optimizer)
            self._descend(self.discriminator_optimizer)
        else:
            self._phase(self._generator_gradients, parts, settings, self._generator)
            self._descend(self.generator_optimizer)
            self._phase(self._discriminator_gradients, parts, settings, self._discriminator)
            self._descend(self.discriminator_optimizer)
        if self.config.gamma > 0 and settings.step % self.config.r1_interval == 0:
            self._phase(self._penalty_gradients, parts, settings, self._discriminator)
            self._descend(self.discriminator_optimizer)

    def _begin(self) -> None:
        """Nothing is known of this step yet."""
        weight = self.generator.mapping_network.w_avg
        self.skipped = torch.zeros((), device=weight.device)
        self.means = {}
        self._sums: dict[str, Tensor] = {}
        self._latents: Tensor | None = None

    def _phase(self, gradients: Gradients, parts: Sequence[StepInput], settings: StepSettings, *replicas: Replica) -> None:
        """Gradients of the whole batch, and whether they are good."""
        for number, part in enumerate(parts, start=1):
            with accumulate(*replicas, last=number == len(parts)):
                gradients(part, settings)
        self._close(settings, replicas)

    @torch.no_grad()
    def _close(self, settings: StepSettings, replicas: Sequence[Replica]) -> None:
        """Average over ranks what the parts have noted, see whether all is finite, and move the running mean of w."""
        average = self.generator.mapping_network.w_avg
        noted = torch.stack([value.to(average.dtype) for value in self._sums.values()])
        latents = average.new_zeros(0) if self._latents is None else self._latents
        row = sum_over_ranks(torch.cat([noted, latents]) / settings.share) / world().size
        found = [parameter.grad for replica in replicas for parameter in replica.parameters if parameter.grad is not None]
        if self._half:
            make_finite(found)
        finite = torch.stack(torch._foreach_norm(found)).isfinite().all() & row.isfinite().all()
        self.skipped = torch.maximum(self.skipped, (~finite).float())
        self.means.update(zip(self._sums, row, strict=False))
        if self._latents is not None:
            self.generator.mapping_network.move_average(row[len(noted) :], self.skipped)
        self._sums, self._latents = {}, None

    def _descend(self, optimizer: Adam) -> None:
        """One step with the gradients of a phase, unless something was not finite; then nothing moves, not even the optimiser's count."""
        optimizer.found_inf = self.skipped  # type: ignore[attr-defined]  # what fused optimisers read after mixed precision's scaler
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _generator_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """The generator makes fakes that are to be taken for real."""

        def losses() -> tuple[Tensor, ...]:
            fakes = self._fakes(self._make_for_generator, part, settings)
            logits = self._judge_fakes(fakes.output, part, settings, "generator's fakes")
            return (self._mean("loss/generator", judged_real(logits), settings) + self._shape_loss(fakes, part, settings),)

        (loss,) = self._generator(losses)
        loss.backward(inputs=self._generator.parameters)

    def _discriminator_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """The discriminator tells reals from fresh fakes."""
        with torch.no_grad():
            fakes = self._fakes(self._make_for_discriminator, part, settings)

        def losses() -> tuple[Tensor, ...]:
            logits = self._judge_fakes(fakes.output, part, settings, "discriminator's fakes")
            return (self._fake_loss(logits, settings) + self._real_loss(part, settings),)

        (loss,) = self._discriminator(losses)
        loss.backward(inputs=self._discriminator.parameters)

    def _shared_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """Both at once, on the same fakes and the same logits."""

        def generated() -> tuple[Tensor, ...]:
            fakes = self._fakes(self._make_for_generator, part, settings)
            shape = self._shape_loss(fakes, part, settings)
            made = (fakes.output.image, fakes.output.image_raw)
            output.append(fakes.output)
            return (*made, shape) if shape.requires_grad else made

        def judged() -> tuple[Tensor, ...]:
            logits = self._judge_fakes(replace(output[0], image=image, image_raw=image_raw), part, settings, "fakes")
            wish = self._mean("loss/generator", judged_real(logits), settings)
            return wish, self._fake_loss(logits, settings) + self._real_loss(part, settings)

        output: list[GeneratorOutput] = []
        roots = self._generator(generated)
        image, image_raw = (tensor.detach().requires_grad_() for tensor in roots[:2])
        wish, loss = self._discriminator(judged)
        gradients = torch.autograd.grad(wish, (image, image_raw), retain_graph=True)
        loss.backward(inputs=self._discriminator.parameters)
        seeds = [*gradients, *(torch.ones_like(shape) for shape in roots[2:])]
        torch.autograd.backward(roots, seeds, inputs=self._generator.parameters)

    def _penalty_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """R1 on both real images; the mesh rendering is given, not judged."""

        def losses() -> tuple[Tensor, ...]:
            image, image_raw = (x.detach().requires_grad_() for x in self._blurred(part.image, part.image_raw, settings))
            view = self._present(View(image, image_raw, part.mesh_image, None, part.label), part.position, "reals", settings.strength)
            logits = self.discriminator(view.image, view.image_raw, view.mesh_image, view.label)
            penalty = self._mean("loss/r1_penalty", gradient_penalty(logits, image, image_raw), settings)
            return (penalty * (self.config.gamma / 2 * self.config.r1_interval),)

        (loss,) = self._discriminator(losses)
        loss.backward(inputs=self._discriminator.parameters)

    def _fakes(self, make: FakeMaker, part: StepInput, settings: StepSettings) -> Fakes:
        """Fakes for a part; their latents count towards the running mean of w."""
        fakes = make(part, settings.swap_probability)
        total = fakes.latent.detach().sum(dim=0)
        self._latents = total if self._latents is None else self._latents + total
        return fakes

    def _judge_fakes(self, output: GeneratorOutput, part: StepInput, settings: StepSettings, purpose: str) -> Tensor:
        blurred = self._blurred(output.image, output.image_raw, settings)
        view = self._present(View(*blurred, part.mesh_image, None, part.label), part.position, purpose, settings.strength)
        return self.discriminator(view.image, view.image_raw, view.mesh_image, view.label)

    def _fake_loss(self, logits: Tensor, settings: StepSettings) -> Tensor:
        self.statistics.add("logits/fake", logits)
        return self._mean("loss/fake", judged_fake(logits), settings)

    def _real_loss(self, part: StepInput, settings: StepSettings) -> Tensor:
        """Reals are to be taken for real, but not with another sample's mesh."""
        blurred = self._blurred(part.image, part.image_raw, settings)
        view = View(*blurred, part.mesh_image, part.other_mesh_image, part.label)
        view = self._present(view, part.position, "reals", settings.strength)
        logits = self.discriminator(view.image, view.image_raw, view.mesh_image, view.label)
        self.statistics.add("logits/real", logits)
        self._note(REAL_SIGN, logits.sign())
        loss = self._mean("loss/real", judged_real(logits), settings)
        if view.other_mesh_image is None:
            return loss
        logits = self.discriminator(view.image, view.image_raw, view.other_mesh_image, view.label)
        self.statistics.add("logits/mismatched", logits)
        return loss + self._mean("loss/mismatched", judged_fake(logits), settings) * self.config.mismatch_weight

    def _shape_loss(self, fakes: Fakes, part: StepInput, settings: StepSettings) -> Tensor:
        """What is asked of the generated shape, whatever it looks like."""
        loss = self._density_loss(fakes, part, settings)
        if part.mesh_depth is None or part.face is None:
            return loss
        distance = surface_distance(fakes.rays["ray_weights"], fakes.rays["ray_depths"], part.mesh_depth, part.face)
        return loss + self._mean("loss/surface", distance, settings) * self.config.surface_weight

    def _density_loss(self, fakes: Fakes, part: StepInput, settings: StepSettings) -> Tensor:
        """The lazy density term; a constant 0 in the steps between."""
        config = self.config
        if config.density_weight == 0 or settings.step % config.density_interval:
            return part.image.new_zeros(())
        shape = (config.density_points, 3)
        box = self.generator.config.render.box_warp
        points = (self.draws.uniform("density points", part.position, *shape) - 0.5) * box
        if config.density_kind == "l1":
            offsets = self.draws.normal("density offsets", part.position, *shape) * config.density_distance
            difference = density_difference(self.generator, fakes.planes, points, offsets)
        elif config.density_kind == "total-variation":
            difference = density_variation(self.generator, fakes.planes, points, config.density_distance)
        else:
            difference = density_fall(self.generator, fakes.planes, points, config.density_distance)
        return self._mean("loss/density", difference, settings) * (config.density_weight * config.density_interval)

    def _blurred(self, image: Tensor, image_raw: Tensor, settings: StepSettings) -> tuple[Tensor, Tensor]:
        """Both images with the same blur relative to their width."""
        fraction = settings.blur_fraction
        return blur(image, fraction * image.shape[-1]), blur(image_raw, fraction * image_raw.shape[-1])

    def _mean(self, name: str, values: Tensor, settings: StepSettings) -> Tensor:
        """This part's share of the mean over the batch; `values` is [N]."""
        self.statistics.add(name, values)
        self._note(name, values)
        return values.sum() / settings.share

    def _note(self, name: str, values: Tensor) -> None:
        """Count values [N] of a part; their mean over the whole batch stands in `means` when the phase has ended."""
        total = values.detach().sum()
        self._sums[name] = self._sums[name] + total if name in self._sums else total
