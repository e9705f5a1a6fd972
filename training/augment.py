"""Augmentation of everything that the discriminator sees, and its adaptive strength (Karras et al. 2020, "Training Generative
Adversarial Networks with Limited Data": the transforms of Sec. 2.3 and Appendix B, the controller of Sec. 3).

Reals and fakes pass through the same random transforms, so the discriminator has more to see and the generator nothing to imitate.
Each transform happens with the probability `strength`; every draw is keyed by seed, sample position and purpose.

Geometry moves image, raw image and mesh rendering together, by the same amount relative to their size, and the camera label with them:
only transforms are in the set that a label expresses exactly. The flip is a mirrored camera, translation and scale are intrinsics, a turn
is a roll of the camera. (Unequal scales and quarter turns of the picture, which the paper has for other data, are left out.) The flip
shows a mirrored head, so it takes part only where the colours of the mesh rendering are equal on both sides.
Colours, noise and cutout change both images and leave the mesh rendering alone: it says what should be there.

Everything is differentiable twice by the images, and nothing waits for the device: samples that are left alone are chosen by masks,
bit by bit what they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.config import LABEL_SIZE
from next3d.head.topology import Topology
from next3d.render.cameras import mirrored_camera, moved_image_camera
from next3d.types import Camera, TensorBundle
from torch_utils.ops.warp import warp
from training.config import AugmentConfig
from training.randomness import Draws

STRENGTH, SIGNS = "augment.strength", "augment.signs"
"""Names of the counters: the strength [], and since its last change the sum of mean signs and their number [2], all float64."""
LARGEST_SHIFT = 1 / 8
"""Blits move images by at most this part of their size."""
SCALE_SPREAD, SHIFT_SPREAD = 0.2, 1 / 8
"""Standard deviations of log2 of the scale, and of the shift of resampled images in image sizes."""
BRIGHTNESS_SPREAD, CONTRAST_SPREAD, SATURATION_SPREAD = 0.2, 0.5, 1.0
"""Standard deviations: of the brightness, and of log2 of contrast and saturation."""
NOISE_SPREAD = 0.1
"""Standard deviation of the noise's standard deviation."""
CUTOUT_SIZE = 0.5
"""Side of the square that cutout blanks, in image sizes."""
SAME_COLORS = 0.1
"""Mesh colours that differ by less on both sides count as equal."""


class _Transform(IntEnum):
    """What happens or does not: columns of the draws that decide, and of the amounts. Their order must not change."""

    FLIP = 0
    BLIT_SHIFT = 1
    TURN = 2
    SCALE = 3
    SHIFT = 4
    BRIGHTNESS = 5
    CONTRAST = 6
    LUMA = 7
    HUE = 8
    SATURATION = 9
    NOISE = 10
    CUTOUT = 11


@dataclass(frozen=True)
class View(TensorBundle):
    """What the discriminator is shown of N samples."""

    image: Tensor
    """[N, 3, H, H]."""
    image_raw: Tensor
    """[N, 3, r, r]."""
    mesh_image: Tensor | None
    """[N, 3, H, H], or None."""
    other_mesh_image: Tensor | None
    """[N, 3, H, H], another mesh that the images are shown with, or None."""
    label: Tensor
    """[N, 25 or more], the camera first."""


@dataclass(frozen=True)
class _Dice:
    """The draws of N samples."""

    gates: Tensor
    """[N, transforms] uniform."""
    uniform: Tensor
    """[N, transforms, 2] uniform amounts."""
    normal: Tensor
    """[N, transforms, 2] normal amounts."""
    strength: Tensor
    """[] probability of every transform."""

    @classmethod
    def cast(cls, draws: Draws, purpose: str, position: Tensor, strength: Tensor) -> _Dice:
        """Draw for samples at global positions [N]."""
        count = len(_Transform)
        return cls(
            draws.uniform(f"{purpose} gates", position, count),
            draws.uniform(f"{purpose} uniform", position, count, 2),
            draws.normal(f"{purpose} normal", position, count, 2),
            strength,
        )

    def happens(self, transform: _Transform) -> Tensor:
        """[N] bool."""
        return self.gates[:, transform] < self.strength

    def angle(self, transform: _Transform) -> Tensor:
        """[N] radians in [-pi, pi)."""
        return (2 * self.uniform[:, transform, 0] - 1) * math.pi

    def choose(self, transform: _Transform, value: Tensor, otherwise: Tensor | float) -> Tensor:
        """`value` [N, ...] where the transform happens."""
        return torch.where(self.happens(transform).reshape(-1, *[1] * (value.ndim - 1)), value, otherwise)


