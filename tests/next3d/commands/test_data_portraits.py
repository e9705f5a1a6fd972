"""`next3d data portraits` from a real photo to a data set that training reads: scikit-image's astronaut (public domain)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from next3d.commands.main import root, run_command
from next3d.head import FLAME_VARIABLE, load_head
from next3d.head.model import HeadModel, HeadParams, Joint, axis_angle_to_matrix
from next3d.tracking.quality import TOO_SMALL
from next3d.types import Camera
from tests.procedural_flame import procedural_flame, write_mediapipe_points
from training.dataset import open_dataset

pytest.importorskip("mediapipe")
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Tracked:
    """A data set, and what the table says of each photo."""

    folder: Path
    rows: dict[str, dict[str, Any]]

    def index(self, source: str) -> int:
        labels = json.loads((self.folder / "dataset.json").read_text())["labels"]
        return [name for name, _ in labels].index(self.rows[source]["image"])

    def head(self, source: str) -> tuple[HeadParams, Camera]:
        """The head of a photo, and its camera."""
        index = self.index(source)
        label = json.loads((self.folder / "dataset.json").read_text())["labels"][index][1]
        with np.load(self.folder / "heads.npz") as file:
            names = ("shape", "expression", "pose", "translation", "scale")
            params = HeadParams(**{name: torch.from_numpy(file[name][index : index + 1]) for name in names})
        return params, Camera.from_label(torch.tensor([label]))

    def angles(self, source: str) -> tuple[float, float, float]:
        """Yaw, pitch, roll in degrees."""
        measures = self.rows[source]["measures"]
        yaw, pitch, roll = (math.degrees(measures[name]) for name in ("yaw", "pitch", "roll"))
        return yaw, pitch, roll


def track(photos: Path, target: Path, *options: str | Path) -> Tracked:
    arguments = ["data", "portraits", photos, target, "--workers", "1", *options]
    assert run_command(root, [str(argument) for argument in arguments], name="next3d") == 0
    rows = [json.loads(line) for line in (target / "tracking.jsonl").read_text(encoding="utf-8").splitlines()]
    return Tracked(target, {row["source"]: row for row in rows})


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(np.asarray(data.astronaut()))


@pytest.fixture(scope="module")
def tracked(astronaut: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """As it is, lying on its side with a note of that, mirrored, turned, too small, blurred, and a text."""
    folder = tmp_path_factory.mktemp("photos")
    astronaut.save(folder / "plain.png")
    sideways = Image.Exif()
    sideways[ORIENTATION] = 6
    astronaut.transpose(Image.Transpose.ROTATE_90).save(folder / "sideways.png", exif=sideways)
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.png")
    astronaut.rotate(15, Image.Resampling.BICUBIC).save(folder / "turned.png")
    (folder / "deep" / "er").mkdir(parents=True)
    astronaut.resize((100, 100)).save(folder / "deep" / "er" / "small.png")
    astronaut.resize((64, 64)).resize((512, 512), Image.Resampling.BICUBIC).crop((80, 0, 380, 300)).save(folder / "blurred.png")
    (folder / "text.png").write_text("not a picture")
    return track(folder, tmp_path_factory.mktemp("out") / "faces", "--resolution", "256")


def test_training_reads_the_result_and_the_report_names_the_rest(tracked: Tracked) -> None:
    data = open_dataset(tracked.folder)
    assert len(data) == 4
    assert data.resolution == 256
    assert run_command(root, ["data", "check", str(tracked.folder)], name="next3d") == 0
    assert tracked.rows["text.png"]["problem"]
    assert TOO_SMALL in tracked.rows["deep/er/small.png"]["reasons"]
    assert tracked.rows["blurred.png"]["image"] is None
    report = (tracked.folder / "report.html").read_text(encoding="utf-8")
    for name in ("plain.png", "deep/er/small.png", "text.png", "blurred.png"):
        assert name in report


def test_the_astronaut_is_seen_as_she_is(tracked: Tracked) -> None:
    """She looks into the camera, faces it with her head a little tilted, smiles with her teeth showing, and has her eyes open."""
    head = load_head("procedural")
    yaw, pitch, roll = tracked.angles("plain.png")
    assert abs(yaw) < 6
    assert abs(pitch) < 10
    assert -7 < roll < 0  # her right eye, left in the picture, is higher
    params, camera = tracked.head("plain.png")
    strength = {name: float(value) for name, value in zip(head.expression_names, params.expression[0], strict=True)}  # type: ignore[attr-defined]
    assert min(strength["mouthSmileLeft"], strength["mouthSmileRight"]) > 0.4
    assert max(strength["eyeBlinkLeft"], strength["eyeBlinkRight"]) < 0.3
    assert 0.01 < float(params.pose[0, Joint.JAW, 0]) < 0.15
    for joint in (Joint.LEFT_EYE, Joint.RIGHT_EYE):
        assert off_camera(head, params, camera, joint) < 12


def off_camera(head: HeadModel, params: HeadParams, camera: Camera, joint: Joint) -> float:
    """Degrees between an eye's line of sight and the way to the camera."""
    turns = axis_angle_to_matrix(params.pose[0])
    sight = (turns[Joint.GLOBAL] @ turns[Joint.NECK] @ turns[joint])[:, 2]
    region = head.topology.regions["left_eye" if joint == Joint.LEFT_EYE else "right_eye"]
    way = camera.cam2world[0, :3, 3] - head(params).vertices[0, region].mean(dim=0)
    return math.degrees(float(torch.acos((sight @ way / way.norm()).clamp(-1, 1))))


