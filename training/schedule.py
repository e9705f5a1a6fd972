"""Quantities that change with the number of real images shown."""

from __future__ import annotations

from training.config import ScheduleConfig

BLUR_REFERENCE = 512
"""Image size that `ScheduleConfig.blur_sigma` refers to."""


def _progress(images: int, kimg: float) -> float:
    """How far a fade over `kimg` has come, 0 to 1."""
    return min(images / (kimg * 1000), 1.0) if kimg > 0 else 1.0


def blur_sigma(config: ScheduleConfig, images: int, resolution: int) -> float:
    """Standard deviation of the blur in pixels of an image of this resolution; falls linearly to 0."""
    return (1 - _progress(images, config.blur_fade_kimg)) * config.blur_sigma * resolution / BLUR_REFERENCE


def swap_probability(config: ScheduleConfig, images: int) -> float:
    """Probability that the generator is conditioned on another sample's camera; falls linearly from 1."""
    if config.swap_probability is None:
        return 0.0
    return 1 + (config.swap_probability - 1) * _progress(images, config.swap_fade_kimg)


def ema_decay(config: ScheduleConfig, images: int, batch: int) -> float:
    """What the averaged generator keeps of itself in a step that brings `images` to this number."""
    half_life = config.ema_kimg * 1000 if config.ema_kimg is not None else batch * 10 / 32 * 1000
    if config.ema_rampup is not None:
        half_life = min(half_life, images * config.ema_rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))


def raw_resolution(config: ScheduleConfig, images: int, default: int) -> int:
    """Neural rendering resolution, an even number on the way from the first to the last; `default` is the networks' own."""
    if config.raw_initial is None:
        return default
    final = config.raw_initial if config.raw_final is None else config.raw_final
    size = config.raw_initial + (final - config.raw_initial) * _progress(images, config.raw_fade_kimg)
    return 2 * round(size / 2)