class Augmentation:
    """Random transforms of views; the configuration says which."""

    def __init__(self, config: AugmentConfig, draws: Draws, topology: Topology) -> None:
        self.config, self.draws = config, draws
        self.flips = same_on_both_sides(topology)

    def __call__(self, view: View, position: Tensor, purpose: str, strength: Tensor) -> View:
        """Transform every sample.

        Args:
            view: N samples.
            position: [N] int64, global sample positions: keys of the draws.
            purpose: keeps the draws of different views of a position apart.
            strength: [] probability of every transform, on the view's device.
        """
        if self.config.kind == "noaug":
            return view
        dice, parts = _Dice.cast(self.draws, f"augment {purpose}", position, strength), self.config.transforms
        if "blit" in parts:
            view = _blit(view, dice, flips=self.flips)
        if "geom" in parts:
            view = _resample(view, dice)
        if "color" in parts:
            view = _recolour(view, dice)
        if "noise" in parts:
            view = self._add_noise(view, dice, position, purpose)
        return _cut_out(view, dice) if "cutout" in parts else view

    def _add_noise(self, view: View, dice: _Dice, position: Tensor, purpose: str) -> View:
        """Independent normal noise on every pixel of both images."""
        amount = dice.choose(_Transform.NOISE, dice.normal[:, _Transform.NOISE, 0].abs() * NOISE_SPREAD, 0.0)[:, None, None, None]
        image, image_raw = (
            x + (amount * self.draws.normal(f"augment {purpose} noise {name}", position, *x.shape[1:])).to(x.dtype)
            for name, x in (("image", view.image), ("raw", view.image_raw))
        )
        return replace(view, image=image, image_raw=image_raw)


def same_on_both_sides(topology: Topology) -> bool:
    """Whether the picture of a mirrored head is the mirrored picture of the head."""
    colors, mirror = topology.guide_colors, topology.mirror_vertices
    return mirror is not None and bool((colors[mirror] - colors).abs().max() < SAME_COLORS)


