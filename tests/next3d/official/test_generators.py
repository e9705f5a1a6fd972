"""Generators that behave as the released ones: their stages, what differs from ours, and where they run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from next3d.checkpoint import load_generator, save_generator
from next3d.generator import Generator, TriplaneGenerator
from next3d.official import load_official_state
from next3d.official.generators import ReleasedEG3D, ReleasedNext3D
from next3d.render.cameras import orbit_camera
from next3d.types import Camera, RaySampling
from tests.models import labels
from tests.nohost import NoHost
from tests.reference import tiny


def latents(count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, tiny.LATENT, generator=torch.Generator().manual_seed(seed))


def rendering(generator: TriplaneGenerator, resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, raw image, and rendered features of one still head."""
    styles = generator.mapping(latents(1), labels(1))
    seen: dict[str, Tensor] = {}
    planes = generator.still(generator.identity(styles))
    camera = Camera.from_label(labels(1))
    output = generator.render(planes, camera, styles, resolution=resolution, probe=seen.__setitem__)
    return output.image, output.image_raw, seen["features"]


@pytest.fixture(scope="module")
def eg3d_256() -> TriplaneGenerator:
    """An EG3D generator with the 4x module: 128² features to 256² images."""
    state = tiny.eg3d_state(3, input_resolution=128, resolution=256)
    module = load_official_state(state, tiny.eg3d_arguments("SuperresolutionHybrid4X", 256))
    assert isinstance(module, TriplaneGenerator)
    return module


def test_kinds(next3d, eg3d):
    assert type(next3d) is ReleasedNext3D
    assert type(eg3d) is ReleasedEG3D
    assert next3d.animatable
    assert not eg3d.animatable
    assert not next3d.training
    assert not any(parameter.requires_grad for parameter in next3d.parameters())


