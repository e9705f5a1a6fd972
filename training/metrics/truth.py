"""A perfect "generator": synthetic portraits that show exactly what was commanded. Metrics are measured with it, and floors that need the
same person twice, which no photo collection has. Only for head models that synthetic portraits can be made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.model import HeadModel
from next3d.synthetic.backgrounds import draw_background
from next3d.synthetic.draws import numpy_stream
from next3d.synthetic.looks import Extras, sample_look
from next3d.synthetic.portrait import Portrait
from next3d.synthetic.render import render_portrait
from training.metrics.scenes import Scenes

PEOPLE = 1 << 20
"""Different looks; a latent z picks one."""


@dataclass(frozen=True)
class TruthSampler:
    """Renders scenes as they were commanded, at `resolution`; z decides skin, hair, eyes, clothes, light and background."""

    head: HeadModel
    resolution: int

    def __call__(self, scenes: Scenes) -> Tensor:
        """Images [N, 3, H, H] in [-1, 1]."""
        return torch.stack([picture(portrait) for portrait in self.portraits(scenes)])

    def portraits(self, scenes: Scenes) -> list[Portrait]:
        """The same with their depth and segmentation."""
        return [self._render(scenes[index : index + 1]) for index in range(len(scenes))]

    def _render(self, scene: Scenes) -> Portrait:
        person = int(float(scene.z[0].double().sum().remainder(1.0)) * PEOPLE)
        look = replace(sample_look(person, 0), extras=Extras())
        background = draw_background(numpy_stream(person, 0, "background"), self.resolution)
        return render_portrait(self.head, scene.moving, scene.camera, look, background)


def picture(portrait: Portrait) -> Tensor:
    """A portrait as an image [3, H, H] in [-1, 1]."""
    return torch.from_numpy(portrait.image).permute(2, 0, 1).float() / 127.5 - 1
