"""The rasteriser: its definition of a pixel, its backends, its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from torch_utils.custom_ops import BackendError
from torch_utils.ops.rasterize import Fragments, interpolate, pixel_centers, rasterize

BACKENDS = ["ref", "cpu"]


def soup(rng: torch.Generator, batch: int = 2, vertices: int = 40, faces: int = 60) -> tuple[Tensor, Tensor]:
    """Random triangles, partly outside of the image, in front of the camera: points [B, V, 3], faces [F, 3]."""
    points = torch.rand(batch, vertices, 3, generator=rng) * torch.tensor([3.0, 3.0, 2.0]) - torch.tensor([1.5, 1.5, -0.5])
    return points, torch.randint(vertices, (faces, 3), generator=rng)


def sphere(count: int = 24) -> tuple[Tensor, Tensor]:
    """A closed sphere of radius 1: vertices [V, 3] and triangles [F, 3], counter-clockwise seen from outside."""
    polar = torch.linspace(0, math.pi, count + 1)[1:-1, None]
    around = torch.arange(2 * count) * (math.pi / count)
    ring = torch.stack([polar.sin() * around.cos(), polar.cos().expand(-1, 2 * count), -polar.sin() * around.sin()], dim=-1)
    vertices = torch.cat([ring.flatten(0, 1), torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])])
    here = torch.arange((count - 1) * 2 * count).reshape(count - 1, 2 * count)
    right, last = here.roll(-1, dims=1), here.numel()
    upper = torch.stack([here[:-1], here[1:], right[:-1]], dim=-1).reshape(-1, 3)
    lower = torch.stack([right[:-1], here[1:], right[1:]], dim=-1).reshape(-1, 3)
    north = torch.stack([torch.full((2 * count,), last), here[0], right[0]], dim=1)
    south = torch.stack([torch.full((2 * count,), last + 1), right[-1], here[-1]], dim=1)
    return vertices, torch.cat([upper, lower, north, south])


def to_image(world: Tensor, *, distance: float | None = None) -> Tensor:
    """World points (x right, y up, z towards the viewer) as the rasteriser takes them, through a camera on +z."""
    x, y, z = world.unbind(-1)
    if distance is None:
        return torch.stack([x, -y, -z], dim=-1)
    depth = distance - z
    return torch.stack([distance * x / depth, -distance * y / depth, depth], dim=-1)


def rotations(count: int, rng: torch.Generator) -> Tensor:
    """Random rotations [count, 3, 3]."""
    basis = torch.linalg.qr(torch.randn(count, 3, 3, generator=rng))[0]
    return basis * torch.linalg.det(basis)[:, None, None]


def pixel_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """x [W] and y [H, 1] of all pixel centres."""
    return pixel_centers(width).float(), pixel_centers(height).float()[:, None]


def assert_same(a: Fragments, b: Fragments) -> None:
    assert torch.equal(a.face, b.face)
    assert torch.equal(a.barycentrics, b.barycentrics)
    assert torch.equal(a.depth, b.depth)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixel_centres_decide_and_edges_are_inclusive(backend):
    """A triangle over the upper left half of a 4 x 4 image, its long edge through pixel centres, covers those pixels too."""
    points = torch.tensor([[[-1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]])
    face = rasterize(points, torch.tensor([[0, 1, 2]]), (4, 4), backend=backend).face[0]
    assert face.tolist() == [[0, 0, 0, 0], [0, 0, 0, -1], [0, 0, -1, -1], [0, -1, -1, -1]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nearest_wins_and_ties_go_to_the_first(backend):
    big = torch.tensor([[-9.0, -9.0], [9.0, -9.0], [0.0, 9.0]])
    layers = torch.cat([torch.cat([big, torch.full((3, 1), z)], dim=1) for z in (2.0, 1.0, 1.0, -3.0)])[None]
    faces = torch.arange(12).reshape(4, 3)
    assert rasterize(layers, faces, (2, 3), backend=backend).face.unique().tolist() == [3]
    fragments = rasterize(layers, faces[:3], (2, 3), backend=backend)
    assert fragments.face.unique().tolist() == [1]
    assert fragments.depth.unique().tolist() == [1.0]


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("cull", ["none", "back", "front"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64), (130, 600)], ids=str)
def test_cpp_equals_reference_bit_by_bit(size, cull, perspective, rng):
    """Both do the same arithmetic in the same order, so there is no band along edges in which they may differ."""
    points, faces = soup(rng)
    expected = rasterize(points, faces, size, perspective=perspective, cull=cull, backend="ref")
    assert_same(rasterize(points, faces, size, perspective=perspective, cull=cull, backend="cpu"), expected)
    assert (expected.face >= 0).any() or cull == "front" or size == (1, 1)


def test_cpp_equals_reference_on_small_triangles_strides_and_double(rng):
    """Most triangles of a dense mesh hit no pixel centre; strides and dtype must not matter."""
    vertices, faces = sphere()
    points = to_image(vertices @ rotations(3, rng)).double()
    strided = points.transpose(0, 2).contiguous().transpose(0, 2)
    every_other = faces.repeat_interleave(2, dim=1)[:, ::2]
    assert not strided.is_contiguous()
    assert not every_other.is_contiguous()
    actual = rasterize(strided, every_other, (19, 23), backend="cpu")
    assert actual.depth.dtype == actual.barycentrics.dtype == torch.float64
    assert_same(actual, rasterize(points, faces, (19, 23), backend="ref"))


def test_batch_equals_single_images(rng):
    points, faces = soup(rng, batch=3)
    together = rasterize(points, faces, (16, 16), backend="cpu")
    for i in range(3):
        single = rasterize(points[i : i + 1], faces, (16, 16), backend="cpu")
        assert torch.equal(together.face[i], single.face[0])
        assert torch.equal(together.depth[i], single.depth[0])


def test_reference_does_not_depend_on_its_chunks(rng, monkeypatch):
    points, faces = soup(rng)
    whole = rasterize(points, faces, (16, 16), backend="ref")
    monkeypatch.setattr("torch_utils.ops.rasterize.PAIRS_PER_CHUNK", 100)
    assert_same(rasterize(points, faces, (16, 16), backend="ref"), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_triangles_does_not_matter(backend, rng):
    points, faces = soup(rng)
    order = torch.randperm(len(faces), generator=rng)
    plain = rasterize(points, faces, (40, 40), backend=backend)
    shuffled = rasterize(points, faces[order], (40, 40), backend=backend)
    assert torch.equal(plain.depth, shuffled.depth)
    background = torch.tensor([-1])
    renamed = torch.cat([order, background])[shuffled.face]
    assert (renamed == plain.face).float().mean() > 0.999, "only exact ties may go to another triangle"


@pytest.mark.parametrize("backend", BACKENDS)
def test_closed_surface_has_no_cracks(backend, rng):
    """Every pixel centre well inside the silhouette of a sphere is covered, from any side, and none outside it."""
    vertices, faces = sphere()
    points = to_image(0.9 * vertices @ rotations(8, rng))
    shown = rasterize(points, faces, (101, 101), cull="back", backend=backend).face >= 0
    x, y = pixel_grid(101, 101)
    radius = (x.square() + y.square()).sqrt()
    assert shown[:, radius < 0.9 * 0.98].all()
    assert not shown[:, radius > 0.9].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_vertices_and_edges_on_pixel_centres_leave_no_gaps(backend):
    """A flat grid whose vertices are exactly the pixel centres covers every pixel, where six triangles meet."""
    x, y = torch.meshgrid(pixel_centers(9).float(), pixel_centers(9).float(), indexing="xy")
    points = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(1, -1, 3)
    corner = torch.arange(81).reshape(9, 9)[:-1, :-1].reshape(-1, 1)
    faces = torch.cat([corner + torch.tensor([0, 1, 9]), corner + torch.tensor([1, 10, 9])])
    assert (rasterize(points, faces, (9, 9), backend=backend).face >= 0).all()


def test_culling_keeps_the_side_that_faces_the_viewer(rng):
    """Of a sphere with outward counter-clockwise triangles, "back" leaves the near half and "front" the far half."""
    vertices, faces = sphere()
    points = to_image(vertices @ rotations(1, rng))
    both, near, far = (rasterize(points, faces, (31, 31), cull=cull) for cull in ("none", "back", "front"))
    shown = (near.face >= 0) & (far.face >= 0)
    assert shown.float().mean() > 0.5
    assert torch.equal(both.depth[shown], near.depth[shown])
    assert (near.depth[shown] < 0.01).all()
    assert (far.depth[shown] > -0.01).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_interpolated_position_projects_back_to_the_pixel(backend, rng):
    """Perspective-correct weights blend world positions into the point that the pixel's ray hits."""
    vertices, faces = sphere(6)  # large triangles, so that a linear blend would be far off
    world = vertices @ rotations(2, rng) * 0.7
    points = to_image(world, distance=1.5)
    fragments = rasterize(points, faces, (64, 48), perspective=True, backend=backend)
    position = to_image(interpolate(world, faces, fragments), distance=1.5)
    shown = fragments.face >= 0
    x, y = pixel_grid(64, 48)
    assert shown.float().mean() > 0.3
    assert (position[..., 0] - x).abs()[shown].max() < 1e-5
    assert (position[..., 1] - y).abs()[shown].max() < 1e-5
    assert (position[..., 2] - fragments.depth).abs()[shown].max() < 1e-5
    linear = rasterize(points, faces, (64, 48), backend=backend)
    assert (to_image(interpolate(world, faces, linear), distance=1.5)[..., 0] - x).abs()[shown].max() > 1e-3


