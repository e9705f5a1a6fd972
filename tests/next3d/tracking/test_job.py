"""Whole jobs: folders and films to data sets that training reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from dnnlib.errors import UserError
from next3d.commands.main import root
from next3d.head.model import HeadParams
from next3d.media.video import open_video
from next3d.render.cameras import project
from next3d.tracking import job as jobs
from next3d.tracking import units
from next3d.tracking.job import JobSettings, track_dataset
from next3d.tracking.pipeline import shared_head
from next3d.tracking.pool import Done, Engine
from next3d.tracking.results import load_arrays
from next3d.tracking.settings import TrackingSettings
from next3d.tracking.sources import find_items
from next3d.tracking.types import Pixels
from next3d.tracking.units import Unit, Workplace, do_unit
from next3d.tracking.writing import HEAD_FIELDS
from next3d.types import Camera
from training.dataset import open_dataset

pytest.importorskip("mediapipe")
SMALL = TrackingSettings(resolution=128)


@pytest.fixture(scope="module")
def astronaut() -> Pixels:
    return np.asarray(pytest.importorskip("skimage.data").astronaut())[:260, 60:380]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[Unit]:
    """Jobs work in this process, which saves starting others; portions are written down."""
    given: list[Unit] = []

    def engine(units: Sequence[Unit], place: Workplace, workers: int) -> Iterator[Done]:
        for unit in units:
            given.append(unit)
            do_unit(unit, place)
            yield unit, ""

    @contextmanager
    def open_here() -> Iterator[Engine]:
        yield engine

    monkeypatch.setattr(jobs, "open_local", open_here)
    return given


def make_photos(folder: Path, astronaut: Pixels) -> None:
    """One person twice, a picture of nothing, and files that are no pictures."""
    folder.mkdir()
    Image.fromarray(astronaut).save(folder / "a.png")
    Image.fromarray(astronaut[:, ::-1]).save(folder / "d.png")
    Image.new("RGB", (200, 200), "gray").save(folder / "b.jpg")
    (folder / "c.png").write_text("not a picture")
    (folder / "e.mp4").write_text("not a film")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "tracking.jsonl").read_text().splitlines()]


def test_photos_become_a_data_set_that_training_reads(tmp_path: Path, astronaut: Pixels, here: list[Unit]):
    make_photos(tmp_path / "photos", astronaut)
    summary = track_dataset(tmp_path / "photos", tmp_path / "out", SMALL)
    assert summary.text() == "4 photos → 2 portraits, 1 rejected (1 no face), 2 unreadable"
    assert [(row["source"], row["image"]) for row in lines(tmp_path / "out")] == [
        ("a.png", "images/00000/img00000000.png"),
        ("b.jpg", None),
        ("c.png", None),
        ("d.png", "images/00000/img00000001.png"),
        ("e.mp4", None),
    ]
    problems = [row["problem"] for row in lines(tmp_path / "out") if row.get("problem")]
    assert len(problems) == 2
    assert str(tmp_path) not in "".join(problems), "the same wherever the photos lie"
    dataset = open_dataset(tmp_path / "out")
    assert len(dataset) == 2
    assert dataset[1].pixels.shape == (128, 128, 3)
    table = np.load(tmp_path / "out" / "landmarks.npz")
    heads = load_arrays(tmp_path / "out" / "heads.npz")
    params = HeadParams(**{name: torch.from_numpy(heads[name]) for name in HEAD_FIELDS})
    shown = (project(shared_head("procedural")(params).landmarks, Camera.from_label(dataset.labels))[..., :2] + 1) * 64
    torch.testing.assert_close(shown, torch.from_numpy(table["landmarks_2d"]), atol=1e-2, rtol=0)
    eyes = table["detected"][:, [33, 263], :2]
    away = np.linalg.norm(table["landmarks_2d"][:, [36, 45]] - eyes, axis=2) / np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)[:, None]
    assert away.max() < 0.1, "the head's outer eye corners are where the detector saw them"
    assert (tmp_path / "out" / "report.html").is_file()
    assert not list(tmp_path.glob(".*")), "the work folder is gone"


def test_a_job_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, astronaut: Pixels, here: list[Unit], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(units, "PHOTOS", 1)
    make_photos(tmp_path / "photos", astronaut)
    track_dataset(tmp_path / "photos", tmp_path / "whole.zip", SMALL)
    count = len(here)
    here.clear()

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track_dataset(tmp_path / "photos", tmp_path / "out.zip", SMALL, JobSettings(), stop)
    assert not (tmp_path / "out.zip").exists()
    track_dataset(tmp_path / "photos", tmp_path / "out.zip", SMALL)
    assert len(here) == count, "nothing was done twice"
    assert (tmp_path / "out.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()


def test_other_settings_and_changed_files_do_not_take_up_old_results(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"1")
    unit = units.PhotoUnit(tuple(find_items(tmp_path / "a.png")))
    place = Workplace(tmp_path, SMALL, SMALL.key("head"))
    other = Workplace(tmp_path, SMALL, TrackingSettings(resolution=256).key("head"))
    before = place.path(unit)
    assert before != other.path(unit)
    (tmp_path / "a.png").write_bytes(b"12")
    assert before != place.path(unit)


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path, here: list[Unit]):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "c.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"1 photo → 0 portraits.*c\.png"):
        track_dataset(tmp_path / "photos", tmp_path / "out", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"], "no data set, and no work folder"


@pytest.fixture
def film(tmp_path: Path, astronaut: Pixels) -> Path:
    """The astronaut moves through the picture; then, mirrored, another shot."""
    with open_video(tmp_path / "film.mp4", 10) as video:
        for frame in range(14):
            shown = astronaut if frame < 8 else 100 + astronaut[:, ::-1] // 2
            video.write(np.ascontiguousarray(shown[frame : 240 + frame, frame : 300 + frame]))
    return tmp_path / "film.mp4"


def test_a_film_is_one_person_per_shot(tmp_path: Path, film: Path, here: list[Unit], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(units, "FRAMES", 5)
    summary = track_dataset(film, tmp_path / "out", SMALL)
    assert (summary.films, summary.shots, summary.frames_kept) == (1, 2, 14)
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    names = [name for name, _ in index["labels"]]
    assert names == [f"images/clip00000/frame{frame:06d}.png" for frame in range(8)] + [
        f"images/clip00001/frame{frame:06d}.png" for frame in range(6)
    ]
    assert [(clip["first_frame"], clip["frames"], clip["fps"]) for clip in index["films"]] == [(0, 8, 10.0), (8, 6, 10.0)]
    heads = np.load(tmp_path / "out" / "heads.npz")
    assert heads["identity"].tolist() == [0] * 8 + [1] * 6
    assert (heads["shape"][:8] == heads["shape"][0]).all()
    assert [row["seconds"] for row in lines(tmp_path / "out")] == pytest.approx([frame / 10 for frame in range(14)])
    assert len(open_dataset(tmp_path / "out")) == 14


def test_a_film_that_was_stopped_goes_on_wherever_it_was(tmp_path: Path, film: Path, here: list[Unit], monkeypatch: pytest.MonkeyPatch):
    """In the middle of its fits, which are portions of their own."""
    monkeypatch.setattr(units, "FRAMES", 5)
    track_dataset(film, tmp_path / "whole.zip", SMALL)
    kinds = [type(unit).__name__ for unit in here]
    here.clear()

    def stop(done: int, total: int) -> None:
        if len(here) == kinds.index("WindowUnit") + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        track_dataset(film, tmp_path / "out.zip", SMALL, JobSettings(), stop)
    track_dataset(film, tmp_path / "out.zip", SMALL)
    assert [type(unit).__name__ for unit in here] == kinds, "nothing was done twice"
    assert (tmp_path / "out.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()


def test_a_film_of_one_frame_is_a_photo(tmp_path: Path, astronaut: Pixels, here: list[Unit]):
    with open_video(tmp_path / "film.mp4", 10) as video:
        video.write(np.ascontiguousarray(astronaut[:240, :300]))
    summary = track_dataset(tmp_path / "film.mp4", tmp_path / "out", SMALL)
    assert (summary.shots, summary.frames_kept) == (1, 1)


def test_the_command_says_what_became_of_everything(tmp_path: Path, astronaut: Pixels):
    """With a real worker process."""
    make_photos(tmp_path / "photos", astronaut)
    arguments = ["data", "portraits", str(tmp_path / "photos"), str(tmp_path / "out"), "--resolution", "128", "--workers", "1", "--matte"]
    result = CliRunner().invoke(root, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "4 photos → 2 portraits, 1 rejected (1 no face), 2 unreadable" in result.stdout
    assert "c.png" in result.stderr
    matte = np.asarray(Image.open(tmp_path / "out" / "matte" / "00000" / "img00000000.png"))
    assert matte.shape == (128, 128)
    assert matte[64, 64] > 200
