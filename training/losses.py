"""The terms of both losses, each one number per sample: [N]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from next3d.generator import Generator
from next3d.render.compositing import MIN_TOTAL
from next3d.types import Planes
from torch_utils.ops.resize import resize

BLUR_REACH = 3.0
"""The blur's kernel ends at so many standard deviations."""
BLUR_LEAST = 0.2
"""Below this many pixels the blur changes nothing that could be seen and is left out."""


def judged_real(logits: Tensor) -> Tensor:
    """Small where the discriminator takes [N, 1] logits for real: the generator's loss on fakes, the discriminator's on reals.

    The non-saturating logistic loss (Goodfellow et al. 2014, Sec. 3).
    """
    return F.softplus(-logits).squeeze(1)


def judged_fake(logits: Tensor) -> Tensor:
    """Small where the discriminator takes [N, 1] logits for fakes."""
    return F.softplus(logits).squeeze(1)


def gradient_penalty(logits: Tensor, image: Tensor, image_raw: Tensor) -> Tensor:
    """Squared gradient of the logits [N, 1] by both images, [N], itself differentiable (R1: Mescheder et al. 2018, Eq. 9)."""
    gradients = torch.autograd.grad(logits.sum(), [image, image_raw], create_graph=True)
    squares = [gradient.square().sum(dim=(1, 2, 3)) for gradient in gradients]
    return squares[0] + squares[1]


def density_difference(generator: Generator, planes: Planes, points: Tensor, offsets: Tensor) -> Tensor:
    """Mean absolute difference of raw density between points [N, M, 3] and points + offsets, [N] (EG3D, Sec. 4.4)."""
    count = points.shape[1]
    density = generator.density(planes, torch.cat([points, points + offsets], dim=1))  # [N, 2 M, 1]
    return (density[:, :count] - density[:, count:]).abs().mean(dim=(1, 2))


def density_variation(generator: Generator, planes: Planes, points: Tensor, distance: float) -> Tensor:
    """Total variation of raw density at points [N, M, 3]: mean sum of its absolute changes along the three axes over a distance, [N]
    (anisotropic form of Rudin, Osher and Fatemi 1992, "Nonlinear total variation based noise removal algorithms")."""
    steps = distance * torch.eye(3, dtype=points.dtype, device=points.device)[:, None, None]  # [3, 1, 1, 3]
    here, *moved = _densities(generator, planes, [points, *(points + steps)])
    return torch.cat([(other - here).abs() for other in moved], dim=2).sum(dim=2).mean(dim=1)


def density_fall(generator: Generator, planes: Planes, points: Tensor, distance: float) -> Tensor:
    """By how much raw density falls from points [N, M, 3] to those a distance farther from the front's viewer (towards -z), mean [N].

    Heads are solid: what a viewer meets goes on behind its surface, so density that falls on the way in is a thin sheet or a floater.
    """
    inwards = torch.cat([points[..., :2], points[..., 2:] - distance], dim=-1)
    here, behind = _densities(generator, planes, [points, inwards])
    return F.relu(here - behind).mean(dim=(1, 2))


def _densities(generator: Generator, planes: Planes, points: list[Tensor]) -> tuple[Tensor, ...]:
    """Raw density [N, M, 1] at several sets of points [N, M, 3], in one pass."""
    return generator.density(planes, torch.cat(points, dim=1)).chunk(len(points), dim=1)


def surface_distance(weights: Tensor, depths: Tensor, mesh_depth: Tensor, face: Tensor) -> Tensor:
    """Mean distance along the rays of what they see from the mesh, over the face, [N], world units; 0 where no face is seen.

    Pictures alone leave the surface loose: density that is spread out or lies too deep looks the same from the cameras there are. It is
    the mean of the distances that counts, not the distance of a ray's mean depth: density in front of the mesh and behind it has a good
    mean, but no surface.

    Args:
        weights, depths: [N, r * r, S], what intervals of the rays contribute, and how far away they are.
        mesh_depth: [N, 1, r, r].
        face: [N, 1, r, r] in [0, 1], how much of a pixel counts.
    """
    gap = (depths - mesh_depth.flatten(2).transpose(1, 2)).abs()
    # One division per ray, not per interval: there are millions of those.
    mean_gap = torch.linalg.vecdot(weights, gap) / weights.sum(dim=2).clamp_min(MIN_TOTAL)  # [N, r * r]
    covered = face.flatten(1)
    return (mean_gap * covered).sum(dim=1) / covered.sum(dim=1).clamp_min(1)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [N, C, H, H]; `sigma` in pixels. Edge pixels are repeated outwards, so that borders do not darken.

    Two matrix products: on a CPU they are several times faster than convolutions of single channels, forward and backward.
    """
    if sigma < BLUR_LEAST:
        return images
    matrix = _blur_matrix(images.shape[-1], sigma, images.device).to(images)
    return matrix @ (images @ matrix.t())


def _blur_matrix(size: int, sigma: float, device: torch.device) -> Tensor:
    """[H, H]: row i holds what each pixel gives to blurred pixel i. Made on the device: a copy to it would wait."""
    reach = min(int(sigma * BLUR_REACH + 0.5), size - 1)
    steps = torch.arange(-reach, reach + 1, device=device)
    kernel = torch.exp(-0.5 * (steps / sigma).square())
    source = (torch.arange(size, device=device)[:, None] + steps).clamp(0, size - 1)  # [H, taps]
    return torch.zeros(size, size, device=device).scatter_add(1, source, (kernel / kernel.sum()).expand(size, -1))


def resize_raw(images: Tensor, resolution: int) -> Tensor:
    """Real images [N, 3, H, H] at the neural rendering resolution: what `image_raw` of a perfect generator would be."""
    return resize(images, resolution)