@pytest.mark.parametrize(("name", "shared"), [("next3d", 64), ("eg3d_256", 128)])
def test_the_raw_image_is_the_sum_where_nothing_is_resized_before_a_factor_of_two(request, name, shared):
    generator = request.getfixturevalue(name)
    _, raw, features = rendering(generator, shared)
    assert (raw - features[:, :3]).abs().max() > 0.01
    _, first = generator.superres(features, generator.mapping(latents(1), labels(1)).static, "const")
    assert torch.equal(raw, first)
    _, raw, features = rendering(generator, shared // 2)
    assert torch.equal(raw, features[:, :3])


def test_the_raw_image_is_the_rendering_with_a_factor_of_four(eg3d):
    _, raw, features = rendering(eg3d, 128)
    assert torch.equal(raw, features[:, :3])


def test_planes_are_front_side_top_and_read_as_front_top_side(next3d, head, mesh):
    """The static planes stay where they are; the mesh's side view is put over the plane that is read at (x, z)."""
    identity = next3d.identity(next3d.mapping(latents(), labels(2)))
    rasters = next3d.rasterize(mesh)
    planes = next3d.animate(identity, mesh, rasters=rasters).features
    drawn = next3d.draw(identity.texture, rasters)
    for plane in (1, 2):
        covered = rasters.coverage[:, plane]
        torch.testing.assert_close(planes[:, plane], identity.static[:, plane].lerp(drawn[:, plane], covered))


def test_a_still_head_can_be_orbited(eg3d):
    """No mesh: mapping, identity, still, render; the camera moves the picture and nothing else."""
    styles = eg3d.mapping(latents(1), labels(1))
    identity = eg3d.identity(styles)
    assert identity.texture is None
    assert styles.texture.shape[1] == 0
    planes = eg3d.still(identity)
    assert torch.equal(planes.features, identity.static)
    views = [eg3d.render(planes, orbit_camera(torch.tensor([yaw]), torch.zeros(1)), styles, resolution=16) for yaw in (-0.3, 0.0, 0.3)]
    assert all(view.image.shape == (1, 3, 512, 512) for view in views)
    assert all(view.image_raw.shape == (1, 3, 16, 16) for view in views)
    assert (views[0].image_raw - views[2].image_raw).abs().max() > 0.01
    again = eg3d.render(planes, orbit_camera(torch.tensor([-0.3]), torch.zeros(1)), styles, resolution=16)
    assert torch.equal(views[0].image, again.image)


def test_the_third_planes_axes_follow_the_kind(eg3d):
    """Features that grow along the third plane's columns are found along z by EG3D, where x is the row."""
    planes = eg3d.still(eg3d.identity(eg3d.mapping(latents(1), labels(1))))
    points = torch.tensor([[[0.1, 0.2, 0.3], [0.1, -0.4, 0.3]]])
    planes.features[:, :2] = 0
    found = eg3d.density(planes, points)[0, :, 0]
    assert torch.equal(found[0], found[1]), "y is read by the first plane alone"


def test_one_style_row_for_super_resolution(next3d):
    """It reads the last static row; texture rows follow the static ones."""
    styles = next3d.mapping(latents(1), labels(1))
    assert styles.static.shape[1] == 10
    assert styles.texture.shape[1] == 8
    changed = styles.static.clone()
    changed[:, :-1] += 1
    features = torch.randn(1, tiny.FEATURES, 64, 64)
    assert torch.equal(next3d.superres(features, styles.static, "const")[0], next3d.superres(features, changed, "const")[0])


def test_truncation_with_a_cutoff_leaves_the_later_rows(next3d):
    free = next3d.mapping(latents(), labels(2))
    cut = next3d.mapping(latents(), labels(2), truncation=0.5, cutoff=next3d.static_rows)
    assert not torch.equal(free.static, cut.static)
    assert torch.equal(free.texture, cut.texture)


def test_super_resolution_draws_no_noise(next3d, eg3d):
    for generator in (next3d, eg3d):
        assert not any("noise" in name for name in generator.superres.state_dict())


@pytest.mark.parametrize("name", ["next3d", "eg3d", "eg3d_256"])
def test_saved_networks_give_equal_images(request, tmp_path, mesh, name):
    generator = request.getfixturevalue(name)
    path = tmp_path / "network.safetensors"
    save_generator(path, generator)
    loaded = load_generator(path)
    assert type(loaded) is type(generator)
    assert loaded.config == generator.config
    for found, expected in zip(rendering(loaded, 16), rendering(generator, 16), strict=True):
        assert torch.equal(found, expected)
    if isinstance(generator, Generator):
        assert isinstance(loaded, Generator)
        assert torch.equal(loaded(latents(), labels(2), mesh).image, generator(latents(), labels(2), mesh).image)


def test_every_parameter_gets_a_gradient(folder, mesh):
    """What the originals own and never use is not built."""
    generator = load_official_state(folder.state("next3d"), folder.configs["next3d"]["G_kwargs"], uv_mask=folder.uv_mask())
    assert isinstance(generator, Generator)
    generator.requires_grad_(True)
    output = generator(latents(), labels(2), mesh)
    (output.image.square().sum() + output.image_raw.sum()).backward()
    assert not [name for name, parameter in generator.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", ["rasters", "mouth", "rays", "generators"])
def test_nothing_leaves_the_device_in_the_source(repository: Path, name: str):
    """The originals fill the mouth and round its box on the CPU."""
    text = (repository / "next3d" / "official" / f"{name}.py").read_text()
    assert not re.findall(r"\.cpu\(|\.numpy\(|\.item\(|\.tolist\(|\bfloat\(|\bint\(|\.nonzero\(|import numpy", text)


def test_nothing_waits_for_the_host(next3d, mesh):
    """All stages, rasters and mouth boxes included. On an accelerator the flood fill looks at its result now and then."""
    c = labels(2)
    with NoHost():
        styles = next3d.mapping(latents(), c, truncation=0.7, cutoff=14)
        planes = next3d.animate(next3d.identity(styles), mesh)
        next3d.render(planes, Camera.from_label(c), styles, resolution=16, sampling=RaySampling(generator=torch.Generator()))
        next3d.density(planes, torch.zeros(2, 3, 3))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_rasters_and_boxes(folder, mesh):
    generator = load_official_state(folder.state("next3d"), folder.configs["next3d"]["G_kwargs"], uv_mask=folder.uv_mask())
    assert isinstance(generator, ReleasedNext3D)
    expected = generator.rasterize(mesh)
    window = generator.mouth.window(mesh.landmarks, 64)
    found = generator.cuda().rasterize(mesh.to("cuda"))
    for name in ("uv", "visible", "coverage"):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), atol=1e-5, rtol=0)
    on_device = generator.mouth.window(mesh.landmarks.cuda(), 64)
    assert torch.equal(on_device.start.cpu(), window.start)
    assert torch.equal(on_device.end.cpu(), window.end)
