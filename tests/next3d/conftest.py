"""Fixtures for tests of the model: a toy head, and the smallest networks on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from next3d.config import preset
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from tests.models import ToyHead, toy_head


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Networks draw their weights from the global generator; another stream than that of the fixture `rng`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        yield


@pytest.fixture(scope="session")
def toy() -> ToyHead:
    return toy_head()


@pytest.fixture(scope="session")
def tiny_generator(toy: ToyHead) -> Generator:
    """Untrained; noise strengths are not zero, so that noise shows. Tests must leave it as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(preset("tiny").generator, toy.topology)
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                torch.nn.init.constant_(parameter, 0.3)
    return generator.requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_discriminator() -> Discriminator:
    """Untrained. Tests must leave it as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Discriminator(preset("tiny").discriminator).requires_grad_(False)
