from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from next3d.commands.data_stats import stats
from next3d.commands.main import run_command
from next3d.render.cameras import moved_image_camera, orbit_camera
from tests.training.factory import sample_name
from training.stats import camera_spreads, dataset_stats


def test_cameras_are_read_back():
    """Yaw, pitch, roll, distance and focal length of cameras that were made with known ones."""
    yaw, pitch = torch.tensor([-0.7, 0.0, 0.7]), torch.tensor([0.3, 0.1, -0.1])
    upright = orbit_camera(yaw, pitch, radius=3.0, focal=4.0)
    turned = moved_image_camera(upright, torch.full((3,), 0.2), torch.ones(3), torch.zeros(3, 2))
    spreads = camera_spreads(upright.to_label())
    assert math.isclose(spreads["camera yaw, degrees"].most, math.degrees(0.7), rel_tol=1e-4)
    assert math.isclose(spreads["camera yaw, degrees"].least, math.degrees(-0.7), rel_tol=1e-4)
    assert math.isclose(spreads["camera pitch, degrees"].mean, math.degrees(0.1), rel_tol=1e-4)
    assert abs(spreads["camera roll, degrees"].most) < 1e-3
    assert math.isclose(spreads["camera distance, world units"].mean, 3.0, rel_tol=1e-5)
    assert math.isclose(spreads["focal length, image sizes"].mean, 4.0, rel_tol=1e-5)
    roll = camera_spreads(turned.to_label())["camera roll, degrees"]
    assert math.isclose(roll.mean, math.degrees(0.2), rel_tol=1e-3)
    assert roll.std < 1e-3


def test_heads_and_pixels(own: Path):
    """Jaws evenly from 0 to 0.3, as the factory makes them; one broken image is named and counted."""
    (own / "images/00000/img00000004.png").write_bytes(b"nothing")
    table = dict(np.load(own / "heads.npz"))
    np.savez(own / "heads.npz", **table, identity=np.arange(10) // 5)
    found = dataset_stats(own)
    assert (found.count, found.resolution, found.heads, found.identities) == (10, 32, "small", 2)
    assert found.sizes == {"32x32": 9}
    assert found.formats == {".png": 10}
    assert len(found.broken) == 1
    assert math.isclose(found.spreads["jaw, degrees"].most, math.degrees(0.3), rel_tol=1e-4)
    assert found.shares["jaw open (> 0.1 rad)"] == 0.6
    assert 0.2 < found.spreads["brightness, of white"].mean < 0.8


def test_meshes_have_no_parameters(published: Path):
    found = dataset_stats(published)
    assert found.heads == "meshes"
    assert not any("jaw" in name for name in found.spreads)
    assert sum(found.left_out.values()) == 3


def test_command(own: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert run_command(stats, [str(own), "--json", str(tmp_path / "a.json")]) == 0
    printed = capfd.readouterr().out
    written = json.loads((tmp_path / "a.json").read_text())
    assert "camera yaw, degrees" in printed
    assert written["spreads"]["camera yaw, degrees"]["most"] < 30
    assert written["count"] == 10
    assert run_command(stats, [str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capfd.readouterr().err


def test_other_sizes_are_counted(small_published: Path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(small_published / "images512x512" / sample_name(2))
    assert dataset_stats(small_published).sizes == {"32x32": 7, "8x8": 1}
