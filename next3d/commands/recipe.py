"""Options of `next3d train` that make the recipe: losses, schedules, augmentation, networks and their precision."""

from __future__ import annotations

from typing import Any

import click

from dnnlib.params import Real
from next3d.commands.settings import AT_LEAST_1, KINDS, NOT_NEGATIVE, POSITIVE, PROBABILITY, Names, _Command, setting
from training.config import DENSITY_KINDS, TRANSFORMS

COUNT = click.IntRange(min=0)
BOTH = ("model.generator", "model.discriminator")


class Factors(click.ParamType):
    """Names with factors, `texture=0.5,decoder=0.1`."""

    name = "factors"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[tuple[str, float], ...]:
        """To pairs of name and factor."""
        pairs = [entry.partition("=")[::2] for entry in str(value).split(",")]
        try:
            return tuple((name.strip(), float(factor)) for name, factor in pairs)
        except ValueError:
            self.fail(f"{value!r} is not a list like texture=0.5,decoder=0.1", param, ctx)


class HalfType(click.ParamType):
    """Whether half precision is bfloat16."""

    name = "boolean"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """To the name of the type."""
        return "bfloat16" if click.BOOL.convert(value, param, ctx) else "float16"


OPTIONS = (
    setting("--gamma", "loss.gamma", type=NOT_NEGATIVE, help="Weight of R1.  [1]"),
    setting("--glr", "generator_optimizer.lr", type=POSITIVE, help="Generator's learning rate.  [0.0025]"),
    setting("--dlr", "discriminator_optimizer.lr", type=POSITIVE, help="Discriminator's learning rate.  [0.002]"),
    setting("--mbstd-group", "model.discriminator.group_size", type=AT_LEAST_1, help="Group of the minibatch deviation.  [preset]"),
    setting("--gen-pose-cond", "model.generator.mapping.pose_conditioning", type=bool, help="Condition the generator on cameras.  [true]"),
    setting("--gpc-reg-prob", "schedule.swap_probability", type=PROBABILITY, help="… on another one: probability after the fade.  [0.5]"),
    setting("--gpc-reg-fade-kimg", "schedule.swap_fade_kimg", type=NOT_NEGATIVE, help="It falls from 1 over this time.  [preset]"),
    setting("--blur-fade-kimg", "schedule.blur_fade_kimg", type=NOT_NEGATIVE, help="Images start blurred; this long it fades.  [preset]"),
    setting("--density-reg", "loss.density_weight", type=NOT_NEGATIVE, help="Weight of the density regularisation.  [0.25]"),
    setting("--density-reg-every", "loss.density_interval", type=AT_LEAST_1, help="Steps from one such regularisation to the next.  [4]"),
    setting("--density-reg-p-dist", "loss.density_distance", type=NOT_NEGATIVE, help="Distance between its points, world units.  [0.004]"),
    setting("--surface-weight", "loss.surface_weight", type=NOT_NEGATIVE, help="Weight of the density's distance from the mesh.  [preset]"),
    setting("--style-mixing-prob", "loss.style_mixing", type=PROBABILITY, help="Probability of styles from two latents.  [0]"),
    setting("--kind", "model.generator.kind", type=KINDS, help="Conventions: ours, or those of published weights to go on from.  [next3d]"),
    setting("--mesh-image", "model.discriminator.mesh_image", type=bool, help="Show the discriminator a rendering of the mesh.  [true]"),
    setting("--mismatch-weight", "loss.mismatch_weight", type=NOT_NEGATIVE, help="Weight of reals with others' meshes as fakes.  [preset]"),
    setting("--mismatch-expression", "loss.mismatch_expression", type=PROBABILITY, help="Share that differs in expression.  [preset]"),
    setting("--mismatch-directions", "loss.mismatch_directions", type=PROBABILITY, help="… of those: not in jaw or gaze.  [preset]"),
    setting("--share-fakes", "loss.share_fakes", type=bool, help="Train both networks on one pass over the fakes: faster.  [preset]"),
    setting("--g-lr-mul", "generator_optimizer.multipliers", type=Factors(), help="Its factors for single parts: texture=0.5,decoder=0.1"),
    setting("--d-lr-mul", "discriminator_optimizer.multipliers", type=Factors(), help="The same for the discriminator's: b512=0.1"),
    setting("--map-lrmul", "model.generator.mapping.lr_multiplier", type=POSITIVE, help="Learning rate of the mapping, factor.  [0.01]"),
    setting("--map-depth", "model.generator.mapping.layers", type=AT_LEAST_1, help="Layers of the mapping.  [2]"),
    setting("--freezed", "discriminator_optimizer.frozen_blocks", type=COUNT, help="Discriminator blocks that stay as they are.  [0]"),
    setting("--cbase", *(f"{name}.channel_base" for name in BOTH), type=AT_LEAST_1, help="Channels at resolution r: this / r …  [preset]"),
    setting("--cmax", *(f"{name}.channel_max" for name in BOTH), type=AT_LEAST_1, help="… and at most this, in both networks.  [preset]"),
    setting("--gen-exp-cond", "data.expression", type=bool, help="Condition the generator on expression and jaw, too.  [false]"),
    setting("--disc-c-noise", "loss.label_noise", type=NOT_NEGATIVE, help="Noise on the discriminator's labels, standard deviations.  [0]"),
    setting("--reg-type", "loss.density_kind", type=click.Choice(DENSITY_KINDS), help="What the density regularisation dislikes.  [l1]"),
    setting("--blur-init-sigma", "schedule.blur_sigma", type=NOT_NEGATIVE, help="Blur at the start, pixels of 512.  [10]"),
    setting("--neural-rendering-resolution-initial", "schedule.raw_initial", type=AT_LEAST_1, help="Raw image at the start.  [preset]"),
    setting("--neural-rendering-resolution-final", "schedule.raw_final", type=AT_LEAST_1, help="Raw image after the fade.  [the first]"),
    setting("--neural-rendering-resolution-fade-kimg", "schedule.raw_fade_kimg", type=NOT_NEGATIVE, help="It grows this long.  [1000]"),
    setting("--mirror", "data.mirror", type=bool, help="Show half of the samples as their mirror images.  [false]"),
    setting("--aug", "augment.kind", type=click.Choice(["noaug", "ada", "fixed"]), help="Augmentation: none, adaptive, fixed.  [noaug]"),
    setting("--p", "augment.p", type=PROBABILITY, help="Probability of its transforms: fixed, or at the start.  [0]"),
    setting("--target", "augment.target", type=Real(-1, 1), help="Mean sign of real logits that ada aims at.  [0.6]"),
    setting("--ada-kimg", "augment.speed_kimg", type=POSITIVE, help="ada goes from 0 to 1 in this time at the fastest.  [500]"),
    setting("--ada-interval", "augment.interval", type=AT_LEAST_1, help="Steps between its changes.  [4]"),
    setting("--augpipe", "augment.transforms", type=Names(), help=f"Groups of transforms: {', '.join(TRANSFORMS)}.  [blit,geom,color]"),
    setting("--g-num-fp16-res", "precision.generator_blocks", type=COUNT, help="Generator resolutions in float16, from the top.  [0]"),
    setting("--sr-num-fp16-res", "precision.superres_blocks", type=COUNT, help="Super-resolution blocks in float16.  [0]"),
    setting("--d-num-fp16-res", "precision.discriminator_blocks", type=COUNT, help="Discriminator resolutions in float16.  [0]"),
    setting("--bf16", "precision.half_type", type=HalfType(), help="bfloat16 instead of float16 there; alone: in most blocks.  [false]"),
    setting("--tf32", "precision.tf32", type=bool, help="TensorFloat-32 on GPUs that have it.  [false]"),
    setting("--compile", "precision.compile", type=bool, help="Compile the synthesis networks with torch.compile.  [false]"),
)
"""In the order of `--help`."""


def recipe_options(command: _Command) -> _Command:
    """Add all of them to a command."""
    for add in reversed(OPTIONS):
        command = add(command)
    return command
