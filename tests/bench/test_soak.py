"""The soak's judgement: what it must call unreadable, and what it must call different. That runs survive is in tests/training."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.soak import Soak, unreadable
from next3d.media.images import save_png


def run(root: Path, weight: float, loss: float) -> Path:
    """A finished run of two ticks."""
    folder = root / "00000-run"
    folder.mkdir(parents=True)
    for name in ("network-000000.safetensors", "network-000000.state"):
        save_file({"weight": torch.tensor([1.0, weight])}, folder / name)
    lines = [{"images": 8, "loss/real": 0.5, "time/total_seconds": random.random()}, {"images": 16, "loss/real": loss}]
    (folder / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_png(folder / "fakes.png", torch.zeros(3, 8, 8))
    return root


def test_whole_files_are_readable_and_cut_ones_are_not(tmp_path: Path):
    folder = run(tmp_path / "a", 2, 0.25) / "00000-run"
    for path in folder.iterdir():
        assert unreadable(path) is None
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        assert unreadable(path), path.name


@pytest.mark.parametrize(("weight", "loss", "tensors", "ticks"), [(2, 0.25, 0, 0), (2.0000002, 0.25, 2, 0), (2, 0.26, 0, 1)])
def test_every_difference_is_counted(tmp_path: Path, weight: float, loss: float, tensors: int, ticks: int):
    soak = Soak(tmp_path, random.Random(0))
    soak.compare(run(tmp_path / "mine", weight, loss), run(tmp_path / "theirs", 2, 0.25))
    assert (soak.found["tensors_that_differ"], soak.found["ticks_whose_losses_differ"]) == (tensors, ticks)
