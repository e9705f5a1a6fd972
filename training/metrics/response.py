"""Does the picture do what the mesh says, and only there? Two views of one question.

Change: with one control moved from one end of its range to the other and everything else held, how much do the pixels change that
it should change, and how much the rest of the head. Reading: a regressor that learned from real images to read the control reads it
back from generated ones (Spearman correlation with the command).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from next3d.head.model import HeadModel
from training.metrics.controls import Control
from training.metrics.regions import control_regions
from training.metrics.regressor import Reader, spearman
from training.metrics.scenes import Sampler, Scenes
from training.randomness import Draws


@dataclass(frozen=True)
class Change:
    """Mean absolute change of the image between the ends of a control's range, in fractions of the value range."""

    inside: float
    """In the pixels that the control should change."""
    elsewhere: float
    """In the other pixels of the head."""

    @property
    def ratio(self) -> float:
        """How many times more changes inside than elsewhere; infinite if nothing changes elsewhere."""
        return self.inside / self.elsewhere if self.elsewhere > 0 else (float("inf") if self.inside > 0 else 0.0)


def control_change(sampler: Sampler, scenes: Scenes, head: HeadModel, control: Control) -> Change:
    """Generate every scene with the control at both ends of its range and compare, region by region.

    Regions are measured per scene and averaged over the scenes that show them; images span [-1, 1], a range of 2.
    """
    low, high = (sampler(scenes.commanded(control, torch.full([len(scenes)], end))) for end in (control.low, control.high))
    inside, elsewhere = control_regions(head, scenes.moving, scenes.camera, control, low.shape[-1])
    return measured_change(low, high, inside, elsewhere)


def measured_change(before: Tensor, after: Tensor, inside: Tensor, elsewhere: Tensor) -> Change:
    """Mean absolute change of images [N, 3, H, H] in [-1, 1] in two regions [N, H, H]."""
    change = (after.float() - before.float()).abs().mean(dim=1) / 2  # [N, H, H]
    return Change(_regional_mean(change, inside), _regional_mean(change, elsewhere))


def _regional_mean(values: Tensor, region: Tensor) -> float:
    """Mean over the scenes of the mean of values [N, H, H] over each scene's region; scenes that do not show it do not count."""
    weight = region.to(values)
    area = weight.sum(dim=(1, 2))
    seen = area > 0
    return float(((values * weight).sum(dim=(1, 2))[seen] / area[seen]).mean()) if bool(seen.any()) else 0.0


def read_back(sampler: Sampler, scenes: Scenes, reader: Reader, seed: int = 0) -> float:
    """Spearman correlation between commands drawn uniformly over the reader's control's range and what it reads from the images."""
    commands = reader.control.at(Draws(seed).uniform(f"metrics: {reader.control.name}", torch.arange(len(scenes))))
    commanded = scenes.commanded(reader.control, commands)
    readings = reader.read(sampler(commanded), commanded.moving, commanded.camera)
    return spearman(commands, readings)
