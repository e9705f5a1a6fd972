"""A density field whose surface is known comes out as that surface, in world units, as a file that other programs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from dnnlib.errors import UserError
from next3d.media.shapes import Surface, density_grid, extract_surface, largest_part, part_at, save_ply

CENTRE = torch.tensor([0.1, -0.05, 0.2])


def ball(points: Tensor) -> Tensor:
    """Density 10 on a sphere of radius 0.25 around CENTRE, growing inwards."""
    return 10 + 100 * (0.25 - (points - CENTRE).norm(dim=2, keepdim=True))


def volume(surface: Surface) -> float:
    return float(trimesh.Trimesh(surface.vertices, surface.faces, process=False).volume)


def test_chunks_do_not_matter_and_axes_are_x_y_z():
    whole = density_grid(ball, 9, 1.0)
    calls: list[int] = []

    def counting(points: Tensor) -> Tensor:
        calls.append(points.shape[1])
        return ball(points)

    assert torch.equal(density_grid(counting, 9, 1.0, chunk=100), whole)
    assert max(calls) <= 100
    assert whole[8, 4, 2] == pytest.approx(float(ball(torch.tensor([[[0.5, 0.0, -0.25]]]))), rel=1e-5)


def test_a_ball_comes_out_where_it_is_and_as_large_as_it_is():
    surface = extract_surface(density_grid(ball, 48, 1.0), 10, 1.0)
    radius = np.linalg.norm(surface.vertices - CENTRE.numpy(), axis=1)
    assert np.abs(radius - 0.25).max() < 0.002
    assert volume(surface) == pytest.approx(4 / 3 * np.pi * 0.25**3, rel=0.02), "triangles must face outwards"


def test_a_shape_that_reaches_the_border_is_closed_there():
    surface = extract_surface(torch.full((8, 8, 8), 20.0), 10, 2.0)
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=True)
    assert mesh.is_watertight
    assert np.abs(surface.vertices).max() == pytest.approx(1.0, abs=0.01)


def test_no_surface_is_a_sentence():
    with pytest.raises(UserError, match="between 1 and 1"):
        extract_surface(torch.ones(4, 4, 4), 10, 1.0)


def beside(first: Surface, second: Surface) -> Surface:
    """Two surfaces as one."""
    faces = np.concatenate([first.faces, second.faces + len(first.vertices)])
    return Surface(np.concatenate([first.vertices, second.vertices]), faces)


def test_only_the_largest_part_stays():
    big = extract_surface(density_grid(ball, 32, 1.0), 10, 1.0)
    small = Surface(big.vertices[:3] + 5, np.array([[0, 1, 2]]))
    kept = largest_part(beside(small, big))
    assert len(kept.faces) == len(big.faces)
    assert volume(kept) == pytest.approx(volume(big))


def test_the_part_at_the_mesh_stays_however_small(rng: torch.Generator):
    """A background with more triangles than the head does not replace it."""
    head, background = (extract_surface(density_grid(ball, count, 1.0), 10, 1.0) for count in (16, 32))
    both = beside(Surface(background.vertices - np.float32([0, 0, 2]), background.faces), head)
    mesh = (CENTRE + 0.3 * torch.randn(200, 3, generator=rng)).numpy()
    kept = part_at(both, mesh)
    assert np.array_equal(kept.vertices, head.vertices)
    assert np.array_equal(kept.faces, head.faces)
    assert np.array_equal(largest_part(both).faces, background.faces)


def test_ply_reads_back(tmp_path: Path):
    surface = extract_surface(density_grid(ball, 16, 1.0), 10, 1.0)
    save_ply(tmp_path / "a.ply", surface)
    assert (tmp_path / "a.ply").read_bytes().startswith(b"ply\n")
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    assert np.allclose(mesh.vertices, surface.vertices, atol=1e-6)
    assert np.array_equal(mesh.faces, surface.faces)
