"""A paper mask for a head, and a painter for a generator: pictures whose jaw, gaze and lids are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.head.topology import Topology
from next3d.render.cameras import orbit_camera
from next3d.synthetic.generate import SyntheticConfig, write_dataset
from next3d.types import Camera, HeadMesh
from training.dataset import PortraitDataset, open_dataset
from training.metrics.context import Context, MetricSettings
from training.metrics.face_state import LANDMARKS, FaceState, avatar_controls, true_state
from training.metrics.scenes import Scenes
from training.metrics.truth import TruthSampler

SIZE = 64
HALF = 0.27
"""Half side of the mask, world units; a portrait image spans about 0.63."""
DROP = 0.2
"""How far the chin sinks per radian of jaw."""


def _ellipse(count: int, centre: tuple[float, float], radii: tuple[float, float], start: float = 0.0, turn: float = 2 * math.pi) -> Tensor:
    angles = start + torch.arange(count) * (turn / count)
    return torch.stack([centre[0] + radii[0] * angles.cos(), centre[1] + radii[1] * angles.sin(), torch.zeros(count)], dim=1)


def _landmarks() -> Tensor:
    """[68, 3] in the usual order, on the plane z = 0."""
    points = torch.zeros(68, 3)
    jaw_line = torch.linspace(math.pi, 2 * math.pi, 17)
    points[:17] = torch.stack([0.2 * jaw_line.cos(), 0.02 + 0.2 * jaw_line.sin(), torch.zeros(17)], dim=1)
    points[17:27, :2] = torch.stack([torch.linspace(-0.15, 0.15, 10), torch.full((10,), 0.16)], dim=1)
    points[27:36, 1] = torch.linspace(0.1, 0.0, 9)
    points[36:42] = _ellipse(6, (-0.08, 0.1), (0.045, 0.022))
    points[42:48] = _ellipse(6, (0.08, 0.1), (0.045, 0.022))
    points[48:68] = _ellipse(20, (0.0, -0.07), (0.07, 0.02))
    return points


class MaskHead(HeadModel):
    """A square of two triangles with 68 landmarks; the jaw moves the lower landmarks down, shape moves the whole mask sideways."""

    identifier = "mask/1"
    shape_names = ("sideways",)
    expression_names = ("mouthSmileLeft", "eyeBlinkLeft", "eyeBlinkRight")

    def __init__(self) -> None:
        super().__init__()
        corners = torch.tensor([[-HALF, -HALF, 0], [HALF, -HALF, 0], [HALF, HALF, 0], [-HALF, HALF, 0]])
        faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        self.topology = Topology(faces, (corners[:, :2] / HALF + 1) / 2, faces, torch.ones(1, 4, 4), corners / HALF)
        self.corners, self.points = corners, _landmarks()
        self.lower = torch.zeros(68)
        self.lower[[*range(4, 13), *range(55, 60), 65, 66, 67]] = 1

    def neutral(self, count: int = 1) -> HeadParams:
        return HeadParams(torch.zeros(count, 1), torch.zeros(count, 3), torch.zeros(count, 5, 3), torch.zeros(count, 3), torch.ones(count))

    def forward(self, params: HeadParams) -> HeadMesh:
        shift = params.translation + 0.01 * params.shape * torch.tensor([1.0, 0.0, 0.0])
        landmarks = self.points.expand(len(params.scale), 68, 3).clone()
        landmarks[..., 1] -= DROP * params.pose[:, Joint.JAW, :1] * self.lower
        return HeadMesh(self.corners + shift[:, None], landmarks + shift[:, None])

    def fingerprint(self) -> str:
        return "0" * 64


@dataclass(frozen=True)
class Painter:
    """A "generator" that draws what the parameters say, on a face whose colour is the person's."""

    head: MaskHead
    faithful: float = 1.0
    """Share of pictures that show the commanded parameters; the others show a closed mouth and open eyes looking ahead."""

    def __call__(self, scenes: Scenes) -> Tensor:
        obeys = (torch.arange(len(scenes)) % 100 < 100 * self.faithful).float()
        images = []
        for index in range(len(scenes)):
            images.append(self._paint(scenes[index : index + 1], float(obeys[index])))
        return torch.cat(images)

    def _paint(self, scene: Scenes, obeys: float) -> Tensor:
        axis = ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1) * 0.3166  # world units across the image at z = 0, frontal camera
        x, y = axis.expand(SIZE, SIZE), -axis[:, None].expand(SIZE, SIZE)
        x = x - 0.01 * scene.params.shape[0, 0]
        pose, blink = scene.params.pose[0] * obeys, scene.params.expression[0, 1] * obeys
        image = (0.3 + 0.1 * scene.z[0, :3, None, None].tanh()).expand(3, SIZE, SIZE).clone()
        opening = DROP * pose[Joint.JAW, 0]
        image[:, (x.abs() < 0.06) & (y < -0.07) & (y > -0.07 - opening)] = -0.9
        for side, joint in ((1, Joint.LEFT_EYE), (-1, Joint.RIGHT_EYE)):
            white = ((x - side * 0.08) / 0.045) ** 2 + ((y - 0.1) / (0.022 * (1 - blink) + 1e-4)) ** 2 < 1
            iris = (x - side * 0.08 - 0.08 * pose[joint, 1]) ** 2 + (y - 0.1) ** 2 < 0.015**2
            image[:, white] = 0.9
            image[:, white & iris] = -0.8
        return image[None]


