"""The generator: its stages, what each depends on, gradients, batches, sizes, cost."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from next3d.config import GeneratorConfig, preset
from next3d.discriminator import Discriminator
from next3d.generator import Generator
from next3d.render.mesh_image import render_mesh_image
from next3d.render.rays import camera_rays
from next3d.render.renderer import render_rays
from next3d.types import Camera, GeneratorOutput, HeadMesh, Identity, Planes, Rasters, RaySampling, Styles
from tests.models import ToyHead, labels
from tests.nohost import NoHost

TINY = preset("tiny").generator
TRIPLANE = replace(TINY, mouth=replace(TINY.mouth, variant="triplane", residual_blocks=1))
VARIANTS = {
    "released mouth, residual": TINY,
    "released mouth": replace(TINY, mouth=replace(TINY.mouth, residual=False, output_resolution=32)),
    "paper's mouth, residual": TRIPLANE,
    "paper's mouth": replace(TRIPLANE, mouth=replace(TRIPLANE.mouth, residual=False)),
    "one pass": replace(TINY, render=replace(TINY.render, fine_samples=0)),
    "no pose conditioning": replace(TINY, mapping=replace(TINY.mapping, pose_conditioning=False)),
    "clamped, noisy super-resolution": replace(TINY, clamp=256.0, superres=replace(TINY.superres, noise=True, clamp=256.0)),
}


def latents(count: int, config: GeneratorConfig = TINY, seed: int = 0) -> Tensor:
    return torch.randn(count, config.latent_size, generator=torch.Generator().manual_seed(seed))


def explicit(count: int, config: GeneratorConfig = TINY, seed: int = 0) -> RaySampling:
    """Draws for every ray, chosen by the caller."""
    rng, render = torch.Generator().manual_seed(seed), config.render
    rays = render.resolution**2
    return RaySampling(
        jitter=torch.rand(count, rays, render.coarse_samples, generator=rng),
        importance=torch.rand(count, rays, render.fine_samples, generator=rng),
    )


def part(sampling: RaySampling, index: slice) -> RaySampling:
    assert sampling.jitter is not None
    assert sampling.importance is not None
    return RaySampling(jitter=sampling.jitter[index], importance=sampling.importance[index])


def equal(one: object, other: object) -> bool:
    """Whether two bundles hold the same numbers."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]  # type: ignore[arg-type]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else equal(a, b) for a, b in pairs)


def idle(module: nn.Module) -> list[str]:
    """Parameters without a gradient."""
    return [name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]


def test_stages_compose_to_forward(tiny_generator, toy):
    network, z, c, mesh, sampling = tiny_generator, latents(2), labels(2), toy.mesh(2, seed=0), explicit(2)
    styles = network.mapping(z, c, truncation=0.8)
    identity = network.identity(styles)
    planes = network.animate(identity, mesh, rasters=network.rasterize(mesh))
    output = network.render(planes, Camera.from_label(c), styles, sampling=sampling)
    assert equal(output, network(z, c, mesh, truncation=0.8, sampling=sampling))


def test_shapes(tiny_generator, toy):
    network, mesh = tiny_generator, toy.mesh(2, seed=0)
    styles = network.mapping(latents(2), labels(2))
    assert styles.static.shape == (2, 8, 16)  # two rows per resolution from 4 to 32
    assert styles.texture.shape == (2, 6, 16)
    identity = network.identity(styles)
    assert identity.texture.shape == (2, 4, 16, 16)
    assert identity.static.shape == (2, 3, 4, 32, 32)
    rasters = network.rasterize(mesh)
    assert rasters.uv.shape == (2, 4, 32, 32, 2)
    assert rasters.visible.shape == (2, 4, 1, 32, 32)
    assert rasters.coverage.shape == (2, 3, 1, 32, 32)
    planes = network.animate(identity, mesh)
    assert planes.features.shape == (2, 3, 4, 32, 32)
    for resolution in (16, 24):
        output = network.render(planes, Camera.from_label(labels(2)), styles, resolution=resolution)
        assert output.image.shape == (2, 3, 32, 32)
        assert output.image_raw.shape == (2, 3, resolution, resolution)
        assert output.depth.shape == output.weights.shape == (2, 1, resolution, resolution)
        render = TINY.render
        assert output.depth.min() >= render.ray_start
        assert output.depth.max() <= render.ray_end
        assert output.weights.min() >= 0
        assert output.weights.max() <= 1 + 1e-6
        assert output.image_raw.abs().max() <= 1.01
    assert network.density(planes, torch.zeros(2, 7, 3)).shape == (2, 7, 1)


