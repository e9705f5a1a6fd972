"""One training step: generator, discriminator, and R1 every so often.

Losses are means over the whole batch: each part (`--batch-gpu`) adds its share of the sum, so splitting a batch changes nothing.
Backward passes name the parameters they are for (`inputs=`), so nothing computes gradients that nobody uses.

The density term joins the generator's ordinary step, where the planes are at hand, and needs no step of its own. R1 takes a step of
its own, so the discriminator's optimiser makes k + 1 steps where it would make k; its learning rate and decays are corrected for that
(StyleGAN2, Appendix B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Adam

from next3d.discriminator import Discriminator
from next3d.generator import Generator
from next3d.types import GeneratorOutput
from training.config import LossConfig, OptimizerConfig
from training.fakes import FakeMaker, Fakes, StepInput
from training.losses import blur, density_difference, gradient_penalty, judged_fake, judged_real
from training.randomness import Draws
from training.report import Statistics


@dataclass(frozen=True)
class StepSettings:
    """Scheduled quantities of one step."""

    step: int
    """Number of the step, from 0."""
    batch: int
    """Samples in all parts together."""
    blur_fraction: float
    """Standard deviation of the blur as a fraction of the image's width."""
    swap_probability: float


def build_optimizer(network: nn.Module, config: OptimizerConfig, interval: int | None = None) -> Adam:
    """Adam over all parameters, with one fused kernel where the device has it.

    Args:
        network: what it trains.
        config: step size and decays.
        interval: a regulariser takes a step of its own after every so many; None if there is none.
    """
    correction = 1.0 if interval is None else interval / (interval + 1)
    betas = (config.betas[0] ** correction, config.betas[1] ** correction)
    return Adam(network.parameters(), lr=config.lr * correction, betas=betas, eps=config.eps, fused=True)