@pytest.fixture(scope="session")
def mask_head() -> MaskHead:
    return MaskHead()


def mask_scenes(count: int, seed: int) -> Scenes:
    """Random people in front of a frontal camera, with every control somewhere in its range."""
    generator = torch.Generator().manual_seed(seed)
    pose = torch.zeros(count, 5, 3)
    pose[:, Joint.JAW, 0] = 0.35 * torch.rand(count, generator=generator)
    pose[:, Joint.LEFT_EYE :, 1] = 0.7 * torch.rand(count, 1, generator=generator) - 0.35
    blink = torch.rand(count, 1, generator=generator).square()
    params = HeadParams(
        shape=torch.randn(count, 1, generator=generator),
        expression=torch.cat([torch.rand(count, 1, generator=generator), blink, blink], dim=1),
        pose=pose,
        translation=torch.zeros(count, 3),
        scale=torch.ones(count),
    )
    zeros = torch.zeros(count)
    return Scenes(torch.randn(count, 8, generator=generator), params, orbit_camera(zeros, zeros))


def frontal(count: int) -> Camera:
    """Frontal portrait cameras."""
    return orbit_camera(torch.zeros(count), torch.zeros(count))


@pytest.fixture(scope="session")
def portraits(tmp_path_factory) -> PortraitDataset:
    """280 portraits with their ground truth and 80 to hold out, three of each person."""
    path = tmp_path_factory.mktemp("portraits") / "portraits.zip"
    write_dataset(SyntheticConfig(count=360, resolution=64, seed=0, per_identity=3), path)
    return open_dataset(path)


@pytest.fixture(scope="session")
def truth(portraits) -> TruthSampler:
    """A "generator" that shows what it is told."""
    return TruthSampler(load_head(portraits.head_name), portraits.resolution)


@pytest.fixture(scope="session")
def avatar_context(portraits, truth) -> Context:
    """The truth under test; what is fitted is fitted once for all tests."""
    return Context(sampler=truth, latent_size=8, dataset=portraits, settings=MetricSettings(people=64, holdout=80, fitting=280))


class CodeReader:
    """Reads faces off pictures that hold their numbers instead of colours: see `code`."""

    def __init__(self, controls: int) -> None:
        self.size = 2 * LANDMARKS + 3 + 3 * LANDMARKS + 2 + controls

    def read(self, images: Tensor) -> FaceState:
        return FaceState.from_rows(images.flatten(1)[:, : self.size])


@pytest.fixture
def coded_context(portraits, truth, monkeypatch) -> Context:
    """A sampler whose pictures hold what they should show as numbers, and a reader that reads them: only commands and order matter."""
    known = avatar_controls(truth.head)

    def code(scenes: Scenes) -> Tensor:
        rows = true_state(truth.head, scenes.moving, scenes.camera, known).to_rows()
        return torch.nn.functional.pad(rows, (0, 3 * SIZE * SIZE - rows.shape[1])).view(-1, 3, SIZE, SIZE)

    context = Context(sampler=code, latent_size=8, dataset=portraits, settings=MetricSettings(people=60, holdout=80, fitting=280))
    context.once("avatar: reader", lambda: CodeReader(len(known)))
    return context