def test_barycentrics_are_weights(rng):
    points, faces = soup(rng)
    fragments = rasterize(points, faces, (40, 40), perspective=True)
    shown = fragments.face >= 0
    assert fragments.barycentrics.min() >= 0
    torch.testing.assert_close(fragments.barycentrics.sum(-1), shown.float())
    assert fragments.depth[~shown].eq(math.inf).all()
    assert fragments.depth[shown].isfinite().all()


NOTHING = {
    "no area": [[0.0, 0.0, 1.0], [0.5, 0.5, 1.0], [-0.5, -0.5, 1.0]],
    "one point": [[0.0, 0.0, 1.0]] * 3,
    "nan": [[-5.0, -5.0, 1.0], [5.0, -5.0, math.nan], [0.0, 5.0, 1.0]],
    "infinite": [[-5.0, -5.0, 1.0], [math.inf, -5.0, 1.0], [0.0, 5.0, 1.0]],
    "behind the camera": [[-5.0, -5.0, 1.0], [5.0, -5.0, -1.0], [0.0, 5.0, 1.0]],
    "at the camera": [[-5.0, -5.0, 1.0], [5.0, -5.0, 0.0], [0.0, 5.0, 1.0]],
    "outside": [[2.0, 2.0, 1.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0]],
    "far outside": [[1e30, 2.0, 1.0], [3.0, 1e30, 1.0], [2.0, 3.0, 1.0]],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("triangle", NOTHING.values(), ids=NOTHING.keys())
def test_unusable_triangles_show_nowhere(triangle, backend):
    fragments = rasterize(torch.tensor([triangle]), torch.tensor([[0, 1, 2]]), (5, 5), perspective=True, backend=backend)
    assert fragments.face.eq(-1).all()
    assert fragments.depth.eq(math.inf).all()
    assert fragments.barycentrics.eq(0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "vertices", "faces"), [(2, 5, 0), (2, 0, 0), (0, 5, 4)], ids=str)
