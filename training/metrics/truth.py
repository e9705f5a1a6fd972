"""A perfect "generator": synthetic portraits that show exactly what was commanded. Metrics are measured with it, and floors that need the
same person twice, which no photo collection has. Only for head models that synthetic portraits can be made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.synthetic.backgrounds import draw_background
from next3d.synthetic.draws import numpy_stream, torch_stream
from next3d.synthetic.looks import Extras, sample_look
from next3d.synthetic.portrait import Portrait
from next3d.synthetic.render import render_portrait
from next3d.synthetic.sampling import sample_params
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
        person = _person(scene.z[0])
        look = replace(sample_look(person, 0), extras=Extras())
        background = draw_background(numpy_stream(person, 0, "background"), self.resolution)
        return render_portrait(self.head, scene.moving, scene.camera, look, background)


def _person(z: Tensor) -> int:
    """The number of the look that a latent [Z] picks."""
    return int(float(z.double().sum().remainder(1.0)) * PEOPLE)


def picture(portrait: Portrait) -> Tensor:
    """A portrait as an image [3, H, H] in [-1, 1]."""
    return torch.from_numpy(portrait.image).permute(2, 0, 1).float() / 127.5 - 1


@dataclass(frozen=True)
class MistakenSampler:
    """Renders scenes with mistakes of known size: a metric must see them, and only those that it is about."""

    truth: TruthSampler
    expression: float = 0.0
    """Share by which expression and jaw are blended towards those of somebody else."""
    turn: float = 0.0
    """Radians by which every head is turned to its left, on top of what was commanded."""
    gaze: float = 0.0
    """Radians by which the eyes are turned to the left, on top of what was commanded."""

    def __call__(self, scenes: Scenes) -> Tensor:
        """Images [N, 3, H, H] in [-1, 1]."""
        return self.truth(replace(scenes, params=self.mistaken(scenes)))

    def mistaken(self, scenes: Scenes) -> HeadParams:
        """What is shown instead of what was commanded."""
        params = scenes.moving
        others = [sample_params(self.truth.head, torch_stream(_person(z), 0, "mistake"), 1) for z in scenes.z]
        expression = torch.lerp(params.expression, torch.cat([other.expression for other in others]), self.expression)
        pose = params.pose.clone()
        pose[:, Joint.JAW] = torch.lerp(pose[:, Joint.JAW], torch.cat([other.pose for other in others])[:, Joint.JAW], self.expression)
        pose[:, Joint.NECK, 1] += self.turn
        pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], 1] += self.gaze
        return replace(params, expression=expression, pose=pose)
