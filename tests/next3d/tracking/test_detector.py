"""Faces are found whatever their size, turn and number; what is no face is not; one face is followed through a film."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from next3d.tracking.detector import Detector, DetectorSettings, open_detector
from next3d.tracking.looks import OUTER_CORNERS, Square, mirror_numbers, mirror_points, reduce, square_around
from next3d.tracking.task_looks import TaskLooker
from next3d.tracking.types import Face, Pixels

pytest.importorskip("mediapipe")
data = pytest.importorskip("skimage.data")

LEFT, TOP, SIDE = 110, 10, 224
"""A square with the astronaut's head."""
CLOSE = 0.05
"""Parts of the eyes' distance by which points may differ between two pictures of one face."""


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    with open_detector() as opened:
        yield opened


@pytest.fixture(scope="module")
def head() -> Pixels:
    return np.ascontiguousarray(data.astronaut()[TOP : TOP + SIDE, LEFT : LEFT + SIDE])


@pytest.fixture(scope="module")
def face(detector: Detector, head: Pixels) -> Face:
    (found,) = detector.detect(head)
    return found


def canvas(width: int, height: int) -> Pixels:
    """A soft pattern without a face."""
    small = np.random.default_rng(0).integers(90, 150, (height // 100, width // 100, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def pasted(onto: Pixels, head: Pixels, left: int, top: int, side: int) -> Pixels:
    picture = Image.fromarray(onto)
    picture.paste(Image.fromarray(head).resize((side, side), Image.Resampling.LANCZOS), (left, top))
    return np.asarray(picture)


def gap(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance of points, in parts of the eyes' distance."""
    eyes = np.linalg.norm(expected[OUTER_CORNERS[0], :2] - expected[OUTER_CORNERS[1], :2])
    return float(np.linalg.norm(found[:, :2] - expected[:, :2], axis=1).mean() / eyes)


def test_left_and_right_are_exchanged(face):
    """The exchange undoes itself, maps triangles' sides to such sides, and the nose to itself."""
    connections = pytest.importorskip("mediapipe.python.solutions.face_mesh_connections")
    other = mirror_numbers()
    assert (other[other] == np.arange(478)).all()
    edges = {frozenset(edge) for edge in connections.FACEMESH_TESSELATION}
    assert np.mean([frozenset((other[a], other[b])) in edges for a, b in edges]) > 0.99
    for eye, mirrored in (
        (connections.FACEMESH_LEFT_EYE, connections.FACEMESH_RIGHT_EYE),
        (connections.FACEMESH_LIPS, connections.FACEMESH_LIPS),
    ):
        assert {frozenset((other[a], other[b])) for a, b in eye} == {frozenset(edge) for edge in mirrored}
    assert (other[[1, 4, 152, 33]] == [1, 4, 152, 263]).all()
    assert mirror_points(mirror_points(face.points, 224), 224) == pytest.approx(face.points)


def test_a_mirrored_picture_has_mirrored_points(detector, head, face):
    (found,) = detector.detect(np.ascontiguousarray(head[:, ::-1]))
    assert gap(mirror_points(found.points, SIDE), face.points) < 0.01


def test_looks_agree_on_a_face(face):
    assert face.score > 0.95
    assert face.spread is not None
    assert face.spread.shape == (478,)
    assert np.median(face.spread) < 2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_on_their_side_and_on_their_head(detector, head, face, quarters):
    (found,) = detector.detect(np.ascontiguousarray(np.rot90(head, quarters)))
    back = found.points.copy()
    for _ in range(quarters):  # one quarter turns (x, y) to (y, side - x); this is the way back
        back[:, :2] = np.stack([SIDE - back[:, 1], back[:, 0]], axis=1)
    assert gap(back, face.points) < CLOSE


@pytest.mark.parametrize("side", [100, 400])
def test_small_faces_in_large_photos(detector, head, face, side):
    (found,) = detector.detect(pasted(canvas(2000, 1600), head, 1400, 1000, side))
    expected = face.points * (side / SIDE) + np.array([1400, 1000, 0])
    assert gap(found.points, expected) < 2 * CLOSE


def test_faces_that_fill_the_picture(detector, head, face):
    box = square_around(face.points)
    half = int(0.31 * box.side)
    x, y = int(box.x), int(box.y)
    (found,) = detector.detect(np.ascontiguousarray(head[y - half : y + half, x - half : x + half]))
    assert gap(found.points + np.array([x - half, y - half, 0]), face.points) < CLOSE


def test_several_people(head):
    scene = pasted(pasted(pasted(canvas(1600, 900), head, 100, 100, 600), head, 900, 200, 300), head, 1400, 600, 90)
    with open_detector(DetectorSettings(every=True)) as detector:
        faces = detector.detect(scene)
    assert [float(found.points[:, 0].mean()) for found in faces] == pytest.approx([404, 1052, 1446], abs=15)
    with open_detector(DetectorSettings(most_faces=1)) as detector:
        assert len(detector.detect(scene)) == 1


@pytest.mark.parametrize("name", ["cat", "coffee", "brick", "noise", "black", "line"])
def test_what_is_no_face_is_not_found(detector, name):
    made = {
        "noise": np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8),
        "black": np.zeros((64, 64, 3), dtype=np.uint8),
        "line": np.full((1, 500, 3), 200, dtype=np.uint8),
    }
    image = made[name] if name in made else getattr(data, name)()
    assert detector.detect(image if image.ndim == 3 else np.stack([image] * 3, axis=2)) == []


def test_following_keeps_to_its_face(head):
    """Another face does not take the place of one that is hidden for a while; after a cut any face is followed."""
    plain = canvas(700, 400)
    both = pasted(pasted(plain, head, 30, 60, 300), head, 430, 100, 220)
    hidden = both.copy()
    hidden[60:360, 30:330] = plain[60:360, 30:330]
    cut = pasted(canvas(700, 400)[::-1] // 3, head, 350, 50, 300)
    with open_detector(DetectorSettings(forget=4)) as detector:
        seen = [detector.follow(frame) for frame in (both, both, hidden, hidden, both)]
        places = [None if found is None else round(float(found.points[:, 0].mean()), -2) for found in seen]
        assert places == [200, 200, None, None, 200]
        later = [detector.follow(hidden) for _ in range(5)]
        assert later[:4] == [None] * 4
        assert later[4] is not None  # forgotten
        detector.restart()
        assert detector.follow(both) is not None
        after = detector.follow(cut)
        assert after is not None
        assert round(float(after.points[:, 0].mean()), -2) == 500


def test_restarting_hardly_changes_what_is_seen(detector, head):
    """Films are followed in parts: a part's first frame sees what it would have seen after those before."""
    frames = [np.roll(head, shift, axis=1) for shift in range(0, 12, 3)]
    detector.restart()
    whole = [detector.follow(frame) for frame in frames]
    detector.restart()
    again = detector.follow(frames[-1])
    assert whole[-1] is not None
    assert again is not None
    assert gap(again.points, whole[-1].points) < 0.02


def test_squares():
    square = Square(50, 40, 20, 0.3)
    assert square.mirrored(100).mirrored(100) == square
    moved = square.moved(0.5, 0, 1, 0)
    assert (moved.x - 50, moved.y - 40) == pytest.approx((10 * np.cos(0.3), 10 * np.sin(0.3)))
    points = np.zeros((478, 3))
    points[list(OUTER_CORNERS)] = [[0, 0, 0], [10, 10, 0]]
    assert square_around(points).turn == pytest.approx(np.pi / 4)


def test_reducing_keeps_places():
    """A bright spot stays where it is, whatever the factor."""
    image = np.zeros((600, 900, 3), dtype=np.uint8)
    image[300:330, 600:630] = 255
    for factor in (1, 2.5, 7, 13):
        small, scale = reduce(image, factor)
        rows, columns = np.nonzero(small[..., 0] > 60)
        assert ((rows.mean() + 0.5) * scale, (columns.mean() + 0.5) * scale) == pytest.approx((315, 615), abs=factor)


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"none\.task"), open_detector(DetectorSettings(task=tmp_path / "none.task")):
        pass
    (tmp_path / "text.task").write_text("no model")
    with pytest.raises(UserError, match=r"text\.task: not a face landmarker"), open_detector(DetectorSettings(task=tmp_path / "text.task")):
        pass
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="portraits"), open_detector():
        pass
    with pytest.raises(ValueError, match="looks"):
        DetectorSettings(looks=0)


def test_the_task_api_sees_the_same_places(monkeypatch, tmp_path):
    """Whatever square is shown, turned and larger or smaller, points come back in photo coordinates."""
    media = pytest.importorskip("mediapipe")

    class Landmarker:
        """In place of MediaPipe's, whose models are not in its package: sees the brightest spot."""

        def detect(self, image: Any) -> SimpleNamespace:
            pixels = image.numpy_view()[..., 0].astype(float)
            rows, columns = np.nonzero(pixels > 0.9 * pixels.max())
            spot = SimpleNamespace(x=(columns.mean() + 0.5) / pixels.shape[1], y=(rows.mean() + 0.5) / pixels.shape[0], z=0.0)
            return SimpleNamespace(face_landmarks=[[spot] * 478])

        def close(self) -> None:
            """Nothing to free."""

    monkeypatch.setattr(media.tasks.vision.FaceLandmarker, "create_from_options", lambda options: Landmarker())
    (tmp_path / "face.task").write_bytes(b"model")
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    image[90:94, 200:204] = 255
    looker = TaskLooker(tmp_path / "face.task")
    for square in (Square(190, 100, 80), Square(200, 90, 60, 0.7), Square(180, 80, 120, -2.5)):
        look = looker.look(image, square)
        assert look.points[0, :2] == pytest.approx((202, 92), abs=0.3)
        assert look.presence == 1
    looker.close()


def test_parts_of_a_film_choose_the_same_of_two_people(head):
    """Of two that are about as large, whoever comes a little nearer."""
    with open_detector() as detector:
        for left, right in ((200, 230), (230, 200)):
            detector.restart()
            found = detector.follow(pasted(pasted(canvas(700, 400), head, 40, 80, left), head, 420, 80, right))
            assert found is not None
            assert found.points[:, 0].mean() < 300
