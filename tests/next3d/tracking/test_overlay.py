"""What is drawn on a photo, and where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from next3d.head import load_head
from next3d.head.dense import dense_embedding
from next3d.head.model import HeadParams, Joint, LinearHeadModel
from next3d.render.cameras import orbit_camera, project
from next3d.tracking.overlay import OverlayStyle, draw_overlay, gaze_rays, legend_lines, picture_scale
from next3d.tracking.types import CropFrame, HeadFit

AS_IS = OverlayStyle(face_size=0)
NOTHING = OverlayStyle(mesh=False, landmarks=False, gaze=False, frame=False, legend=False, face_size=0)


@pytest.fixture(scope="module")
def head() -> LinearHeadModel:
    model = load_head("procedural")
    assert isinstance(model, LinearHeadModel)
    return model


def fit_of(params: HeadParams, error: float = 0.012) -> HeadFit:
    count = len(params.scale)
    return HeadFit(params, orbit_camera(torch.zeros(count), torch.zeros(count)), torch.full((count,), error))


def posed(head: LinearHeadModel, *, gaze: tuple[float, float] = (0.0, 0.0), jaw: float = 0.0, turn: float = 0.0) -> HeadParams:
    params = head.neutral(1)
    params.pose[:, [Joint.LEFT_EYE, Joint.RIGHT_EYE], :2] = torch.tensor(gaze)
    params.pose[:, Joint.JAW, 0] = jaw
    params.pose[:, Joint.GLOBAL, 1] = turn
    return params


@pytest.fixture
def photo() -> np.ndarray:
    return np.full((200, 260, 3), 90, dtype=np.uint8)


def test_small_faces_are_enlarged_and_huge_photos_shrunk() -> None:
    style = OverlayStyle(face_size=560, largest=3072)
    assert picture_scale((512, 512, 3), [CropFrame(0, 0, 140)], style) == pytest.approx(4)
    assert picture_scale((4000, 3000, 3), [CropFrame(0, 0, 2000)], style) == pytest.approx(3072 / 4000)
    assert picture_scale((4000, 3000, 3), [CropFrame(0, 0, 100)], style) == pytest.approx(3072 / 4000)
    assert picture_scale((600, 800, 3), [CropFrame(0, 0, 100), CropFrame(0, 0, 700)], style) == 1


def test_the_mesh_covers_the_face_and_leaves_the_rest_of_the_photo(head: LinearHeadModel, photo: np.ndarray) -> None:
    frame = CropFrame(20, 30, 80)
    drawn = draw_overlay(photo, head, fit_of(head.neutral(1)), [frame], style=replace(NOTHING, mesh=True))
    assert drawn.shape == photo.shape
    changed = (drawn != photo).any(axis=2)
    assert changed[int(30 + 0.4 * 80) : int(30 + 0.6 * 80), int(20 + 0.4 * 80) : int(20 + 0.6 * 80)].all(), "nose and cheeks"
    assert not changed[:, 150:].any()
    assert (photo == 90).all(), "the photo itself is not drawn on"


def test_nothing_asked_for_nothing_drawn(head: LinearHeadModel, photo: np.ndarray) -> None:
    assert (draw_overlay(photo, head, fit_of(head.neutral(1)), [CropFrame(20, 30, 80)], style=NOTHING) == photo).all()


def test_frame_and_detected_points_are_where_they_are_said_to_be(head: LinearHeadModel, photo: np.ndarray) -> None:
    framed = draw_overlay(photo, head, fit_of(head.neutral(1)), [CropFrame(20, 30, 80)], style=replace(NOTHING, frame=True))
    for row, column in ((30, 60), (110, 60), (70, 20), (70, 100)):
        assert framed[row - 1 : row + 2, column - 1 : column + 2].max() > 200
    found = np.tile([[200.5, 50.5]], (478, 1))
    dotted = draw_overlay(photo, head, fit_of(head.neutral(1)), [CropFrame(120, 10, 90)], [found], replace(NOTHING, landmarks=True))
    assert abs(int(dotted[50, 200].astype(int).max()) - 255) < 30
    points = dense_embedding(head).place(head(head.neutral(1)).vertices)
    corner = (project(points, orbit_camera(torch.zeros(1), torch.zeros(1)))[0, 33, :2].detach().numpy() + 1) / 2
    place = np.round(np.array([120, 10]) + 90 * corner - 0.5).astype(int)
    assert (dotted[place[1] - 1 : place[1] + 2, place[0] - 1 : place[0] + 2] != 90).any(), "the fitted corner of the eye"


def test_gaze_points_where_eyes_look(head: LinearHeadModel) -> None:
    def ways(params: HeadParams) -> np.ndarray:
        with torch.no_grad():
            return np.array([end - start for start, end in gaze_rays(head, fit_of(params), head(params))])

    straight, left, down = ways(posed(head)), ways(posed(head, gaze=(0.0, 0.4))), ways(posed(head, gaze=(0.3, 0.0)))
    assert np.abs(straight).max() < 0.02
    assert (left[:, 0] > 0.05).all(), "the person's left is right in the picture"
    assert (down[:, 1] > 0.05).all()
    assert (ways(posed(head, turn=0.5))[:, 0] > 0.05).all(), "eyes turn with the head"


def test_figures_in_words(head: LinearHeadModel) -> None:
    lines = "\n".join(legend_lines(head, fit_of(posed(head, gaze=(0.1745, -0.0873), jaw=0.2, turn=0.3491))))
    for words in ("yaw +20°", "pitch +0°", "jaw 11°", "gaze yaw -5°  pitch +10°", "error 1.2 %", "blink 0.00 0.00"):
        assert words in lines
    assert "error" not in "\n".join(legend_lines(head, fit_of(head.neutral(1), float("nan"))))


@pytest.mark.parametrize("frame", [(-60.0, -40.0, 120.0), (200.0, 150.0, 150.0), (900.0, 900.0, 50.0), (-300.0, -300.0, 900.0)])
def test_faces_may_leave_the_photo(head: LinearHeadModel, photo: np.ndarray, frame: tuple[float, float, float]) -> None:
    found = [np.tile([[frame[0], frame[1]]], (478, 1))]
    assert draw_overlay(photo, head, fit_of(head.neutral(1)), [CropFrame(*frame)], found, AS_IS).shape == photo.shape


def test_two_faces_each_have_their_own(head: LinearHeadModel, photo: np.ndarray) -> None:
    both = HeadParams(*(torch.cat([getattr(posed(head, turn=turn), name) for turn in (0.0, 0.5)]) for name in HeadParams.__annotations__))
    frames = [CropFrame(10, 20, 70), CropFrame(150, 20, 70)]
    drawn = draw_overlay(photo, head, fit_of(both), frames, style=replace(NOTHING, mesh=True)).astype(int)
    alone = draw_overlay(photo, head, fit_of(posed(head, turn=0.5)), frames[1:], style=replace(NOTHING, mesh=True)).astype(int)
    assert (drawn[:, 150:220] == alone[:, 150:220]).all()
    assert (drawn[:, 10:80] != drawn[:, 150:220]).any()


@pytest.mark.parametrize("place", [(25, 25), (235, 25), (25, 235), (235, 235)])
def test_figures_do_not_hide_the_face_where_the_crop_is_the_photo(head: LinearHeadModel, place: tuple[int, int]) -> None:
    photo = np.full((260, 260, 3), 90, dtype=np.uint8)
    face = np.tile(np.array([*place, 0.0]), (478, 1))
    drawn = draw_overlay(photo, head, fit_of(head.neutral(1)), [CropFrame(0, 0, 260)], [face], replace(NOTHING, legend=True))
    changed = (drawn != photo).any(axis=2)
    assert changed.any()
    assert not changed[place[1], place[0]]