class Phases:
    """The steps of both networks over the parts of a batch."""

    def __init__(
        self, generator: Generator, discriminator: Discriminator, optimizers: tuple[Adam, Adam], config: LossConfig, draws: Draws
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.generator_optimizer, self.discriminator_optimizer = optimizers
        self.config = config
        self.draws = draws
        self.statistics = Statistics()
        self._generator_parameters = list(generator.parameters())
        self._discriminator_parameters = list(discriminator.parameters())
        self._make_for_generator = FakeMaker(generator, draws, config, "generator")
        self._make_for_discriminator = FakeMaker(generator, draws, config, "discriminator")

    def step(self, parts: Sequence[StepInput], settings: StepSettings) -> None:
        """Train both networks on one batch."""
        if self.config.share_fakes:
            for part in parts:
                self._shared_gradients(part, settings)
            _descend(self.generator_optimizer)
            _descend(self.discriminator_optimizer)
        else:
            for part in parts:
                self._generator_gradients(part, settings)
            _descend(self.generator_optimizer)
            for part in parts:
                self._discriminator_gradients(part, settings)
            _descend(self.discriminator_optimizer)
        if self.config.gamma > 0 and settings.step % self.config.r1_interval == 0:
            for part in parts:
                self._penalty_gradients(part, settings)
            _descend(self.discriminator_optimizer)

    def _generator_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """The generator makes fakes that are to be taken for real."""
        fakes = self._make_for_generator(part, settings.swap_probability)
        logits = self._judge_fakes(fakes.output, part, settings)
        loss = self._mean("loss/generator", judged_real(logits), settings)
        loss = loss + self._density_loss(fakes, part, settings)
        loss.backward(inputs=self._generator_parameters)

    def _discriminator_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """The discriminator tells reals from fresh fakes."""
        with torch.no_grad():
            fakes = self._make_for_discriminator(part, settings.swap_probability)
        loss = self._fake_loss(self._judge_fakes(fakes.output, part, settings), settings) + self._real_loss(part, settings)
        loss.backward(inputs=self._discriminator_parameters)

    def _shared_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """Both at once, on the same fakes and the same logits."""
        fakes = self._make_for_generator(part, settings.swap_probability)
        made = (fakes.output.image, fakes.output.image_raw)
        image, image_raw = (tensor.detach().requires_grad_() for tensor in made)
        logits = self._judge_fakes(replace(fakes.output, image=image, image_raw=image_raw), part, settings)

        wish = self._mean("loss/generator", judged_real(logits), settings)
        gradients = torch.autograd.grad(wish, (image, image_raw), retain_graph=True)
        loss = self._fake_loss(logits, settings) + self._real_loss(part, settings)
        loss.backward(inputs=self._discriminator_parameters)

        density = self._density_loss(fakes, part, settings)
        roots, seeds = [*made], [*gradients]
        if density.requires_grad:
            roots.append(density)
            seeds.append(torch.ones_like(density))
        torch.autograd.backward(roots, seeds, inputs=self._generator_parameters)

    def _penalty_gradients(self, part: StepInput, settings: StepSettings) -> None:
        """R1 on both real images; the mesh rendering is given, not judged."""
        image, image_raw = (x.detach().requires_grad_() for x in self._blurred(part.image, part.image_raw, settings))
        logits = self.discriminator(image, image_raw, part.mesh_image, part.label)
        penalty = self._mean("loss/r1_penalty", gradient_penalty(logits, image, image_raw), settings)
        loss = penalty * (self.config.gamma / 2 * self.config.r1_interval)
        loss.backward(inputs=self._discriminator_parameters)

    def _judge_fakes(self, output: GeneratorOutput, part: StepInput, settings: StepSettings) -> Tensor:
        image, image_raw = self._blurred(output.image, output.image_raw, settings)
        return self.discriminator(image, image_raw, part.mesh_image, part.label)

    def _fake_loss(self, logits: Tensor, settings: StepSettings) -> Tensor:
        self.statistics.add("logits/fake", logits)
        return self._mean("loss/fake", judged_fake(logits), settings)

    def _real_loss(self, part: StepInput, settings: StepSettings) -> Tensor:
        """Reals are to be taken for real, but not with another sample's mesh."""
        image, image_raw = self._blurred(part.image, part.image_raw, settings)
        logits = self.discriminator(image, image_raw, part.mesh_image, part.label)
        self.statistics.add("logits/real", logits)
        loss = self._mean("loss/real", judged_real(logits), settings)
        if part.other_mesh_image is None:
            return loss
        logits = self.discriminator(image, image_raw, part.other_mesh_image, part.label)
        self.statistics.add("logits/mismatched", logits)
        return loss + self._mean("loss/mismatched", judged_fake(logits), settings) * self.config.mismatch_weight

    def _density_loss(self, fakes: Fakes, part: StepInput, settings: StepSettings) -> Tensor:
        """The lazy density term; a constant 0 in the steps between."""
        config = self.config
        if config.density_weight == 0 or settings.step % config.density_interval:
            return part.image.new_zeros(())
        shape = (config.density_points, 3)
        box = self.generator.config.render.box_warp
        points = (self.draws.uniform("density points", part.position, *shape) - 0.5) * box
        offsets = self.draws.normal("density offsets", part.position, *shape) * config.density_distance
        difference = density_difference(self.generator, fakes.planes, points, offsets)
        return self._mean("loss/density", difference, settings) * (config.density_weight * config.density_interval)

    def _blurred(self, image: Tensor, image_raw: Tensor, settings: StepSettings) -> tuple[Tensor, Tensor]:
        """Both images with the same blur relative to their width."""
        fraction = settings.blur_fraction
        return blur(image, fraction * image.shape[-1]), blur(image_raw, fraction * image_raw.shape[-1])

    def _mean(self, name: str, values: Tensor, settings: StepSettings) -> Tensor:
        """This part's share of the mean over the batch; `values` is [N]."""
        self.statistics.add(name, values)
        return values.sum() / settings.batch


def _descend(optimizer: Adam) -> None:
    """One step with the gradients that the parts left."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