@pytest.mark.parametrize("variant", ["released mouth, residual", "paper's mouth"])
def test_a_batch_of_two_is_two_batches_of_one(variant, toy):
    config = VARIANTS[variant]
    network = Generator(config, toy.topology).requires_grad_(False)
    z, c, mesh, sampling = latents(2), labels(2), toy.mesh(2, seed=0), explicit(2, config)
    together = network(z, c, mesh, sampling=sampling)
    for sample in range(2):
        one = slice(sample, sample + 1)
        alone = network(z[one], c[one], mesh[one], sampling=part(sampling, one))
        for field in fields(GeneratorOutput):
            torch.testing.assert_close(getattr(together, field.name)[one], getattr(alone, field.name), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_of_both_networks_gets_a_gradient_in_one_step(variant, toy):
    config = VARIANTS[variant]
    network, judge = Generator(config, toy.topology), Discriminator(preset("tiny").discriminator)
    c, mesh = labels(4), toy.mesh(4, seed=0)
    output = network(latents(4, config), c, mesh, sampling=explicit(4, config))
    mesh_image = render_mesh_image(mesh, Camera.from_label(c), toy.topology, config.image_resolution)
    nn.functional.softplus(-judge(output.image, output.image_raw, mesh_image, c)).mean().backward()
    assert not idle(network)
    assert not idle(judge)


def test_mean_face(tiny_generator, rng):
    """Truncation 0 is one face, whoever asks for it; a cutoff spares later rows."""
    network, c = tiny_generator, labels(3)
    styles = network.mapping(latents(3), c, truncation=0.0)
    torch.testing.assert_close(styles.static, network.mapping_network.w_avg.expand_as(styles.static))
    torch.testing.assert_close(styles.texture, network.mapping_network.w_avg.expand_as(styles.texture))
    full = network.mapping(latents(3), c)
    cut = network.mapping(latents(3), c, truncation=0.0, cutoff=8)
    assert torch.equal(cut.static, styles.static)
    assert torch.equal(cut.texture, full.texture)


def test_mapping_leaves_the_running_mean_alone(toy):
    """Training moves it, once per step and over the whole batch."""
    network = Generator(TINY, toy.topology)
    before = network.mapping_network.w_avg.clone()
    network.mapping(latents(4), labels(4))
    assert torch.equal(network.mapping_network.w_avg, before)


def test_pose_conditioning(toy):
    """With it the label shapes the styles; without it the label is ignored."""
    for on in (True, False):
        config = replace(TINY, mapping=replace(TINY.mapping, pose_conditioning=on))
        network = Generator(config, toy.topology).requires_grad_(False)
        one, other = (network.mapping(latents(2), labels(2, seed)).static for seed in (0, 1))
        assert torch.equal(one, other) != on


def test_labels_may_have_more_columns(tiny_generator, toy):
    longer = torch.cat([labels(2), torch.randn(2, 5)], dim=1)
    one, other = (tiny_generator(latents(2), c, toy.mesh(2)).image for c in (longer, labels(2)))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_the_camera_moves_the_view_and_nothing_else(tiny_generator, toy):
    """The same label with another camera: other picture, same styles; the label's own camera is the default."""
    network, z, c, mesh = tiny_generator, latents(1), labels(1), toy.mesh()
    default = network(z, c, mesh)
    assert equal(network(z, c, mesh, camera=Camera.from_label(c)), default)
    turned = network(z, c, mesh, camera=Camera.from_label(labels(1, seed=7)))
    assert not torch.allclose(turned.image, default.image, atol=1e-3)
    assert not torch.allclose(turned.depth, default.depth, atol=1e-3)


def test_the_mesh_moves_planes_only_where_it_covers_them(tiny_generator, toy):
    network = tiny_generator
    identity = network.identity(network.mapping(latents(1), labels(1)))
    mesh, other = toy.mesh(), toy.mesh(1, seed=2)
    one, two = network.animate(identity, mesh).features, network.animate(identity, other).features
    covered = torch.maximum(network.rasterize(mesh).coverage, network.rasterize(other).coverage).expand_as(one) > 0
    assert torch.equal(one[~covered], two[~covered])
    assert torch.equal(one[~covered], identity.static[~covered])
    assert not torch.allclose(one[covered], two[covered], atol=1e-2)


@pytest.mark.parametrize("variant", ["released mouth, residual", "paper's mouth"])
def test_landmarks_move_the_mouth(variant, toy):
    """Same vertices, mouth landmarks elsewhere: another part of the planes is completed."""
    network = Generator(VARIANTS[variant], toy.topology).requires_grad_(False)
    identity = network.identity(network.mapping(latents(1), labels(1)))
    mesh = toy.mesh()
    moved = mesh.landmarks.clone()
    moved[:, 48:] += torch.tensor([0.0, 0.08, 0.0])
    one, two = (network.animate(identity, HeadMesh(mesh.vertices, marks)).features for marks in (mesh.landmarks, moved))
    assert not torch.allclose(one, two, atol=1e-3)


def test_texture_shows_on_the_mesh_and_static_planes_around_it(tiny_generator, toy):
    network, mesh = tiny_generator, toy.mesh()
    identity = network.identity(network.mapping(latents(1), labels(1)))
    coverage = network.rasterize(mesh).coverage
    painted = replace(identity, texture=identity.texture + 1)
    change = (network.animate(painted, mesh).features - network.animate(identity, mesh).features).abs().sum(dim=2, keepdim=True)
    assert (change[coverage == 0] == 0).all()
    assert (change[coverage > 0.5] > 0).float().mean() > 0.95
    hairy = replace(identity, static=identity.static + 1)
    change = (network.animate(hairy, mesh).features - network.animate(identity, mesh).features).mean(dim=2, keepdim=True)
    torch.testing.assert_close(change, 1 - coverage)


def test_noise_modes(tiny_generator, toy):
    network, z, c, mesh = tiny_generator, latents(1), labels(1), toy.mesh()
    draw = lambda noise: network(z, c, mesh, noise=noise).image  # noqa: E731
    generator = lambda seed: torch.Generator().manual_seed(seed)  # noqa: E731
    assert torch.equal(draw("const"), draw("const"))
    assert not torch.equal(draw("const"), draw("none"))
    assert torch.equal(draw(generator(1)), draw(generator(1)))
    assert not torch.equal(draw(generator(1)), draw(generator(2)))


def test_ray_sampling(tiny_generator, toy):
    network, z, c, mesh = tiny_generator, latents(1), labels(1), toy.mesh()
    draw = lambda sampling: network(z, c, mesh, sampling=sampling).depth  # noqa: E731
    generator = lambda seed: RaySampling(generator=torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(None), draw(RaySampling()))
    assert torch.equal(draw(generator(1)), draw(generator(1)))
    assert not torch.equal(draw(generator(1)), draw(generator(2)))
    assert torch.equal(draw(explicit(1)), draw(explicit(1)))
    assert not torch.equal(draw(explicit(1)), draw(explicit(1, seed=1)))


def test_density_is_what_the_renderer_sees(tiny_generator, toy):
    """A ray through matter: density queried along it gives the opacity that rendering reports."""
    network, c = tiny_generator, labels(1)
    styles = network.mapping(latents(1), c)
    planes = network.animate(network.identity(styles), toy.mesh())
    config = replace(TINY.render, fine_samples=0, resolution=1, coarse_samples=64)
    rays = camera_rays(Camera.from_label(c), 1)
    sums = render_rays(planes, rays, network.decoder, config, RaySampling())
    depths = config.ray_start + (config.ray_end - config.ray_start) * (torch.arange(64) + 0.5) / 64
    raw = network.density(planes, rays.origins + depths[None, :, None] * rays.directions)[0, :, 0]
    thickness = nn.functional.softplus(0.5 * (raw[1:] + raw[:-1]) - 1) * depths.diff()
    torch.testing.assert_close(sums.weights.sum(), 1 - torch.exp(-thickness.sum()), rtol=1e-4, atol=1e-5)


def test_features_are_scaled_to_images_row_by_row(tiny_generator, toy):
    """Rendered colours in [0, 1] become [-1, 1]; the first ray is the top left pixel, the second its right neighbour."""
    network, c = tiny_generator, labels(1)
    styles = network.mapping(latents(1), c)
    planes = network.animate(network.identity(styles), toy.mesh())
    size, camera = TINY.render.resolution, Camera.from_label(c)
    output = network.render(planes, camera, styles)
    sums = render_rays(planes, camera_rays(camera, size), network.decoder, TINY.render, RaySampling())
    for ray in (0, 1, size + 3, size * size - 2):
        row, column = divmod(ray, size)
        torch.testing.assert_close(output.image_raw[0, :, row, column], 2 * sums.features[0, ray, :3] - 1)
        torch.testing.assert_close(output.depth[0, 0, row, column], sums.depth[0, ray, 0])
        torch.testing.assert_close(output.weights[0, 0, row, column], sums.weights[0, ray].sum())


def test_probes(tiny_generator, toy):
    seen: dict[str, Tensor] = {}
    network, c = tiny_generator, labels(1)
    styles = network.mapping(latents(1), c)
    planes = network.animate(network.identity(styles), toy.mesh(), probe=seen.__setitem__)
    output = network.render(planes, Camera.from_label(c), styles, probe=seen.__setitem__)
    rays = {"ray_weights", "ray_depths"}
    assert set(seen) == {"texture_planes", "mouth_crop", "mouth", "stitched", "blended", "planes", "features"} | rays
    assert torch.equal(seen["planes"], planes.features)
    assert torch.equal(seen["features"][:, :3], output.image_raw)
    assert seen["mouth_crop"].shape == (1, 4, 16, 16)
    weights, depths = seen["ray_weights"], seen["ray_depths"]
    torch.testing.assert_close(weights.sum(dim=2), output.weights.flatten(1))
    torch.testing.assert_close((weights * depths).sum(dim=2) / weights.sum(dim=2), output.depth.flatten(1))


def test_equal_seeds_give_equal_generators(toy):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(Generator(TINY, toy.topology).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_forward_leaves_the_global_random_numbers_alone(tiny_generator, toy):
    before = torch.random.get_rng_state()
    tiny_generator(latents(1), labels(1), toy.mesh(), sampling=explicit(1), noise=torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("variant", ["released mouth, residual", "paper's mouth"])
def test_nothing_waits_for_the_host(variant, toy):
    """Forward and backward, once the rasters are known: no value of a tensor decides what runs."""
    network = Generator(VARIANTS[variant], toy.topology)
    mesh, c = toy.mesh(2, seed=0), labels(2)
    rasters = network.rasterize(mesh)
    with NoHost():
        styles = network.mapping(latents(2), c, truncation=0.7)
        planes = network.animate(network.identity(styles), mesh, rasters=rasters)
        output = network.render(planes, Camera.from_label(c), styles, sampling=explicit(2))
        (output.image.mean() + output.depth.mean() + network.density(planes, torch.zeros(2, 3, 3)).mean()).backward()


def test_nohost_notices():
    with NoHost(), pytest.raises(AssertionError, match="waits"):
        float(torch.ones(1))
    with NoHost(), pytest.raises(AssertionError, match="mask"):
        torch.ones(3)[torch.tensor([True, False, True])]


@pytest.mark.gpu
def test_nothing_waits_for_the_host_on_a_gpu(toy):
    """CUDA's own check, which also sees copies from the host's memory."""
    network = Generator(TINY, toy.topology).cuda()
    mesh, c, z = toy.mesh(2, seed=0).to("cuda"), labels(2).cuda(), latents(2).cuda()
    rasters, camera = network.rasterize(mesh), Camera.from_label(c)

    def step() -> Tensor:
        styles = network.mapping(z, c)
        planes = network.animate(network.identity(styles), mesh, rasters=rasters)
        return network.render(planes, camera, styles, sampling=RaySampling(generator=draws)).image.mean()

    draws = torch.Generator("cuda")
    step().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def flop(network: Generator, toy: ToyHead) -> float:
    """GFLOP of one image, as PyTorch counts them."""
    config = network.config
    with FlopCounterMode(display=False) as counter:
        network(latents(1, config), labels(1), toy.mesh())
    return counter.get_total_flops() / 1e9


def test_demo_network_is_cheap(toy):
    """Issue: at most 0.6 GFLOP per generated image."""
    network = Generator(preset("demo-64").generator, toy.topology).requires_grad_(False)
    assert 0.05 < flop(network, toy) <= 0.6


def on_meta(name: str, toy: ToyHead) -> tuple[Generator, dict[str, Tensor], GeneratorOutput]:
    """A preset at full size without its memory: network, probes and output are shapes only."""
    config = preset(name).generator
    seen: dict[str, Tensor] = {}
    size = config.plane_resolution
    with torch.device("meta"):
        network = Generator(config, toy.topology)
        rasters = Rasters(torch.zeros(1, 4, size, size, 2), torch.zeros(1, 4, 1, size, size), torch.zeros(1, 3, 1, size, size))
        mesh = HeadMesh(torch.zeros(1, len(toy.vertices), 3), torch.zeros(1, 68, 3))
        styles = network.mapping(torch.zeros(1, config.latent_size), torch.zeros(1, 25))
        identity = network.identity(styles)
        planes = network.animate(identity, mesh, rasters=rasters, probe=seen.__setitem__)
        output = network.render(planes, Camera.from_label(torch.zeros(1, 25)), styles, probe=seen.__setitem__)
    seen["texture"] = identity.texture
    return network, seen, output


def test_released_sizes(toy):
    network, seen, output = on_meta("official-512", toy)
    shapes = {name: tuple(value.shape[1:]) for name, value in seen.items()}
    assert shapes["texture"] == (32, 256, 256)
    assert shapes["planes"] == (3, 32, 256, 256)
    assert shapes["mouth_crop"] == (32, 64, 64)
    assert shapes["mouth"] == shapes["stitched"] == shapes["blended"] == (32, 256, 256)
    assert shapes["features"] == (32, 64, 64)
    assert tuple(output.image.shape) == (1, 3, 512, 512)
    # Of the published 172.8 M parameters 29.8 M never run; ours has none that do not, nor the layers above and below the used ones.
    assert 120e6 < sum(parameter.numel() for parameter in network.parameters()) < 150e6


def test_shipped_sizes(toy):
    """At most 7 M parameters, so that a file in half precision stays below 14 MiB; every part of the method is there."""
    network, seen, output = on_meta("demo-128", toy)
    assert tuple(output.image.shape) == (1, 3, 128, 128)
    assert {"texture", "planes", "mouth_crop", "mouth", "blended", "features"} <= set(seen)
    assert network.config.render.fine_samples > 0
    assert preset("demo-128").discriminator.mesh_image
    assert sum(parameter.numel() for parameter in network.parameters()) <= 7e6


def test_paper_sizes(toy):
    _, seen, output = on_meta("paper-512", toy)
    shapes = {name: tuple(value.shape[1:]) for name, value in seen.items()}
    assert shapes["planes"] == (3, 256, 256, 256)
    assert shapes["mouth_crop"] == shapes["mouth"] == (768, 64, 64)
    assert "blended" not in shapes
    assert tuple(output.image.shape) == (1, 3, 512, 512)


@pytest.mark.parametrize("name", ["official-512", "demo-128", "demo-64"])
def test_discriminator_sizes(name):
    config = preset(name).discriminator
    size = config.image_resolution
    with torch.device("meta"):
        judge = Discriminator(config)
        logits = judge(torch.zeros(4, 3, size, size), torch.zeros(4, 3, 32, 32), torch.zeros(4, 3, size, size), torch.zeros(4, 25))
    assert logits.shape == (4, 1)


def test_the_topology_follows_the_network(toy):
    network = Generator(TINY, toy.topology).double()
    assert network.topology.faces.device == next(network.parameters()).device
    assert network.topology.uvs.dtype == torch.float32, "a change of precision is not the topology's business"


def test_bundles_move_and_select(tiny_generator, toy):
    styles = tiny_generator.mapping(latents(3), labels(3))
    identity = tiny_generator.identity(styles)
    some = identity[1:]
    assert isinstance(some, Identity)
    assert isinstance(some.styles, Styles)
    assert torch.equal(some.styles.static, styles.static[1:])
    assert torch.equal(identity[torch.tensor([2, 0])].texture, identity.texture[[2, 0]])
    planes = tiny_generator.animate(identity, toy.mesh(3))
    assert isinstance(planes.to("cpu"), Planes)
    assert planes.to("meta").features.device.type == "meta"
    doubled = planes.map(lambda value: 2 * value)
    assert torch.equal(doubled.features, 2 * planes.features)