def test_empty_meshes_and_batches(batch, vertices, faces, backend):
    index = torch.zeros(faces, 3, dtype=torch.int64)
    fragments = rasterize(torch.zeros(batch, vertices, 3), index, (4, 6), differentiable=True, backend=backend)
    assert fragments.face.shape == fragments.depth.shape == (batch, 4, 6)
    assert fragments.face.eq(-1).all()
    assert interpolate(torch.ones(batch, 7, 2), index, fragments).eq(0).all()


def test_interpolate_reads_corners_of_their_own_index(rng):
    """UVs have their own corner index and may be shared by the batch; background is 0."""
    points, faces = soup(rng)
    uvs = torch.rand(1, 90, 2, generator=rng)
    uv_faces = torch.randint(90, faces.shape, generator=rng)
    fragments = rasterize(points, faces, (12, 12))
    image = interpolate(uvs, uv_faces, fragments)
    for b, i, j in [(0, 3, 4), (1, 6, 6), (1, 0, 11)]:
        face = int(fragments.face[b, i, j])
        expected = fragments.barycentrics[b, i, j] @ uvs[0, uv_faces[face]] if face >= 0 else torch.zeros(2)
        torch.testing.assert_close(image[b, i, j], expected)
    assert image[fragments.face < 0].eq(0).all()


