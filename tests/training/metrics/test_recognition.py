"""The face-recognition network has the published names and shapes, its files are read safely, its crops lie as published."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from dnnlib.errors import CheckpointError
from training.metrics.recognition import CROP, TEMPLATE, IResNet, aligned_crops, five_points, load_recognition, similarity


def small(seed: int = 0) -> IResNet:
    torch.manual_seed(seed)
    return IResNet((2, 1, 3, 1), (4, 4, 6, 8), 16).eval()


@pytest.mark.parametrize(("blocks", "count"), [((3, 4, 14, 3), 43_590_848), ((3, 13, 30, 3), 65_156_160)], ids=["50", "100"])
def test_numbers_of_parameters_are_the_published_ones(blocks, count):
    with torch.device("meta"):
        network = IResNet(blocks, (64, 128, 256, 512), 512)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_names_and_shapes_of_fifty_layers():
    """Spot-checked against what the published files hold."""
    with torch.device("meta"):
        state = IResNet((3, 4, 14, 3), (64, 128, 256, 512), 512).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["prelu.weight"] == (64,)
    assert shapes["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert shapes["layer1.0.downsample.1.running_var"] == (64,)
    assert shapes["layer3.13.bn3.bias"] == (256,)
    assert shapes["layer4.0.bn1.weight"] == (256,)
    assert shapes["layer4.0.conv1.weight"] == (512, 256, 3, 3)
    assert shapes["bn2.weight"] == (512,)
    assert shapes["fc.weight"] == (512, 512 * 7 * 7)
    assert shapes["features.running_mean"] == (512,)
    assert "layer1.1.downsample.0.weight" not in shapes


@pytest.mark.parametrize("form", ["pth", "half", "module", "uncounted", "safetensors"])
def test_files_are_loaded_whatever_their_depth(tmp_path, form):
    network = small()
    state = network.state_dict()
    if form == "half":
        network.half().float()
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if form == "module":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if form == "uncounted":
        state = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    path = tmp_path / ("backbone.safetensors" if form == "safetensors" else "backbone.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    crops = torch.randn(2, 3, CROP, CROP)
    loaded = load_recognition(path)
    assert not loaded.training
    torch.testing.assert_close(loaded(crops), network(crops))
    torch.testing.assert_close(loaded(crops).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("damage", ["missing", "shape", "other", "absent"])
def test_other_files_are_one_sentence(tmp_path, damage):
    state = small().state_dict()
    if damage == "missing":
        del state["layer3.1.bn2.weight"]
    if damage == "shape":
        state["fc.weight"] = torch.zeros(16, 5)
    if damage == "other":
        state = {"weight": torch.zeros(3)}
    path = tmp_path / "backbone.pth"
    if damage != "absent":
        torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"backbone\.pth"):
        load_recognition(path)


def test_similarity_is_found_again(rng):
    points = torch.randn(3, 5, 2, generator=rng)
    angle, scale, shift = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 1.0, 3.0]), torch.randn(3, 1, 2, generator=rng)
    turn = scale[:, None, None] * torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(3, 2, 2)
    found = similarity(points, points @ turn.mT + shift)
    torch.testing.assert_close(found[:, :, :2], turn)
    torch.testing.assert_close(found[:, :, 2], shift[:, 0])


def test_crops_have_the_five_points_where_the_template_has_them():
    """Dots painted at the five points of a turned face come out at the template's places."""
    template = (torch.tensor(TEMPLATE) + 0.5) * (2 / CROP) - 1
    turn = 0.3 * torch.tensor([[0.96, -0.28], [0.28, 0.96]])
    points = template @ turn.T + torch.tensor([0.1, -0.2])
    landmarks = torch.zeros(1, 68, 2)
    for numbers, point in zip((range(36, 42), range(42, 48), [30], [48], [54]), points, strict=True):
        landmarks[0, list(numbers)] = point
    torch.testing.assert_close(five_points(landmarks)[0], points)
    axis = (torch.arange(256) + 0.5) / 128 - 1
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    dots = [torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 0.01**2) for x, y in points]
    for dot, (x, y) in zip(dots, TEMPLATE, strict=True):
        crop = aligned_crops(dot.expand(1, 3, -1, -1), landmarks)[0, 0]
        row, column = divmod(int(crop.argmax()), CROP)
        assert abs(column - x) < 1
        assert abs(row - y) < 1
