"""Fixtures for all tests, and one thread per process so that tests share a small machine fairly."""

from __future__ import annotations

import os
from pathlib import Path

# Before the first import of torch: its thread pools read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Thread pools of a second process would only fight with the first."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped, with the reason, where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The project's root folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Sample files beside the repository; tests that need them are skipped where they are absent."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared beside the repository")
    return folder


@pytest.fixture
def rng() -> torch.Generator:
    """A CPU generator with a fixed seed; every test gets a fresh one."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of the smallest preset on the default head."""
    from next3d.checkpoint import save_generator
    from next3d.config import preset
    from next3d.generator import Generator
    from next3d.head import load_head

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(preset("tiny").generator, load_head("procedural").topology)
    path = tmp_path_factory.mktemp("network") / "network-000000.safetensors"
    save_generator(path, generator)
    return path
