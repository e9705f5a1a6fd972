from __future__ import annotations

import math

import pytest
import torch

from next3d.render.compositing import interval_weights
from next3d.types import Planes
from training.losses import blur, density_difference, gradient_penalty, judged_fake, judged_real, resize_raw, surface_distance


def test_terms_are_one_number_per_sample(rng):
    """[N, 1] logits must not broadcast against [N] penalties."""
    logits = torch.randn(5, 1, generator=rng)
    assert judged_real(logits).shape == judged_fake(logits).shape == (5,)
    torch.testing.assert_close(judged_real(logits), -torch.log(torch.sigmoid(logits[:, 0])))
    torch.testing.assert_close(judged_fake(logits), -torch.log(1 - torch.sigmoid(logits[:, 0])))


def test_gradient_penalty_of_a_linear_function_is_the_square_of_its_weights(rng):
    """Per sample, over both images; and it can be differentiated."""
    weight = torch.randn(3, 8, 8, generator=rng, requires_grad=True)
    weight_raw = torch.randn(3, 4, 4, generator=rng)
    image, image_raw = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    logits = ((image * weight).sum((1, 2, 3)) + 2 * (image_raw * weight_raw).sum((1, 2, 3)))[:, None]
    penalty = gradient_penalty(logits, image, image_raw)
    torch.testing.assert_close(penalty, (weight.square().sum() + 4 * weight_raw.square().sum()).expand(2))
    penalty.sum().backward()
    torch.testing.assert_close(weight.grad, 4 * weight.detach())


@pytest.mark.parametrize("sigma", [0.5, 1.25, 4.0])
def test_blur_is_a_gaussian(sigma):
    """A single pixel spreads to the normalised Gaussian; constants stay constant up to the border."""
    dot = torch.zeros(1, 1, 33, 33)
    dot[..., 16, 16] = 1
    offset = torch.arange(33) - 16.0
    gauss = torch.exp(-0.5 * (offset / sigma) ** 2) * (offset.abs() <= int(3 * sigma + 0.5))
    gauss /= gauss.sum()
    torch.testing.assert_close(blur(dot, sigma)[0, 0], gauss[:, None] * gauss[None], rtol=0, atol=1e-6)
    torch.testing.assert_close(blur(torch.full((2, 3, 9, 9), 0.7), sigma), torch.full((2, 3, 9, 9), 0.7))


def test_no_blur_gives_the_same_tensor():
    images = torch.rand(1, 3, 8, 8)
    assert blur(images, 0.0) is images


def test_raw_images_keep_their_mean_and_do_not_alias():
    """A pattern finer than the raw resolution turns grey instead of into stripes."""
    stripes = torch.ones(1, 3, 32, 32)
    stripes[..., ::2] = -1
    assert resize_raw(stripes, 8).abs().max() < 0.1


def test_density_difference_measures_slope():
    """Linear density along x: the mean absolute difference is the slope times the mean offset."""

    class Slope:
        def density(self, planes: Planes, points: torch.Tensor) -> torch.Tensor:
            return 3 * points[..., :1]

    points, offsets = torch.rand(2, 4000, 3), torch.randn(2, 4000, 3) * 0.01
    difference = density_difference(Slope(), Planes(torch.zeros(2, 3, 1, 1, 1)), points, offsets)
    assert difference.shape == (2,)
    torch.testing.assert_close(difference, torch.full((2,), 3 * 0.01 * math.sqrt(2 / math.pi)), rtol=0.05, atol=0)


def test_surface_distance_is_the_mean_distance_of_what_rays_see(rng):
    """Matter at the mesh costs nothing, matter elsewhere its distance; that before and behind it balances out is no excuse."""
    depths = torch.tensor([2.3, 2.5, 2.7]).expand(1, 4, 3)
    mesh_depth, face = torch.full((1, 1, 2, 2), 2.5), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    at_mesh, around, lost = torch.tensor([0.0, 0.9, 0.0]), torch.tensor([0.4, 0.0, 0.4]), torch.rand(3, generator=rng)

    def distance(*rays):
        return float(surface_distance(torch.stack(rays)[None], depths, mesh_depth, face))

    assert distance(at_mesh, at_mesh, lost, lost) == pytest.approx(0, abs=1e-6)
    assert distance(around, around, lost, lost) == pytest.approx(0.2)
    assert distance(at_mesh, around, lost, lost) == pytest.approx(0.1)
    assert float(surface_distance(torch.stack([around] * 4)[None], depths, mesh_depth, torch.zeros_like(face))) == 0


def test_surface_distance_draws_density_to_the_mesh():
    """Descending it gathers a ray's density at the mesh, from both sides."""
    depths = torch.linspace(2, 3, 41)[None, None]
    density = torch.full((1, 1, 41), 3.0, requires_grad=True)  # evenly spread
    mesh_depth, face = torch.full((1, 1, 1, 1), 2.4), torch.ones(1, 1, 1, 1)
    middles = (depths[..., 1:] + depths[..., :-1]) / 2
    optimizer, ends = torch.optim.Adam([density], lr=0.1), []
    for _ in range(200):
        loss = surface_distance(interval_weights(density, depths), middles, mesh_depth, face).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(float(loss.detach()))
    assert ends[-1] < 0.2 * ends[0]
    assert abs(float(middles[0, 0, interval_weights(density, depths).argmax()]) - 2.4) < 0.03
