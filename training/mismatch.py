"""Meshes that a real image does not show, for the discriminator to tell from the right ones (Reed et al. 2016, matching-aware).

Three kinds. Another person's head in another pose teaches to look at the mesh at all, and that is soon easy. The image's own head with only
the expression, jaw and gaze of another teaches to look at eyes and mouth, which are a few pixels. The same with its own jaw and gaze, too,
leaves brows, lids, lips and cheeks: nobody has to look at a smile where an open mouth tells. Neighbours come from the sample's group
of the minibatch standard deviation, so that splitting a batch changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.model import HeadParams, Joint
from training.batch import HeadRow
from training.randomness import Draws


@dataclass(frozen=True)
class Mismatch:
    """Draws which kind of mismatch each sample gets."""

    draws: Draws
    group: int
    """Samples per group."""
    expression_share: float
    """Probability of the second and third kind together; heads that are known as meshes alone have none."""
    directions_share: float = 0.0
    """Of these, the third kind."""

    def heads(self, head: HeadRow, position: Tensor) -> HeadRow:
        """For each of N heads one that it is not; `position` [N] are the global sample indices."""
        count = len(position)
        group = min(self.group, count)
        neighbour = torch.arange(count, device=position.device).reshape(-1, group).roll(1, dims=1).flatten()
        others = head[neighbour]
        if self.expression_share == 0 or not isinstance(head, HeadParams):
            return others
        kept = self.draws.uniform("mismatch kind", position, 1) < self.expression_share  # [N, 1]
        still = self.draws.uniform("mismatch directions", position, 1) < self.directions_share
        assert isinstance(others, HeadParams)
        moving = torch.where(still[..., None], head.pose, others.pose)[:, Joint.JAW :]
        pose = torch.cat([head.pose[:, : Joint.JAW], moving], dim=1)
        return replace(
            others,
            shape=torch.where(kept, head.shape, others.shape),
            pose=torch.where(kept[..., None], pose, others.pose),
            translation=torch.where(kept, head.translation, others.translation),
            scale=torch.where(kept[:, 0], head.scale, others.scale),
        )