def _blit(view: View, dice: _Dice, *, flips: bool) -> View:
    """Flips, and shifts by whole pixels of both images: pixels keep their values."""
    camera = Camera.from_label(view.label)
    if flips:
        flip = dice.happens(_Transform.FLIP) & (dice.uniform[:, _Transform.FLIP, 0] < 0.5)
        view = _on_pictures(view, lambda x: torch.where(flip[:, None, None, None], x.flip(3), x))
        mirrored = mirrored_camera(camera)
        camera = Camera(*(torch.where(flip[:, None, None], a, b) for a, b in zip(_parts(mirrored), _parts(camera), strict=True)))
    steps = math.gcd(view.image.shape[-1], view.image_raw.shape[-1])  # so many shifts are whole pixels of both images
    reach = math.floor(steps * LARGEST_SHIFT)
    shift = (dice.uniform[:, _Transform.BLIT_SHIFT] * (2 * reach + 1)).long() - reach  # [N, 2]
    shift = dice.choose(_Transform.BLIT_SHIFT, shift, 0)
    view = _on_pictures(view, lambda x: _shifted(x, shift * (x.shape[-1] // steps)))
    unturned, same = torch.zeros_like(view.label[:, 0]), torch.ones_like(view.label[:, 0])
    return _seen_by(view, moved_image_camera(camera, unturned, same, shift.to(view.label.dtype) / steps))


def _shifted(x: Tensor, shift: Tensor) -> Tensor:
    """Images [N, C, H, H] moved by whole pixels [N, 2] (x, y), less than H; edges are reflected."""
    size = x.shape[-1]
    place = torch.arange(size, device=x.device)[None] - shift.t()[:, :, None]  # [2, N, H]
    place = torch.where(place < 0, -1 - place, place)
    columns, rows = torch.where(place >= size, 2 * size - 1 - place, place)
    return x.gather(3, columns[:, None, None, :].expand_as(x)).gather(2, rows[:, None, :, None].expand_as(x))


def _resample(view: View, dice: _Dice) -> View:
    """Turn, isotropic scale and shift by any amount."""
    turn = dice.choose(_Transform.TURN, dice.angle(_Transform.TURN), 0.0)
    scale = dice.choose(_Transform.SCALE, (dice.normal[:, _Transform.SCALE, 0] * SCALE_SPREAD).exp2(), 1.0)
    shift = dice.choose(_Transform.SHIFT, dice.normal[:, _Transform.SHIFT] * SHIFT_SPREAD, 0.0)
    moved = dice.happens(_Transform.TURN) | dice.happens(_Transform.SCALE) | dice.happens(_Transform.SHIFT)
    view = _on_pictures(view, lambda x: torch.where(moved[:, None, None, None], _moved(x, turn, scale, shift), x))
    turn, scale, shift = (value.to(view.label.dtype) for value in (turn, scale, shift))
    return _seen_by(view, moved_image_camera(Camera.from_label(view.label), turn, scale, shift))


def _moved(x: Tensor, turn: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Images [N, C, H, H] turned [N] and scaled [N] about their centres, then shifted [N, 2] in image sizes; four samples per pixel."""
    size = 2 * x.shape[-1]
    centres = (2 * torch.arange(size, dtype=turn.dtype, device=x.device) + 1) / size - 1
    row, column = torch.meshgrid(centres, centres, indexing="ij")
    across, down = (axis[None] - 2 * move[:, None, None] for axis, move in zip((column, row), shift.t(), strict=True))
    cosine, sine = ((value / scale)[:, None, None] for value in (turn.cos(), turn.sin()))
    grid = torch.stack([cosine * across + sine * down, cosine * down - sine * across], dim=-1)  # the inverse transform
    return F.avg_pool2d(warp(x, grid.to(x.dtype)), 2)


def _recolour(view: View, dice: _Dice) -> View:
    """Brightness, contrast, inverted luma, hue and saturation of both images."""
    amount = dice.normal[:, :, 0]
    bright = dice.choose(_Transform.BRIGHTNESS, amount[:, _Transform.BRIGHTNESS] * BRIGHTNESS_SPREAD, 0.0)[:, None, None]
    contrast = dice.choose(_Transform.CONTRAST, (amount[:, _Transform.CONTRAST] * CONTRAST_SPREAD).exp2(), 1.0)[:, None, None]
    one = torch.eye(3, dtype=amount.dtype, device=amount.device)
    grey = torch.full_like(one, 1 / 3)  # projects colours onto their luma
    invert = dice.uniform[:, _Transform.LUMA, 0] < 0.5
    luma = dice.choose(_Transform.LUMA, torch.where(invert[:, None, None], one - 2 * grey, one), one)
    hue = dice.choose(_Transform.HUE, _hue_rotation(dice.angle(_Transform.HUE)), one)
    saturation = (amount[:, _Transform.SATURATION] * SATURATION_SPREAD).exp2()[:, None, None]
    saturation = dice.choose(_Transform.SATURATION, grey + (one - grey) * saturation, one)
    matrix = saturation @ hue @ luma * contrast  # [N, 3, 3]

    def change(x: Tensor) -> Tensor:
        return (matrix.to(x.dtype) @ (x.flatten(2) + bright.to(x.dtype))).reshape(x.shape)

    return replace(view, image=change(view.image), image_raw=change(view.image_raw))


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotations [N, 3, 3] of RGB about the grey axis by angles [N]."""
    cosine, sine = angle.cos(), angle.sin() / math.sqrt(3)
    same, after, before = (1 + 2 * cosine) / 3, (1 - cosine) / 3 - sine, (1 - cosine) / 3 + sine
    return torch.stack([same, after, before, before, same, after, after, before, same], dim=1).reshape(-1, 3, 3)


def _cut_out(view: View, dice: _Dice) -> View:
    """Blank the same square of both images."""
    centre = dice.choose(_Transform.CUTOUT, dice.uniform[:, _Transform.CUTOUT], math.inf)  # [N, 2]

    def cut(x: Tensor) -> Tensor:
        places = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1]
        inside = (places - centre[:, :, None]).abs() < CUTOUT_SIZE / 2  # [N, 2, H]
        return x.masked_fill((inside[:, 1, :, None] & inside[:, 0, None, :])[:, None], 0.0)

    return replace(view, image=cut(view.image), image_raw=cut(view.image_raw))


def _on_pictures(view: View, change: Callable[[Tensor], Tensor]) -> View:
    """The same geometric change of everything that is a picture."""
    mesh = None if view.mesh_image is None else change(view.mesh_image)
    other = None if view.other_mesh_image is None else change(view.other_mesh_image)
    return replace(view, image=change(view.image), image_raw=change(view.image_raw), mesh_image=mesh, other_mesh_image=other)


def _seen_by(view: View, camera: Camera) -> View:
    """The view with another camera in its label."""
    return replace(view, label=torch.cat([camera.to_label(), view.label[:, LABEL_SIZE:]], dim=1))


def _parts(camera: Camera) -> tuple[Tensor, Tensor]:
    return camera.cam2world, camera.intrinsics


def initial_counters(config: AugmentConfig, device: torch.device) -> dict[str, Tensor]:
    """What the adaptive strength carries from step to step; nothing unless it is adaptive."""
    if config.kind != "ada":
        return {}
    strength = torch.full((), config.p, dtype=torch.float64, device=device)
    return {STRENGTH: strength, SIGNS: torch.zeros(2, dtype=torch.float64, device=device)}


def adapted(config: AugmentConfig, counters: dict[str, Tensor], sign: Tensor, *, step: int, batch: int) -> dict[str, Tensor]:
    """The counters after a step (Sec. 3 of the paper, with r_t, the mean sign of the discriminator's verdict on reals).

    Args:
        config: target and speed.
        counters: those of `initial_counters`.
        sign: [] float64, mean sign of the verdicts on the step's reals, over the whole batch.
        step: number of the step, from 0.
        batch: size of the batch.

    Returns:
        New tensors; the strength changes in every `config.interval`-th step. The device is not waited for.
    """
    seen = counters[SIGNS] + torch.stack([sign, torch.ones_like(sign)])
    if (step + 1) % config.interval:
        return {**counters, SIGNS: seen}
    direction = torch.sign(seen[0] / seen[1] - config.target)
    change = batch * config.interval / (config.speed_kimg * 1000)
    return {**counters, STRENGTH: (counters[STRENGTH] + direction * change).clamp(0, 1), SIGNS: torch.zeros_like(seen)}