@pytest.mark.parametrize("perspective", [False, True])
def test_differentiable_changes_no_value(perspective, rng):
    points, faces = soup(rng)
    fixed = rasterize(points, faces, (32, 32), perspective=perspective)
    assert_same(rasterize(points, faces, (32, 32), perspective=perspective, differentiable=True), fixed)


@pytest.mark.parametrize("perspective", [False, True])
def test_gradients_of_points_match_finite_differences(perspective, rng):
    """Barycentrics and depth as functions of the points, with the triangles that show held fixed by a tiny step."""
    points = soup(rng, batch=1, vertices=12)[0].double().requires_grad_()
    faces = torch.randperm(12, generator=rng).reshape(4, 3)  # no common corners: no ties for the step to break

    def outputs(moved: Tensor) -> tuple[Tensor, Tensor]:
        fragments = rasterize(moved, faces, (5, 6), perspective=perspective, differentiable=True)
        return fragments.barycentrics, fragments.depth.where(fragments.face >= 0, 0)

    assert torch.autograd.gradcheck(outputs, points, eps=1e-7, atol=1e-4)


def test_uv_gradients_move_a_texture(rng):
    """Following the gradient of an interpolated attribute reduces its error: fitting through the barycentrics works."""
    vertices, faces = sphere(8)
    colors = vertices[None]
    target = interpolate(colors, faces, rasterize(to_image(vertices[None]), faces, (24, 24), cull="back"))
    shift = torch.tensor([0.06, -0.04], requires_grad=True)

    def loss() -> Tensor:
        moved = to_image(vertices[None]) + torch.cat([shift, shift.new_zeros(1)])
        fragments = rasterize(moved, faces, (24, 24), cull="back", differentiable=True)
        both = (fragments.face >= 0) & (target != 0).any(-1)
        return (interpolate(colors, faces, fragments) - target).square().sum(-1)[both].mean()

    before = loss()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss(), shift)
        shift = (shift - 0.3 * gradient).detach().requires_grad_()
    assert loss() < 0.15 * before
    assert shift.abs().max() < 0.03


def test_gradients_stay_finite_beside_unusable_triangles():
    """Background and dropped triangles give zero gradients, not NaN."""
    good = [[-0.5, -0.5, 1.0], [0.5, -0.5, 1.0], [0.0, 0.5, 1.0]]
    points = torch.tensor([NOTHING["nan"] + NOTHING["behind the camera"] + good], requires_grad=True)
    fragments = rasterize(points, torch.arange(9).reshape(3, 3), (8, 8), perspective=True, differentiable=True)
    assert fragments.face.unique().tolist() == [-1, 2]
    (gradient,) = torch.autograd.grad(fragments.barycentrics[..., 0].sum() + fragments.depth[fragments.face >= 0].sum(), points)
    assert gradient.isfinite().all()
    assert gradient[0, :6].eq(0).all()
    assert gradient[0, 6:].ne(0).any()


