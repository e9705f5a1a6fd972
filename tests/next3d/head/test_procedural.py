"""The default head: symmetry, mouth, lids, eyes, landmarks, regions, atlas, framing."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from next3d.head import load_head
from next3d.head.chart import chart_to_uv, uv_to_chart
from next3d.head.model import OBJECT_TO_WORLD, HeadParams, Joint, LinearHeadModel, axis_angle_to_matrix
from next3d.head.procedural import CM_TO_WORLD, procedural_numbers
from next3d.head.topology import Topology
from next3d.render.cameras import orbit_camera, project
from next3d.render.mesh_image import render_mesh_image
from torch_utils.ops.rasterize import rasterize

FLIP = torch.tensor([-1.0, 1.0, 1.0])
CM = CM_TO_WORLD


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    model = load_head("procedural")
    assert isinstance(model, LinearHeadModel)
    return model


@pytest.fixture(scope="module")
def topology(head: LinearHeadModel) -> Topology:
    return head.topology


def posed(
    head: LinearHeadModel, joint: Joint | None = None, rotation: tuple[float, float, float] = (0, 0, 0), **expression: float
) -> Tensor:
    """Vertices [V, 3] with one joint turned and named expressions on."""
    params = head.neutral(1)
    if joint is not None:
        params.pose[0, joint] = torch.tensor(rotation)
    for name, value in expression.items():
        params.expression[0, head.expression_index(name)] = value
    return head(params).vertices[0]


def lid_gap(head: LinearHeadModel, vertices: Tensor) -> float:
    """Largest distance between opposite upper and lower landmarks of the left eye, cm."""
    landmarks = head.topology.landmarks(vertices[None])[0]
    return float((landmarks[[43, 44]] - landmarks[[47, 46]]).norm(dim=1).max()) / CM


def test_mirror_map_is_an_exact_involution(topology: Topology) -> None:
    assert topology.mirror_vertices is not None
    assert topology.mirror_landmarks is not None
    for order in (topology.mirror_vertices, topology.mirror_landmarks):
        assert torch.equal(order[order], torch.arange(len(order)))


def test_everything_is_symmetric_to_the_bit(head: LinearHeadModel) -> None:
    order = head.topology.mirror_vertices
    assert order is not None
    assert torch.equal(head.template[order] * FLIP, head.template)
    assert torch.equal(head.shape_directions[order] * FLIP[:, None], head.shape_directions)
    assert torch.equal(head.weights[order][:, [0, 1, 2, 4, 3]], head.weights)
    for index, name in enumerate(head.expression_names):
        other = name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")
        mirrored = head.expression_directions[order][..., index] * FLIP
        assert torch.equal(mirrored, head.expression_directions[..., head.expression_index(other)]), name


def test_triangles_are_symmetric(topology: Topology) -> None:
    assert topology.mirror_vertices is not None

    def key(faces: Tensor) -> set[tuple[int, ...]]:
        start = faces.argmin(dim=1)
        rolled = torch.stack([faces.gather(1, ((start + k) % 3)[:, None])[:, 0] for k in range(3)], dim=1)
        return set(map(tuple, rolled.tolist()))

    assert key(topology.mirror_vertices[topology.faces].flip(1)) == key(topology.faces)


def test_the_skin_faces_outwards(head: LinearHeadModel) -> None:
    """A closed mesh seen from outside shows no back faces: what culling removes is hidden anyway."""
    topology = head.topology
    points = project(head(head.neutral(1)).vertices, orbit_camera(torch.tensor([0.4]), torch.tensor([0.1])))
    both = rasterize(points, topology.faces, (96, 96), perspective=True)
    front = rasterize(points, topology.faces, (96, 96), perspective=True, cull="back")
    assert (both.face != front.face).float().mean() < 0.003


def test_weights_are_convex(head: LinearHeadModel) -> None:
    assert (head.weights >= 0).all()
    assert torch.equal(head.weights.sum(1), torch.ones(len(head.weights)))


def test_nothing_is_nan_for_any_identity(head: LinearHeadModel, rng: torch.Generator) -> None:
    params = head.neutral(8)
    params.shape.copy_(torch.randn(params.shape.shape, generator=rng).clamp(-2.5, 2.5))
    params.expression.copy_(torch.rand(params.expression.shape, generator=rng))
    assert head(params).vertices.isfinite().all()


def test_the_same_head_is_built_every_time(head: LinearHeadModel) -> None:
    before = head.fingerprint()
    procedural_numbers.cache_clear()
    assert load_head("procedural").fingerprint() == before  # type: ignore[attr-defined]


def test_another_process_builds_the_same_head(head: LinearHeadModel) -> None:
    code = "from next3d.head import load_head; print(load_head('procedural').fingerprint())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert other.stdout.strip() == head.fingerprint()


def test_lips_rest_closed_and_part_with_the_jaw(head: LinearHeadModel) -> None:
    gaps = []
    for angle in (0.0, 0.05, 0.1, 0.2, 0.35):
        landmarks = head.topology.landmarks(posed(head, Joint.JAW, (angle, 0, 0))[None])[0]
        gaps.append(float((landmarks[62] - landmarks[66]).norm()) / CM)
    assert gaps[0] < 1e-3
    assert all(low < high - 0.2 for low, high in itertools.pairwise(gaps))
    assert gaps[-1] > 2.0


def test_the_chin_goes_down_and_back(head: LinearHeadModel) -> None:
    rest, wide = (head.topology.landmarks(posed(head, Joint.JAW, (a, 0, 0))[None])[0, 8] for a in (0.0, 0.35))
    assert wide[1] < rest[1] - 1.5 * CM
    assert wide[2] < rest[2] - 1.0 * CM


def test_an_open_mouth_shows_its_inside_and_nothing_behind(head: LinearHeadModel) -> None:
    """From in front, the pixels between the lips are mouth interior, teeth or tongue: no holes."""
    topology = head.topology
    vertices = posed(head, Joint.JAW, (0.35, 0, 0))[None]
    camera = orbit_camera(torch.zeros(1), torch.zeros(1))
    points = project(vertices, camera)
    fragments = rasterize(points, topology.faces, (256, 256), perspective=True, cull="back")
    lips = project(topology.landmarks(vertices), camera)[0, 60:68, :2]
    middle = ((lips.mean(0) + 1) * 128).long()
    inside = fragments.face[0, middle[1] - 6 : middle[1] + 6, middle[0] - 6 : middle[0] + 6]
    assert (inside >= 0).all()
    allowed = topology.regions["mouth_interior"] | topology.regions["teeth"] | topology.regions["tongue"]
    assert allowed[topology.faces[inside.flatten()]].all()


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_blinking_closes_the_lids(head: LinearHeadModel, side: str) -> None:
    """At 1 no pixel of the eyeball shows; half way less than at rest; the other eye stays open."""
    visible = []
    for strength in (0.0, 0.5, 1.0):
        vertices = posed(head, **{f"eyeBlink{side}": strength})
        visible.append(visible_pixels(head, vertices, f"{side.lower()}_eye"))
    assert visible[0] > 100
    assert visible[1] < 0.75 * visible[0]
    assert visible[2] == 0
    other = "right_eye" if side == "Left" else "left_eye"
    assert visible_pixels(head, posed(head, **{f"eyeBlink{side}": 1.0}), other) == pytest.approx(visible[0], rel=0.05)
    if side == "Left":
        assert lid_gap(head, posed(head, eyeBlinkLeft=1.0)) < 0.01 < lid_gap(head, posed(head))


def visible_pixels(head: LinearHeadModel, vertices: Tensor, region: str) -> int:
    points = project(vertices[None], orbit_camera(torch.zeros(1), torch.zeros(1)))
    fragments = rasterize(points, head.topology.faces, (256, 256), perspective=True, cull="back")
    shown = head.topology.regions[region][head.topology.faces].all(dim=1)
    return int(shown[fragments.face.clamp_min(0)][fragments.face >= 0].sum())


@pytest.mark.parametrize(("joint", "region"), [(Joint.LEFT_EYE, "left_eye"), (Joint.RIGHT_EYE, "right_eye")])
def test_eyes_turn_rigidly_about_their_centre(head: LinearHeadModel, joint: Joint, region: str) -> None:
    mask = head.topology.regions[region]
    rest, turned = posed(head), posed(head, joint, (0.2, 0.35, 0.0))
    center = head.joints[joint] * OBJECT_TO_WORLD
    rotation = axis_angle_to_matrix(torch.tensor([0.2, 0.35, 0.0]))
    torch.testing.assert_close(turned[mask] - center, (rest[mask] - center) @ rotation.T, rtol=0, atol=1e-6)
    assert torch.equal(turned[~mask], rest[~mask])


def test_eyes_follow_the_convention(head: LinearHeadModel) -> None:
    """Positive x looks down, positive y towards +x."""
    pupil = head.topology.regions["left_pupil"]
    rest = posed(head)[pupil].mean(0)
    assert posed(head, Joint.LEFT_EYE, (0.3, 0, 0))[pupil].mean(0)[1] < rest[1]
    assert posed(head, Joint.LEFT_EYE, (0, 0.3, 0))[pupil].mean(0)[0] > rest[0]


@pytest.mark.parametrize("name", [None, "eye_size", "eye_tilt", "eye_depth", "face_width", "eye_distance"])
@pytest.mark.parametrize("blink", [0.0, 0.5, 1.0])
def test_lids_stay_outside_the_eyeball(head: LinearHeadModel, name: str | None, blink: float) -> None:
    for sign in (-2.5, 2.5):
        params = head.neutral(1)
        if name is not None:
            params.shape[0, head.shape_index(name)] = sign
        params.expression[0, head.expression_index("eyeBlinkLeft")] = blink
        vertices = head(params).vertices[0]
        ball = vertices[head.topology.regions["left_eye"]]
        center = sphere_center(ball)
        radius = (ball - center).norm(dim=1).mean()
        landmarks = head.topology.landmarks(vertices[None])[0, 42:48]
        assert ((landmarks - center).norm(dim=1) > radius + 0.01 * CM).all()


def sphere_center(points: Tensor) -> Tensor:
    system = torch.cat([2 * points, torch.ones(len(points), 1)], dim=1).double()
    return torch.linalg.lstsq(system, (points.double() ** 2).sum(1, keepdim=True)).solution[:3, 0].float()


def test_turning_the_eyes_shows_in_the_guide_picture(head: LinearHeadModel) -> None:
    """20 degrees change more than 5 pixels of a 64 x 64 portrait, each way."""
    camera = orbit_camera(torch.zeros(1), torch.zeros(1))
    for axis in ((0.349, 0.0, 0.0), (0.0, 0.349, 0.0)):
        params = head.neutral(1)
        rest = render_mesh_image(head(params), camera, head.topology, 64)
        params.pose[0, [Joint.LEFT_EYE, Joint.RIGHT_EYE]] = torch.tensor(axis)
        turned = render_mesh_image(head(params), camera, head.topology, 64)
        assert ((turned - rest).abs().amax(1) > 0.1).sum() > 5


def test_guide_colors_tell_regions_apart(topology: Topology) -> None:
    regions = topology.regions
    mean = {name: topology.guide_colors[regions[name]].mean(0) for name in ("left_iris", "left_lids", "lips", "mouth_interior", "teeth")}
    skin = topology.guide_colors[regions["face"] & ~regions["left_lids"] & ~regions["right_lids"] & ~regions["lips"]].mean(0)
    mean["skin"] = skin
    names = list(mean)
    for i, a in enumerate(names):
        for b in names[:i]:
            assert (mean[a] - mean[b]).norm() > 0.4, (a, b)
    assert topology.guide_colors.abs().max() <= 1


def test_landmarks_lie_on_their_features(head: LinearHeadModel) -> None:
    landmarks = head(head.neutral(1)).landmarks[0]
    x, y = landmarks[:, 0], landmarks[:, 1]
    assert (x[:17].diff() > 0).all(), "jaw runs from the image's left to its right"
    assert int(y[:17].argmin()) == 8
    assert x[8].abs() < 1e-6
    assert (x[17:27].diff() > 0).all()
    assert (y[17:27] > y[36:48].max()).all()
    assert (y[27:31].diff() < 0).all()
    assert int(landmarks[:36, 2].argmax()) == 30
    assert (x[31:36].diff() > 0).all()
    assert x[36] < x[39] < 0 < x[42] < x[45], "36-41 is the person's right eye, on the image's left"
    assert (y[[43, 44]] > y[[47, 46]]).all()
    assert (y[[37, 38]] > y[[41, 40]]).all()
    assert int(x[48:60].argmin()) == 0
    assert int(x[48:60].argmax()) == 6
    assert y[51] > y[62]
    assert y[66] > y[57]
    torch.testing.assert_close(landmarks[62], landmarks[66])


def test_landmarks_are_inside_their_triangles(topology: Topology) -> None:
    weights = topology.landmark_barycentrics
    assert weights is not None
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(68))


def test_regions_overlap_only_where_they_should(topology: Topology) -> None:
    regions = topology.regions
    whole = ["face", "scalp", "neck", "left_ear", "right_ear", "left_eye", "right_eye", "mouth_interior", "teeth", "tongue"]
    assert torch.equal(torch.stack([regions[name] for name in whole]).sum(0), torch.ones(len(topology.guide_colors), dtype=torch.long))
    for inner, outer in (
        ("lips", "face"),
        ("left_lids", "face"),
        ("left_iris", "left_eye"),
        ("right_pupil", "right_iris"),
        ("left_brow", "face"),
    ):
        assert not (regions[inner] & ~regions[outer]).any(), inner
    assert not (regions["lips"] & regions["left_lids"]).any()
    assert not (regions["left_lids"] & regions["right_lids"]).any()
    assert all(mask.any() for mask in regions.values())


def test_the_atlas_has_no_overlaps(topology: Topology) -> None:
    """Rasterised in UV space in either order of the triangles, every pixel centre finds the same one (but on shared edges)."""
    uv = topology.uvs
    points = torch.cat([2 * uv - 1, torch.zeros(len(uv), 1)], dim=1)[None] * torch.tensor([1.0, -1.0, 1.0])
    first = rasterize(points, topology.uv_faces, (508, 508)).face[0]
    last = rasterize(points, topology.uv_faces.flip(0), (508, 508)).face[0]
    last = torch.where(last >= 0, len(topology.uv_faces) - 1 - last, last)
    assert (first == last).float().mean() > 0.9999
    assert uv.min() >= 0
    assert uv.max() <= 1


def test_the_face_has_the_largest_chart_and_the_mask(topology: Topology) -> None:
    corners = topology.uvs[topology.uv_faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    face = topology.regions["face"][topology.faces].all(dim=1)
    assert area[face].sum() > 0.25
    assert (area[face] > 0).all()
    mask = topology.uv_mask[0]
    at = lambda faces: mask_at(mask, topology.uvs[topology.uv_faces[faces]].mean(1))  # noqa: E731
    for name, low, high in (
        ("left_iris", 0.9, 1),
        ("lips", 0.9, 1),
        ("teeth", 0, 0.05),
        ("mouth_interior", 0, 0.05),
        ("neck", 0, 0.1),
        ("left_ear", 0, 0.05),
    ):
        value = float(at(topology.regions[name][topology.faces].all(dim=1)).mean())
        assert low <= value <= high, name
    assert torch.equal(mask, mask.flip(1)), "the atlas is symmetric"


def mask_at(mask: Tensor, uv: Tensor) -> Tensor:
    size = len(mask)
    return mask[((1 - uv[:, 1]) * size).long().clamp(0, size - 1), (uv[:, 0] * size).long().clamp(0, size - 1)]


def test_chart_and_atlas_are_inverse(rng: torch.Generator) -> None:
    points = (torch.rand(100, 2, generator=rng).double() * torch.tensor([48.0, 38.0]) - torch.tensor([24.0, 20.0])).numpy()
    torch.testing.assert_close(torch.from_numpy(uv_to_chart(chart_to_uv(points))), torch.from_numpy(points))


def test_the_portrait_camera_frames_the_head(head: LinearHeadModel) -> None:
    mesh = head(head.neutral(1))
    assert mesh.vertices.abs().max() < 0.5
    landmarks = project(mesh.landmarks, orbit_camera(torch.zeros(1), torch.zeros(1)))[0]
    row, column = 0.5 + 0.5 * landmarks[:, 1], 0.5 + 0.5 * landmarks[:, 0]
    assert 0.38 < row[36:48].mean() < 0.48
    assert 0.78 < row[8] < 0.92
    assert 0.2 < column[42:48].mean() - column[36:42].mean() < 0.3
    assert mesh.landmarks[0, 30, 2] > 0.15


@pytest.mark.parametrize(
    "name", ["mouthSmile", "mouthFrown", "mouthUpperUp", "mouthLowerDown", "browDown", "browOuterUp", "eyeSquint", "noseSneer"]
)
def test_one_sided_expressions_act_on_their_side(head: LinearHeadModel, name: str) -> None:
    moved = (posed(head, **{f"{name}Left": 1.0}) - posed(head)).norm(dim=1)
    left = head.template[:, 0] > 0.01
    right = head.template[:, 0] < -0.01
    assert moved[left].max() > 0.15 * CM
    assert moved[right].max() < 0.02 * CM


def test_shape_directions_move_what_they_name(head: LinearHeadModel) -> None:
    def landmarks(name: str) -> Tensor:
        params: HeadParams = head.neutral(1)
        params.shape[0, head.shape_index(name)] = 2.0
        return head(params).landmarks[0] - head(head.neutral(1)).landmarks[0]

    assert landmarks("chin_length")[8, 1] < -0.3 * CM
    assert landmarks("nose_projection")[30, 2] > 0.3 * CM
    assert landmarks("mouth_width")[54, 0] > 0.2 * CM
    assert landmarks("eye_distance")[45, 0] > 0.2 * CM
    assert landmarks("brow_height")[24, 1] > 0.2 * CM
    assert landmarks("eye_tilt")[45, 1] > 0.1 * CM > -0.1 * CM > landmarks("eye_tilt")[42, 1]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="'flamingo' is not known"):
        load_head("flamingo")


def test_eye_points_lie_on_their_features(head: LinearHeadModel, topology: Topology) -> None:
    points, rest = topology.eye_points, head.template * OBJECT_TO_WORLD
    assert {name: len(index) for name, index in points.items() if name.startswith("left")} == {
        "left_pupil": 1,
        "left_iris": 8,
        "left_upper_lid": 13,
        "left_lower_lid": 13,
    }
    center = head.joints[Joint.LEFT_EYE] * OBJECT_TO_WORLD
    edge = rest[points["left_iris"]] - center
    torch.testing.assert_close(edge.mean(0)[:2], torch.zeros(2), rtol=0, atol=1e-5)
    assert (edge.norm(dim=1).diff().abs() < 1e-5).all()
    upper, lower = points["left_upper_lid"], points["left_lower_lid"]
    assert (upper[[0, -1]] == lower[[0, -1]]).all(), "the corners belong to both"
    assert (rest[upper, 0].diff() > 0).all(), "from the nose outwards"
    assert (rest[upper[1:-1], 1] > rest[lower[1:-1], 1]).all()
    for name, index in points.items():
        if name.startswith("left_"):
            torch.testing.assert_close(rest[points["right_" + name[5:]]], rest[index] * FLIP, rtol=0, atol=0)


def test_the_mesh_is_of_the_promised_size(topology: Topology) -> None:
    assert 5000 <= len(topology.guide_colors) <= 12000
