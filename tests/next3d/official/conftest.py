"""Tiny released networks: from the recorded folder, and as snapshot files."""

from __future__ import annotations

from pathlib import Path

import pytest

from next3d.generator import TriplaneGenerator
from next3d.official.generators import ReleasedNext3D
from next3d.types import HeadMesh
from tests.next3d.official.tiny_snapshot import generator, network, write_snapshot
from tests.reference.folder import Folder
from tests.reference.generators import load_generator
from tests.reference.record import OpenHead, open_head


@pytest.fixture(scope="session")
def folder(repository: Path) -> Folder:
    """Reference numbers that our own code has recorded."""
    return Folder(repository / "tests" / "fixtures" / "reference-tiny")


@pytest.fixture(scope="session")
def next3d(folder: Folder) -> ReleasedNext3D:
    """Planes of 64², images of 128². Tests must leave it as it is."""
    found = load_generator(folder, "next3d")
    assert isinstance(found, ReleasedNext3D)
    return found


@pytest.fixture(scope="session")
def eg3d(folder: Folder) -> TriplaneGenerator:
    """Planes of 64², images of 512². Tests must leave it as it is."""
    return load_generator(folder, "eg3d")


@pytest.fixture(scope="session")
def head() -> OpenHead:
    """The mesh of `next3d`: an ellipsoid with an open mouth."""
    return open_head()


@pytest.fixture(scope="session")
def mesh(head: OpenHead) -> HeadMesh:
    """Two of them, deformed and turned."""
    return head.mesh(2, seed=3)


@pytest.fixture(scope="session")
def next3d_pickle(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of `next3d` and its discriminator."""
    arguments = folder.configs["next3d"]["G_kwargs"]
    made = generator(folder.state("next3d"), arguments, folder.uv_mask())
    judge = network(folder.state("next3d_disc"), folder.configs["disc"]["D_kwargs"])
    return write_snapshot(tmp_path_factory.mktemp("published") / "next3d.pkl", G=made, D=judge, G_ema=made)


@pytest.fixture(scope="session")
def eg3d_pickle(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of `eg3d` without a discriminator."""
    made = generator(folder.state("eg3d"), folder.configs["eg3d"]["G_kwargs"])
    return write_snapshot(tmp_path_factory.mktemp("published") / "eg3d.pkl", G_ema=made)
