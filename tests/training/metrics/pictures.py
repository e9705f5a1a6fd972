"""Quick stand-ins: a feature detector with random weights, samplers that paint, and a context of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from next3d.media.images import from_uint8
from tests.training.factory import picture, write_own
from training.dataset import PortraitDataset, open_dataset
from training.metrics.context import Context, MetricSettings
from training.metrics.inception import InceptionV3
from training.metrics.scenes import Scenes

SIZE = 32
WIDTH = 1 / 16
FEATURES = 128


def small_inception(seed: int = 0) -> InceptionV3:
    """A narrow InceptionV3 whose random features differ between pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = InceptionV3(width=WIDTH)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return network.eval()


def save_detector(path: Path) -> Path:
    """Weights of `small_inception` under the published names, classifier included, as torch saves them."""
    torch.save({**small_inception().state_dict(), "fc.weight": torch.zeros(8, FEATURES), "fc.bias": torch.zeros(8)}, path)
    return path


def like_the_reals(scenes: Scenes) -> Tensor:
    """A perfect generator: pictures as `write_own` puts them into data sets, one for every person."""
    return torch.stack([painted(int(abs(float(z[0])) * 1e4)) for z in scenes.z])


def painted(index: int) -> Tensor:
    """[3, SIZE, SIZE] in [-1, 1]."""
    pixels = torch.frombuffer(bytearray(picture(index, SIZE).tobytes()), dtype=torch.uint8)
    return from_uint8(pixels.view(SIZE, SIZE, 3).permute(2, 0, 1))


def noise(scenes: Scenes) -> Tensor:
    """A hopeless generator."""
    return torch.stack(
        [torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(int(abs(float(z[0])) * 1e6))) * 2 - 1 for z in scenes.z]
    )


def paint_context(folder: Path, count: int = 48, images: int = 24) -> Context:
    """A perfect generator before a data set of `count` images (head model `small`); the detector is there, too."""
    dataset: PortraitDataset = open_dataset(write_own(folder / "data", count, SIZE))
    settings = MetricSettings(images=images, people=8, holdout=8, fitting=16, batch=4, detector=save_detector(folder / "inception.pth"))
    return Context(like_the_reals, 4, dataset, settings)


def with_settings(context: Context, **changes: object) -> Context:
    """The same with other settings, and nothing kept."""
    return Context(context.sampler, context.latent_size, context.dataset, replace(context.settings, **changes))
