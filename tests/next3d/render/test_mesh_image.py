"""The mesh as the discriminator sees it."""

from __future__ import annotations

import torch

from next3d.render.cameras import orbit_camera, project
from next3d.render.mesh_image import render_mesh_image
from next3d.types import Camera, HeadMesh
from tests.models import labels

SIZE = 48


def test_background_is_minus_one_and_colours_are_guide_colours(toy):
    image = render_mesh_image(toy.mesh(2, seed=1), Camera.from_label(labels(2)), toy.topology, SIZE)
    assert image.shape == (2, 3, SIZE, SIZE)
    assert (image[..., 0] == -1).all()
    assert image.min() >= -1
    assert image.max() <= 1
    drawn = (image > -1).any(dim=1)
    assert 0.2 < drawn.float().mean() < 0.95


def test_vertices_show_where_they_project(toy):
    """On the image, at the pixel where a visible vertex projects, is that vertex's colour."""
    mesh = toy.mesh(2)
    camera = orbit_camera(torch.tensor([0.5, -0.9]), torch.tensor([0.2, -0.3]))
    image = render_mesh_image(mesh, camera, toy.topology, SIZE)
    where = project(mesh.vertices, camera)[..., :2]  # [2, V, 2]
    normals = toy.vertices / torch.tensor([0.16, 0.22, 0.18]).square()
    towards = torch.nn.functional.normalize(camera.cam2world[:, None, :3, 3] - mesh.vertices, dim=-1)
    visible = (torch.nn.functional.normalize(normals, dim=-1) * towards).sum(-1) > 0.5
    found = torch.nn.functional.grid_sample(image, where[:, None], align_corners=False)[:, :, 0].mT  # [2, V, 3]
    assert visible.sum() > 100
    torch.testing.assert_close(found[visible], toy.topology.guide_colors.expand(2, -1, -1)[visible], rtol=0, atol=0.06)


def test_the_nearer_side_hides_the_farther(toy):
    """From the front only guide colours with z > 0 show, from behind only the others: back faces are culled, depth is respected."""
    camera = orbit_camera(torch.tensor([0.0, torch.pi]), torch.zeros(2))
    image = render_mesh_image(toy.mesh(2), camera, toy.topology, SIZE)
    for view, sign in ((0, 1), (1, -1)):
        drawn = (image[view] > -1).any(dim=0)
        assert (sign * image[view, 2][drawn] > -0.1).all()


def test_it_follows_the_mesh_and_carries_no_gradient(toy):
    camera = Camera.from_label(labels(1).requires_grad_())
    vertices = toy.mesh().vertices.clone().requires_grad_()
    image = render_mesh_image(HeadMesh(vertices, toy.mesh().landmarks), camera, toy.topology, SIZE)
    assert not image.requires_grad
    moved = HeadMesh(vertices + torch.tensor([0.05, 0.0, 0.0]), toy.mesh().landmarks)
    other = render_mesh_image(moved, camera, toy.topology, SIZE)
    assert not torch.equal(image, other)
    center = lambda x: ((x > -1).any(dim=1).float().sum(dim=(0, 1)) * torch.arange(SIZE)).sum() / (x > -1).any(dim=1).sum()  # noqa: E731
    assert center(other) > center(image) + 2, "towards +x is to the right"
