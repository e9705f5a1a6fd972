from __future__ import annotations

from pathlib import Path

import pytest

from bench.data_loader import containers, loader_rate, memory_growth
from next3d.synthetic.generate import SyntheticConfig, write_dataset


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("portraits") / "data.zip"
    write_dataset(SyntheticConfig(count=8, resolution=32), target)
    return target


def test_every_container_is_measured(portraits: Path, tmp_path: Path):
    """The same images in each; a rate and a finite growth come out."""
    layouts = containers(tmp_path, portraits, 8, 32)
    assert set(layouts) == {"zip", "folder", "shards", "url"}
    assert {len(dataset) for dataset in layouts.values()} == {8}
    rate = loader_rate(layouts["url"], workers=0, batch=4, group=2)
    assert rate.first > 0
    assert rate.later > 0
    assert abs(memory_growth(layouts["zip"], workers=0, epochs=3)) < 64
