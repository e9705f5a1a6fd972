"""Data sets and a head model for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

import training.layouts
from next3d.head import load_head
from next3d.head.model import HeadModel
from tests.training.factory import even_head, small_head, write_own, write_published
from training.dataset import PortraitDataset, open_dataset


@pytest.fixture
def knows_small_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the head model of `write_own` known to the readers."""

    def load(name: str) -> HeadModel:
        return small_head() if name == "small" else load_head(name)

    monkeypatch.setattr(training.layouts, "load_head", load)


@pytest.fixture
def own(tmp_path: Path, knows_small_head: None) -> Path:
    """Ten images of 32² in our own layout."""
    return write_own(tmp_path / "own", 10, 32)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 images of 32² in the published layout: nested, spaces, all colour modes, three without landmarks. Not to be changed."""
    return write_published(tmp_path_factory.mktemp("published"), 200, 32, missing=(5, 17, 18))


@pytest.fixture
def small_published(tmp_path: Path) -> Path:
    """Eight images of 32² in the published layout, to be damaged."""
    return write_published(tmp_path / "faces", 8, 32)


@pytest.fixture
def even(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PortraitDataset:
    """Ten images of 32² with heads whose mirror images are known."""
    monkeypatch.setattr(training.layouts, "load_head", lambda name: even_head())
    return open_dataset(write_own(tmp_path / "even", 10, 32), 32)
