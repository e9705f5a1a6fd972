"""How reals and fakes come before the discriminator: augmented, and with noise on the label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.config import LABEL_SIZE
from training.augment import Augmentation, View
from training.randomness import Draws


@dataclass(frozen=True)
class Presentation:
    """What happens to every view, whatever it shows. Its draws are keyed by the sample's position and the view's purpose."""

    augmentation: Augmentation
    draws: Draws
    label_noise: Tensor | None
    """[25] standard deviations of the noise on camera labels; None for no noise."""

    def __call__(self, view: View, position: Tensor, purpose: str, strength: Tensor) -> View:
        """Views of samples at global positions [N] for one purpose; `strength` [] is the augmentation's."""
        view = self.augmentation(view, position, purpose, strength)
        if self.label_noise is None:
            return view
        noise = self.draws.normal(f"label noise {purpose}", position, LABEL_SIZE) * self.label_noise
        label = torch.cat([view.label[:, :LABEL_SIZE] + noise.to(view.label.dtype), view.label[:, LABEL_SIZE:]], dim=1)
        return replace(view, label=label)