def test_labels_follow_what_is_done_to_the_photo(tracked: Tracked) -> None:
    """An orientation in EXIF changes nothing, a mirror changes signs, a turn is found again; the label is a camera 2.7 away."""
    yaw, pitch, roll = tracked.angles("plain.png")
    assert tracked.angles("sideways.png") == pytest.approx((yaw, pitch, roll), abs=0.5)
    assert tracked.angles("mirrored.png") == pytest.approx((-yaw, pitch, -roll), abs=2)
    assert tracked.angles("turned.png")[2] == pytest.approx(roll + 15, abs=2)
    for source in ("plain.png", "mirrored.png", "turned.png"):
        _, camera = tracked.head(source)
        assert float(camera.cam2world[0, :3, 3].norm()) == pytest.approx(2.7, abs=1e-4)
        assert camera.intrinsics[0, 0, 0] == pytest.approx(4.2647)


def test_crops_are_upright_and_landmarks_lie_on_the_face(tracked: Tracked, astronaut: Image.Image) -> None:
    """The crop of the photo on its side is that of the plain one; stored landmarks, detected and fitted, agree."""
    crops = [np.asarray(Image.open(tracked.folder / tracked.rows[name]["image"]), dtype=float) for name in ("plain.png", "sideways.png")]
    assert abs(crops[0] - crops[1]).mean() < 2
    with np.load(tracked.folder / "landmarks.npz") as file:
        fitted, detected = (file[name][tracked.index("plain.png")] for name in ("landmarks_2d", "detected"))
    for ours, theirs in ((36, 33), (45, 263), (48, 61), (54, 291), (30, 4)):
        assert np.linalg.norm(fitted[ours] - detected[theirs, :2]) < 0.06 * np.linalg.norm(detected[33, :2] - detected[263, :2])


def test_a_head_of_flames_form_sees_the_same(
    tracked: Tracked, astronaut: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the points that FLAME's site publishes for the detector beside the model, the head is turned as the default one is."""
    folder = procedural_flame().write(tmp_path / "flame", style="modern")
    write_mediapipe_points(folder)
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "plain.png")
    flame = track(tmp_path / "photos", tmp_path / "faces", "--resolution", "128", "--head", "flame", "--flame", folder)
    assert flame.angles("plain.png") == pytest.approx(tracked.angles("plain.png"), abs=7)
    assert flame.rows["plain.png"]["measures"]["error"] < 0.025
    params, _ = flame.head("plain.png")
    assert params.shape.shape == (1, 300)
    assert params.expression.shape == (1, 100)
    monkeypatch.setenv(FLAME_VARIABLE, str(folder))
    assert open_dataset(flame.folder).resolution == 128


def test_nothing_usable_is_a_sentence(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    code, message = run("data", "portraits", tmp_path / "black.png", tmp_path / "out", "--workers", "1", "--resolution", "128")
    assert code == 2
    assert "nothing to write" in message
    assert not (tmp_path / "out").exists()


def test_a_format_without_files_to_import_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["data", "portraits", str(tmp_path), str(tmp_path / "out"), "--import-format", "vhap"]
    assert run_command(root, arguments, name="next3d") == 2
    assert "--import-heads" in capsys.readouterr().err
