"""Weights come from files of either kind, whole and of the right architecture; programs are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dnnlib.errors import CheckpointError
from tests.training.metrics.pictures import FEATURES, save_detector, small_inception
from training.metrics.detector import INCEPTION, load_detector


def published(drop: str = "", **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """A state dict under the published names."""
    return {name: value for name, value in {**small_inception().state_dict(), **changes}.items() if name != drop or not drop}


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "without counters"])
def test_round_trip(tmp_path, rng, kind):
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else INCEPTION.name)
    if kind == "safetensors":
        save_file(published(), path)
    elif kind == "zip":
        save_detector(path)
    elif kind == "old":
        torch.save(published(), path, _use_new_zipfile_serialization=False)
    else:  # as files were before batch normalisation counted its batches
        torch.save({name: value for name, value in published().items() if "num_batches" not in name}, path)
    detector = load_detector(path)
    images = torch.rand(3, 3, 40, 40, generator=rng) * 2 - 1
    features = detector(images)
    assert detector.features == FEATURES
    assert features.shape == (3, FEATURES)
    with torch.inference_mode():
        torch.testing.assert_close(features, small_inception()(images))
    assert not any(parameter.requires_grad for parameter in detector.network.parameters())


BIAS = "Mixed_7c.branch_pool.bn.bias"


def write_wrong(path: Path, kind: str) -> None:
    """Files that are no weights of FID's InceptionV3."""
    if kind == "missing":
        torch.save(published(drop=BIAS), path)
    elif kind == "shape":
        torch.save(published(**{BIAS: torch.zeros(3)}), path)
    elif kind == "other network":
        torch.save({"layer.weight": torch.zeros(2)}, path)
    elif kind == "script":
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    elif kind == "program":
        path.write_bytes(pickle.dumps(print))
    elif kind == "cut":
        path.write_bytes(save_detector(path).read_bytes()[:5000])


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", f"'{BIAS}' is missing"),
        ("shape", r"has shape \[3\], expected \[12\]"),
        ("other network", "no tensor 'Conv2d_1a_3x3.conv.weight'"),
        ("script", "are programs and never run"),
        ("program", "are programs and never run"),
        ("cut", "weights"),
        ("absent", "cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrong_files_are_one_sentence(tmp_path, kind, complaint):
    path = tmp_path / "weights.pth"
    write_wrong(path, kind)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_detector(path)
    assert str(path) in str(caught.value)
    assert "pt_inception-2015-12-05-6726825d.pth" in str(caught.value)
    assert "\n" not in str(caught.value)
