"""Eyes: what a perfect detector shows is found again, eyes that show too little do not guess, and looking down is no blink."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.flame import load_flame
from next3d.head.limits import SQUINT_SHARE
from next3d.head.model import HeadParams, Joint, LinearHeadModel
from next3d.render.cameras import mirrored_camera, orbit_camera, project
from next3d.synthetic.sampling import sample_params
from next3d.tracking.eyeballs import EYES, SIDES, eye_pair, in_picture, posed_joints, posed_vertices
from next3d.tracking.eyes import fit_eyes
from next3d.tracking.gaze import IRIS_POINTS, GazeSettings, IrisReading, fit_gaze
from next3d.tracking.lids import LIDS, LidReading, LidSettings, fit_lids, follow_gaze
from next3d.tracking.types import HeadFit
from next3d.types import Camera
from tests.flame_files import fake_flame

PERFECT = GazeSettings(reading=IrisReading(), noise=(0.005, 0.005))
PERFECT_LIDS = LidSettings(reading=LidReading(), noise=0.005)
LID_ROWS = {"left": ((387, 386, 385), (373, 374, 380)), "right": ((160, 159, 158), (144, 145, 153))}
"""Of the 478 points: along the upper and the lower lid from the outer corner inwards."""


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    model = load_head("procedural")
    assert isinstance(model, LinearHeadModel)
    return model


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory) -> LinearHeadModel:
    return load_flame(fake_flame().write(Path(tmp_path_factory.mktemp("flame"))))


def people(head: LinearHeadModel, gaze: Tensor, blink: Tensor | float = 0.0) -> HeadFit:
    """Different people from different sides who look along `gaze` [N, 2, 2], lids going along, and shut their eyes by `blink` [N, 2]."""
    params = sample_params(head, torch.Generator().manual_seed(5), len(gaze))
    pose = params.pose.clone()
    pose[:, list(EYES), :2] = gaze
    params = replace(params, pose=pose, expression=torch.zeros_like(params.expression))
    if "eyeBlinkLeft" in head.expression_names:
        params = with_blinks(head, follow_gaze(head, params), torch.as_tensor(blink).expand(len(gaze), 2))
    spread = torch.linspace(-0.4, 0.4, len(gaze))
    return HeadFit(params, orbit_camera(spread, 0.4 * spread.flip(0)), torch.zeros(len(gaze)))


def with_blinks(head: LinearHeadModel, params: HeadParams, blink: Tensor) -> HeadParams:
    expression = params.expression.clone()
    expression[:, [head.expression_index(f"eyeBlink{side.capitalize()}") for side in SIDES]] = blink
    return replace(params, expression=expression)


def blinks(head: LinearHeadModel, fit: HeadFit) -> Tensor:
    return fit.params.expression[:, [head.expression_index(f"eyeBlink{side.capitalize()}") for side in SIDES]]


def gaze_of(fit: HeadFit) -> Tensor:
    return fit.params.pose[:, list(EYES), :2]


def perfect_points(head: LinearHeadModel, fit: HeadFit) -> Tensor:
    """[N, 478, 3]: what a detector without faults finds around the eyes of heads."""
    world = torch.zeros(len(fit.error), 478, 3)
    if "left_upper_lid" in head.topology.eye_points:
        world = dense_embedding(head).place(head(fit.params).vertices)
        for side, rows in LID_ROWS.items():
            corners = LIDS[SIDES.index(side)][0]
            for lid, numbers in zip(("upper", "lower"), rows, strict=True):
                margin = posed_vertices(head, fit.params, head.topology.eye_points[f"{side}_{lid}_lid"])
                world[:, list(numbers)] = margin[:, [9, 6, 3]]
                world[:, list(corners)] = margin[:, [12, 0]]
    for eye, numbers in enumerate(IRIS_POINTS):
        world[:, list(numbers)] = eye_pair(head, fit).look(gaze_of(fit))[:, eye]
    shown = project(world, fit.camera)
    distance = shown[:, 1:2, 2:].mean()
    points = torch.cat([(shown[..., :2] + 1) / 2, (shown[..., 2:] - distance) * 4.2647 / distance], dim=-1)
    if "left_upper_lid" not in head.topology.eye_points:
        points[:, [number for corners, pairs in LIDS for pair in (corners, *pairs) for number in pair]] = open_lids(len(points))
    return points


def open_lids(count: int) -> Tensor:
    """[count, 16, 3]: lids of both eyes, wide open, in the order of LIDS."""
    side = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], *[[0.5, y, 0.0] for _ in range(3) for y in (0.2, -0.2)]]
    return torch.tensor([side, side]).flatten(0, 1).expand(count, -1, -1)


def random_gaze(count: int, seed: int = 3) -> Tensor:
    one = (torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(seed)) - 0.5) * torch.tensor([0.5, 0.8])
    return one.expand(-1, 2, -1).contiguous()


def degrees(fit: HeadFit, gaze: Tensor) -> Tensor:
    return (gaze_of(fit) - gaze).norm(dim=-1) * 180 / math.pi


def test_some_vertices_and_joints_are_those_of_the_whole_head(head, flame):
    for model in (head, flame):
        fit = people(model, random_gaze(2))
        index = torch.arange(0, len(model.template), 7)
        whole = model(fit.params).vertices[:, index]
        torch.testing.assert_close(posed_vertices(model, fit.params, index), whole, atol=1e-6, rtol=0)
    fit = people(head, random_gaze(2))
    iris = posed_vertices(head, fit.params, head.topology.eye_points["left_iris"])
    centre = posed_joints(head, fit.params)[:, Joint.LEFT_EYE, None]
    assert (iris - centre).norm(dim=-1).std(dim=1).max() < 1e-5, "an iris is a circle about its axis"


def test_exact_projections_give_the_gaze_back(head):
    gaze = random_gaze(8)
    fit = people(head, gaze)
    points = perfect_points(head, fit)
    blind = replace(fit, params=replace(fit.params, pose=fit.params.pose * torch.tensor([1.0, 1, 1, 0, 0])[:, None]))
    assert degrees(fit_gaze(head, blind, points, PERFECT), gaze).max() < 0.1


def test_exact_projections_of_another_head_model_give_the_gaze_back(flame):
    gaze = random_gaze(4)
    fit = people(flame, gaze)
    assert degrees(fit_gaze(flame, fit, perfect_points(flame, fit), PERFECT), gaze).max() < 0.2
    assert fit_lids(flame, fit, perfect_points(flame, fit)) is fit


def test_a_detector_that_reads_irises_too_near_to_the_middle_is_understood(head):
    reading = IrisReading(gain_along=0.8, gain_across=0.5)
    gaze = random_gaze(6)
    fit = people(head, gaze)
    points = perfect_points(head, fit)
    middle = in_picture(eye_pair(head, fit).corners, fit.camera).mean(dim=2)
    for eye, numbers in enumerate(IRIS_POINTS):
        corners = in_picture(eye_pair(head, fit).corners, fit.camera)[:, eye]
        along = torch.nn.functional.normalize(corners[:, 0] - corners[:, 1], dim=1)
        offset = points[:, numbers[0], :2] - middle[:, eye]
        part = (offset * along).sum(dim=1, keepdim=True) * along
        points[:, list(numbers), :2] += (0.8 * part + 0.5 * (offset - part) - offset)[:, None]
    assert degrees(fit_gaze(head, fit, points, replace(PERFECT, reading=reading)), gaze).max() < 0.1


def test_mirrored_pictures_have_mirrored_eyes(head):
    from next3d.tracking.looks import mirror_numbers

    fit = people(head, random_gaze(4), torch.tensor([0.1, 0.6]))
    points = perfect_points(head, fit)
    mirrored = HeadFit(head.mirror(fit.params), mirrored_camera(fit.camera), fit.error)
    flipped = (points * torch.tensor([-1.0, 1, 1]) + torch.tensor([1.0, 0, 0]))[:, torch.from_numpy(mirror_numbers())]
    found = fit_eyes(head, fit, points, PERFECT)
    other = fit_eyes(head, mirrored, flipped, PERFECT)
    torch.testing.assert_close(head.mirror(other.params).pose, found.params.pose, atol=2e-4, rtol=0)
    torch.testing.assert_close(head.mirror(other.params).expression, found.params.expression, atol=2e-3, rtol=0)
    usual = gaze_of(fit_gaze(head, fit, points)) - head.mirror(fit_gaze(head, mirrored, flipped).params).pose[:, list(EYES), :2]
    assert usual.abs().max() < 0.02, "the detector's points were measured on both sides, and differ a little"


def test_a_shut_eye_looks_where_the_other_one_does(head):
    gaze = random_gaze(4)
    fit = people(head, gaze, torch.tensor([0.0, 1.0]))
    points = perfect_points(head, fit)
    points[:, list(IRIS_POINTS[1]), :2] += 0.03  # nonsense
    assert degrees(fit_gaze(head, fit, points, PERFECT), gaze).max() < 1


@pytest.mark.parametrize("unseen", ["shut", "nothing"])
def test_eyes_that_are_not_seen_look_ahead(head, unseen):
    fit = people(head, random_gaze(3), 1.0)
    points = perfect_points(head, fit) if unseen == "shut" else torch.full((3, 478, 3), torch.nan)
    found = fit_eyes(head, fit, points)
    assert gaze_of(found).abs().max() < 1e-3
    assert torch.isfinite(found.params.expression).all()


def test_eyes_stay_within_their_limits_and_nothing_else_moves(head):
    fit = people(head, torch.tensor([0.0, 0.55]).expand(4, 2, 2))
    points = perfect_points(head, fit)
    for numbers in IRIS_POINTS:
        points[:, list(numbers), 0] += 0.05
    found = fit_gaze(head, fit, points, PERFECT)
    assert gaze_of(found)[..., 1].max() <= 0.6 + 1e-6
    assert torch.equal(found.params.pose[:, : Joint.LEFT_EYE], fit.params.pose[:, : Joint.LEFT_EYE])
    assert torch.equal(found.params.expression, fit.params.expression)


def test_exact_gaps_give_the_blink_back(head):
    blink = torch.linspace(0.2, 1.0, 9)[:, None].expand(-1, 2)
    fit = people(head, random_gaze(9), blink)
    found = fit_eyes(head, fit, perfect_points(head, fit), PERFECT, PERFECT_LIDS)
    assert (blinks(head, found) - blink).abs().max() < 0.08


@pytest.mark.parametrize("pitch", [-0.35, 0.2, 0.4])
def test_looking_up_or_down_is_no_blink(head, pitch):
    """Lids that follow the eyeball are explained by it."""
    fit = people(head, torch.tensor([pitch, 0.0]).expand(7, 2, 2))
    found = fit_eyes(head, fit, perfect_points(head, fit), PERFECT, PERFECT_LIDS)
    assert blinks(head, found).max() < 0.1
    direction = "Down" if pitch > 0 else "Up"
    assert found.params.expression[:, head.expression_index(f"eyeLook{direction}Left")].min() > 0.9 * abs(pitch) / 0.5


def test_winks_are_kept_and_small_differences_are_not(head):
    wink = people(head, torch.zeros(4, 2, 2), torch.tensor([0.0, 0.9]))
    found = blinks(head, fit_eyes(head, wink, perfect_points(head, wink), PERFECT, PERFECT_LIDS))
    assert found[:, 0].max() < 0.2
    assert found[:, 1].min() > 0.7
    nearly = people(head, torch.zeros(4, 2, 2), torch.tensor([0.45, 0.5]))
    found = blinks(head, fit_eyes(head, nearly, perfect_points(head, nearly), PERFECT, PERFECT_LIDS))
    assert (found[:, 0] - found[:, 1]).abs().max() < 0.03


def test_a_squint_leaves_room_for_the_blink(head):
    fit = people(head, torch.zeros(2, 2, 2), 1.0)
    expression = fit.params.expression.clone()
    columns = [head.expression_index("eyeSquintLeft"), head.expression_index("eyeSquintRight")]
    expression[:, columns] = 1.0
    found = fit_lids(head, replace(fit, params=replace(fit.params, expression=expression)), perfect_points(head, fit))
    assert (blinks(head, found) + SQUINT_SHARE * found.params.expression[:, columns] <= 1 + 1e-5).all()


def test_a_face_does_not_depend_on_its_neighbours(head):
    fit = people(head, random_gaze(5), 0.3)
    points = perfect_points(head, fit)
    together = fit_eyes(head, fit, points)
    for index in range(5):
        alone = fit_eyes(head, fit[index : index + 1], points[index : index + 1])
        torch.testing.assert_close(alone.params.pose[0], together.params.pose[index], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.params.expression[0], together.params.expression[index], atol=1e-5, rtol=0)


def test_heads_without_eyes_are_refused(head):
    blind = replace(head.topology, eye_points={}, regions={})
    fit = people(head, random_gaze(1))
    points, kept = perfect_points(head, fit), head.topology
    head.topology = blind
    try:
        with pytest.raises(ValueError, match="irises"):
            fit_gaze(head, fit, points)
    finally:
        head.topology = kept


def moved_camera(camera: Camera) -> Camera:
    """The camera further away with a longer lens: nearly the same picture."""
    cam2world, intrinsics = camera.cam2world.clone(), camera.intrinsics.clone()
    cam2world[:, :3, 3] *= 2
    intrinsics[:, [0, 1], [0, 1]] *= 2
    return Camera(cam2world, intrinsics)


def test_other_lenses_change_little(head):
    gaze = random_gaze(3)
    fit = replace(people(head, gaze), camera=moved_camera(people(head, gaze).camera))
    assert degrees(fit_gaze(head, fit, perfect_points(head, fit), PERFECT), gaze).max() < 0.1