def test_without_differentiable_no_gradient_flows(rng):
    points, faces = soup(rng)
    fragments = rasterize(points.requires_grad_(), faces, (4, 4))
    assert not fragments.barycentrics.requires_grad
    assert not fragments.depth.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_operator_is_registered_as_torch_expects(dtype, rng):
    """Schema, fake kernel, autograd and functionalisation, as `torch.library.opcheck` sees them."""
    points, faces = soup(rng)
    rasterize(points, faces, (4, 4), backend="cpu")  # loads it
    torch.library.opcheck(torch.ops.next3d.rasterize, (points.to(dtype).requires_grad_(), faces, 6, 5, True, "back"))


def test_compiles_in_one_graph(rng):
    points, faces = soup(rng)

    def area(points: Tensor) -> Tensor:
        fragments = rasterize(points, faces, (9, 9), perspective=True, differentiable=True)
        return interpolate(points, faces, fragments).sum()

    compiled = torch.compile(area, backend="aot_eager", fullgraph=True)
    inputs = [points.clone().requires_grad_() for _ in range(2)]
    gradients = [torch.autograd.grad(function(x), x)[0] for function, x in zip((area, compiled), inputs, strict=True)]
    torch.testing.assert_close(gradients[0], gradients[1])


BAD_INPUT = {
    "points without batch": ({"points": torch.zeros(5, 3)}, r"points: shape \(5, 3\), expected \[B, V, 3\]"),
    "points in 2D": ({"points": torch.zeros(1, 5, 2)}, r"points: shape \(1, 5, 2\)"),
    "half precision": ({"points": torch.zeros(1, 5, 3).half()}, "points: dtype torch.float16, expected float32 or float64"),
    "quads": ({"faces": torch.zeros(4, 4, dtype=torch.int64)}, r"faces: torch.int64 of shape \(4, 4\), expected int64 \[F, 3\]"),
    "int32 faces": ({"faces": torch.zeros(4, 3, dtype=torch.int32)}, "faces: torch.int32"),
    "empty image": ({"size": (0, 4)}, r"size: \(0, 4\), expected \(height, width\)"),
    "unknown culling": ({"cull": "sideways"}, "cull: 'sideways', expected 'none', 'back' or 'front'"),
    "corner too large": ({"faces": torch.tensor([[0, 1, 5]])}, r"faces: corner.* 5.* expected \[0, 5\)"),
    "corner negative": ({"faces": torch.tensor([[0, 1, -1]])}, r"faces: corner.* -1.* expected \[0, 5\)"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("change", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_named(change, message, backend):
    arguments = {"points": torch.zeros(1, 5, 3), "faces": torch.zeros(2, 3, dtype=torch.int64), "size": (4, 4)} | change
    with pytest.raises(ValueError, match=message):
        rasterize(**arguments, backend=backend)


def test_interpolate_names_bad_attributes(rng):
    points, faces = soup(rng)
    fragments = rasterize(points, faces, (4, 4))
    with pytest.raises(ValueError, match=r"attributes: shape \(3, 40, 3\), expected \[2 or 1, A, C\]"):
        interpolate(torch.zeros(3, 40, 3), faces, fragments)


@pytest.mark.parametrize("backend", ["cuda", "nvdiffrast"])
def test_missing_backend_is_an_error(backend, rng):
    points, faces = soup(rng)
    with pytest.raises(BackendError, match=f"rasterize: there is no '{backend}' backend"):
        rasterize(points, faces, (4, 4), backend=backend)


@pytest.mark.gpu
def test_reference_on_a_gpu_finds_the_same_triangles(rng):
    points, faces = soup(rng)
    there = rasterize(points.cuda(), faces.cuda(), (33, 20), backend="ref")
    assert (there.face.cpu() == rasterize(points, faces, (33, 20)).face).float().mean() > 0.999
