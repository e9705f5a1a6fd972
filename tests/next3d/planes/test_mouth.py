"""Both teeth-completing modules, with and without a residual."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from next3d.config import GeneratorConfig, preset
from next3d.planes.crop import mouth_boxes
from next3d.planes.frames import FRONT, PLANE_AXES
from next3d.planes.mouth import FrontMouth, TriplaneMouth, build_mouth
from next3d.stylegan2.synthesis import style_rows


def mouth_config(**changes) -> GeneratorConfig:
    config = preset("tiny").generator
    return replace(config, mouth=replace(config.mouth, **changes))


def inputs(config: GeneratorConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Dynamic planes and style rows."""
    size = config.plane_resolution
    planes = torch.randn(2, 3, config.plane_channels, size, size, generator=rng)
    return planes, torch.randn(2, style_rows(size), config.style_size, generator=rng)


def outside_mouth(config: GeneratorConfig, landmarks: Tensor, plane: int) -> Tensor:
    """[N, P, P] bool: pixels that the mouth's box does not touch."""
    size = config.plane_resolution
    boxes = mouth_boxes(landmarks, plane=plane, resolution=size, box_warp=config.render.box_warp, margin=config.mouth.margin)
    centers = torch.arange(size) + 0.5
    columns, rows = ((centers - boxes.center[:, axis, None]).abs() > boxes.side[:, None] / 2 + 0.5 for axis in (0, 1))
    return rows[:, :, None] | columns[:, None, :]


@pytest.mark.parametrize(("variant", "kind"), [("front", FrontMouth), ("triplane", TriplaneMouth)], ids=["released", "paper"])
@pytest.mark.parametrize("residual", [False, True])
def test_shape_and_gradients(variant, kind, residual, toy, rng):
    config = mouth_config(variant=variant, residual=residual)
    module = build_mouth(config)
    assert isinstance(module, kind)
    planes, rows = inputs(config, rng)
    out = module(planes.requires_grad_(), toy.mesh(2, seed=0).landmarks, rows, "const")
    assert out.shape == planes.shape
    (out * torch.randn(out.shape, generator=rng)).sum().backward()
    idle = [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert not idle
    assert planes.grad is not None


def test_released_variant_changes_the_front_plane_alone(toy, rng):
    config = mouth_config(variant="front")
    planes, rows = inputs(config, rng)
    out = FrontMouth(config)(planes, toy.mesh(2).landmarks, rows, "const")
    assert torch.equal(out[:, 1:], planes[:, 1:])
    assert not torch.equal(out[:, FRONT], planes[:, FRONT])


def test_paper_variant_changes_the_mouth_s_cube_alone(toy, rng):
    config = mouth_config(variant="triplane")
    planes, rows = inputs(config, rng)
    landmarks = toy.mesh(2, seed=3).landmarks
    out = TriplaneMouth(config)(planes, landmarks, rows, "const")
    for plane in range(len(PLANE_AXES)):
        kept = outside_mouth(config, landmarks, plane)[:, None].expand_as(planes[:, plane])
        assert torch.equal(out[:, plane][kept], planes[:, plane][kept])
        assert not torch.equal(out[:, plane], planes[:, plane])


def test_paper_variant_lets_planes_talk_to_each_other(toy, rng):
    """A change in one plane's mouth reaches the other planes'."""
    config = mouth_config(variant="triplane", residual=False)
    module = TriplaneMouth(config)
    planes, rows = inputs(config, rng)
    landmarks = toy.mesh(2).landmarks
    other = planes.clone()
    other[:, FRONT] += 1
    assert not torch.allclose(module(planes, landmarks, rows, "const")[:, 1:], module(other, landmarks, rows, "const")[:, 1:])


@pytest.mark.parametrize("variant", ["front", "triplane"])
def test_residual_networks_that_say_nothing_change_nothing(variant, toy, rng):
    """With all outputs at zero a residual module is the identity, up to resampling inside the mouth's box."""
    config = mouth_config(variant=variant, residual=True)
    module = build_mouth(config)
    for name, parameter in module.named_parameters():
        if ".torgb." in name and name.endswith(("torgb.weight", "torgb.bias")):
            torch.nn.init.zeros_(parameter)
    planes, rows = inputs(config, rng)
    landmarks = toy.mesh(2).landmarks
    out = module(planes, landmarks, rows, "const")
    for plane in range(len(PLANE_AXES)):
        kept = outside_mouth(config, landmarks, plane)[:, None].expand_as(planes[:, plane])
        assert torch.equal(out[:, plane][kept], planes[:, plane][kept])


def test_completed_mouth_may_be_larger_than_its_crop(toy, rng):
    config = mouth_config(output_resolution=32)
    found: dict[str, Tensor] = {}
    planes, rows = inputs(config, rng)
    out = FrontMouth(config)(planes, toy.mesh(2).landmarks, rows, "const", found.__setitem__)
    assert found["mouth_crop"].shape[-1] == 16
    assert found["mouth"].shape[-1] == 32
    assert out.shape == planes.shape
    assert set(found) == {"mouth_crop", "mouth", "stitched", "blended"}
