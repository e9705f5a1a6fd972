"""Videos: one person per clip, motion that people make, frames that follow each other smoothly."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from next3d.commands.main import root, run_command
from next3d.head.model import HeadModel, HeadParams, Joint
from next3d.synthetic.clips import ClipConfig
from next3d.synthetic.generate import render_chunk
from next3d.synthetic.motion import Curve, clip_params

FPS, SECONDS = 50, 24


@pytest.fixture(scope="module")
def clip(head: HeadModel) -> HeadParams:
    return clip_params(head, 3, 0, FPS * SECONDS, FPS)


def test_curves_go_through_their_points_and_never_beyond() -> None:
    curve = Curve(np.array([0.0, 1.0, 3.0]), np.array([[0.0], [2.0], [-1.0]]))
    assert curve(np.array([-1.0, 0.0, 1.0, 3.0, 9.0]))[:, 0].tolist() == [0, 0, 2, -1, -1]
    between = curve(np.linspace(0, 3, 100))
    assert between.min() >= -1
    assert between.max() <= 2


def test_a_clip_shows_one_person_within_the_limits(clip: HeadParams) -> None:
    assert (clip.shape == clip.shape[:1]).all()
    jaw, eyes = clip.pose[:, Joint.JAW, 0], clip.pose[:, Joint.LEFT_EYE]
    assert jaw.min() >= 0
    assert jaw.max() <= 0.35
    assert (eyes[:, :2].abs() <= torch.tensor([0.25, 0.4]) + 1e-6).all()
    assert torch.equal(eyes, clip.pose[:, Joint.RIGHT_EYE])
    assert clip.expression.min() >= 0
    assert clip.expression.max() <= 1


def test_people_talk_blink_look_around_and_sway(head: HeadModel, clip: HeadParams) -> None:
    jaw = clip.pose[:, Joint.JAW, 0]
    assert ((jaw[1:] > 0.07) != (jaw[:-1] > 0.07)).sum() > SECONDS, "the mouth opens and shuts about twice a second"
    blink = clip.expression[:, head.expression_names.index("eyeBlinkLeft")]
    blinks = int(((blink[1:] > 0.9) & (blink[:-1] <= 0.9)).sum())
    assert SECONDS / 6 < blinks < SECONDS, "every one to six seconds"
    gaze = clip.pose[:, Joint.LEFT_EYE, 1]
    speed = gaze.diff().abs() * FPS
    assert (speed < 0.02).float().mean() > 0.4, "mostly they rest"
    assert speed.max() > 2, "and now and then they jump"
    assert ((speed > 0.05) & (speed < 0.8)).float().mean() > 0.05, "or follow something"
    assert 0.02 < clip.pose[:, Joint.NECK, 1].std() < 0.12


def test_nothing_but_the_eyes_and_lids_jumps(head: HeadModel, clip: HeadParams) -> None:
    moved = head(clip[: 4 * FPS]).landmarks[:, :36].diff(dim=0).norm(dim=2)
    assert moved.max() < 0.03, "a hundredth of the head in a fiftieth of a second"


def test_length_and_frame_rate_change_no_event(head: HeadModel, clip: HeadParams) -> None:
    shorter = clip_params(head, 3, 0, FPS, FPS)
    torch.testing.assert_close(shorter.pose, clip.pose[:FPS])
    torch.testing.assert_close(shorter.expression, clip.expression[:FPS])
    coarser = clip_params(head, 3, 0, FPS, FPS / 2)
    torch.testing.assert_close(coarser.pose, clip.pose[: 2 * FPS : 2])


def test_other_clips_are_other_people(head: HeadModel, clip: HeadParams) -> None:
    assert not torch.equal(clip_params(head, 3, 1, 1, FPS).shape, clip.shape[:1])


def test_frames_do_not_depend_on_who_renders_them() -> None:
    config = ClipConfig(clips=2, frames=3, resolution=32)
    together = render_chunk(config, 0, 6)
    assert [portrait.identity for portrait in together] == [0, 0, 0, 1, 1, 1]
    assert render_chunk(config, 4, 5)[0].files == together[4].files
    assert together[0].files["images"] != together[1].files["images"]


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"frames": 0}, {"fps": 0.5}, {"resolution": 4}, {"seed": -1}], ids=str)
def test_wrong_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="expected"):
        ClipConfig(**{"clips": 1, "frames": 1, **wrong})


def test_the_command_writes_a_data_set_that_reads_and_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clips.zip"
    arguments = ["data", "synthetic-video", "--num", "2", "--seconds", "0.2", "--fps", "10", "--resolution", "32", "--workers", "1"]
    assert run_command(root, [*arguments, "--out", str(out), "--mp4"]) == 0
    assert run_command(root, ["data", "check", str(out)]) == 0
    with zipfile.ZipFile(out) as archive:
        description = json.loads(archive.read("dataset.json"))
        heads = np.load(io.BytesIO(archive.read("heads.npz")))
        assert description["video"] == {"clips": 2, "frames": 2, "fps": 10.0}
        assert heads["identity"].tolist() == [0, 0, 1, 1]
        assert heads["names"].tolist()[3] == "images/clip00001/frame000001.png"
    assert all((tmp_path / f"clips-clip0000{number}.mp4").stat().st_size > 500 for number in (0, 1))
    assert run_command(root, [*arguments, "--out", str(tmp_path / "clips"), "--mp4"]) == 2
    assert "clips-clip00000.mp4: already exists" in capsys.readouterr().err
