"""The pictures show what their labels say, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from next3d.checkpoint import load_generator
from next3d.generator import Generator
from next3d.head import load_head
from next3d.head.model import HeadModel
from next3d.media.controls import EYE_CONTROLS, MOUTH_CONTROLS, Control
from next3d.media.images import Pixels
from next3d.media.performance import front_camera
from next3d.media.samples import face_surface
from next3d.media.scene import head_of, seed_styles
from next3d.media.sheet import GAP, draw_sheet
from next3d.media.showcase import FILES, Showcase, ShowcaseConfig, quick_config, write_showcase
from next3d.render.cameras import project

CONFIG = replace(quick_config(ShowcaseConfig(seeds=(0, 1, 2))), people=2)


@pytest.fixture(scope="module")
def generator(network_file: Path) -> Generator:
    return load_generator(network_file)


@pytest.fixture
def make(generator: Generator) -> Callable[..., Showcase]:
    """A showcase of some seeds."""
    return lambda **changes: Showcase(generator, head_of(generator), replace(CONFIG, **changes))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def cells(sheet: Pixels, columns: int, size: int, top: int) -> list[list[np.ndarray]]:
    """The tiles of a sheet whose first row begins at `top`."""
    rows = (len(sheet) - top) // (size + GAP)
    at = [[(top + row * (size + GAP), GAP + column * (size + GAP)) for column in range(columns)] for row in range(rows)]
    return [[sheet[y : y + size, x : x + size].astype(float) for y, x in line] for line in at]


def test_faces_of_the_grid_do_not_depend_on_each_other(make: Callable[..., Showcase]):
    both, alone = make(columns=2).faces(), make(columns=2, seeds=(1,)).faces()
    assert both.shape[:2] == (2 * (64 + GAP) + GAP, 2 * (64 + GAP) + GAP)
    assert np.array_equal(cells(both, 2, 64, GAP)[0][1], cells(alone, 1, 64, GAP)[0][0])


def eye_rows(head: HeadModel, size: int) -> np.ndarray:
    """Which rows of a picture show the eyes and their lids [size] bool."""
    mesh = head(head.neutral(1))
    eyes = head.topology.regions["left_eye"] | head.topology.regions["left_lids"]
    y = (project(mesh.vertices, front_camera(1))[0, eyes, 1] + 1) / 2 * size
    rows = np.arange(size) + 0.5
    return (rows > float(y.min()) - 5) & (rows < float(y.max()) + 5)


def test_each_column_moves_what_it_is_named_after(make: Callable[..., Showcase]):
    """Gaze and lids move mesh and face around the eyes, the jaw below them; a column for every control."""
    showcase = make()
    sheet = showcase.controls()
    height = len(sheet) // 2
    assert sheet.shape[1] == 7 * (64 + GAP) + GAP
    rows = 1 + CONFIG.people
    top = height - rows * (64 + GAP)
    eyes, mouth = (cells(half, 7, 64, top) for half in (sheet[:height], sheet[height:]))
    assert len(eyes) == len(mouth) == rows
    near = eye_rows(showcase.head, 64)
    below = np.arange(64) > near.nonzero()[0].max()
    for row in range(rows):
        rest = eyes[row][0]
        moved = np.array([np.abs(tile - rest).mean(axis=(1, 2)) for tile in eyes[row][1:]])  # [column, row of the picture]
        opened = np.array([np.abs(tile - rest).mean(axis=(1, 2)) for tile in mouth[row][:3]])
        around = moved if row == 0 else moved.sum(axis=0, keepdims=True)  # an untrained network answers too faintly to be asked for more
        assert (around[:, near].mean(axis=1) > 2 * around[:, ~near].mean(axis=1)).all(), f"row {row}"
        assert moved.max(axis=1).min() > 0, "a column shows a relaxed face"
        assert (opened[:, below].mean(axis=1) > 1.5 * opened[:, near].mean(axis=1)).all(), f"row {row}"
        assert (np.diff(opened.mean(axis=1)) > 0).all(), "the jaw opens step by step"


@pytest.mark.parametrize("control", EYE_CONTROLS[1:3], ids=lambda control: control.label)
def test_left_and_right_are_those_of_the_picture(control: Control):
    head = load_head("procedural")
    rest = head.neutral(1)
    pupil = head.topology.regions["left_pupil"]
    before, after = (project(head(params).vertices, front_camera(1))[0, pupil, 0].mean() for params in (rest, control.pose(head, rest)))
    assert (after < before) == (control.label == "look left")


def test_heads_without_expressions_show_what_they_have():
    head = load_head("procedural")
    head.expression_names = tuple(f"expression{index}" for index in range(len(head.expression_names)))
    shown = [control.label for control in (*EYE_CONTROLS, *MOUTH_CONTROLS) if control.known_to(head)]
    assert shown == ["relaxed", "look left", "look right", "look up", "look down", "jaw 1/3", "jaw 2/3", "jaw open"]


def test_the_turntable_turns_and_its_middle_is_the_front(make: Callable[..., Showcase]):
    showcase = make()
    sheet = cells(showcase.turntable(), 3, 64, GAP)
    assert len(sheet) == CONFIG.people
    front = cells(
        draw_sheet([[showcase._controlled(showcase._identity(p), p, EYE_CONTROLS[0])] for p in showcase._people()], 64), 1, 64, GAP
    )
    for row, person in enumerate(sheet):
        assert np.abs(person[1] - front[row][0]).max() <= 1
        assert np.abs(person[0] - person[1]).mean() > 1
    frames = showcase.turning()
    assert len(frames) == CONFIG.turn_frames
    assert np.abs(frames[1].astype(float) - frames[0]).mean() > 1


def test_everything_is_written_and_the_same_every_time(generator: Generator, tmp_path: Path):
    done: list[None] = []
    config = replace(CONFIG, people=1, seeds=(0,))
    written = write_showcase(generator, head_of(generator), tmp_path / "a", config, progress=lambda: done.append(None))
    assert [path.name for path in written] == list(FILES)
    assert len(done) == len(FILES)
    assert all(path.stat().st_size <= FILES[path.name].limit for path in written)
    assert sum(file.limit for file in FILES.values()) < 1_500_000
    for path in write_showcase(
        generator, head_of(generator), tmp_path / "b", config, names=("faces.jpg", "turntable.webp", "geometry.jpg")
    ):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_surfaces_end_where_they_are_told_to(generator: Generator):
    head = head_of(generator)
    planes = generator.animate(generator.identity(seed_styles(generator, [0], truncation=0.7)), head(head.neutral(1)))
    whole, front = (face_surface(generator, planes, resolution=24, level=0.01, back=back) for back in (-1.0, 0.0))
    cell = generator.config.render.box_warp / 23
    assert whole.vertices[:, 2].min() < -3 * cell
    assert front.vertices[:, 2].min() > -cell


def test_a_level_without_a_surface_names_the_face(make: Callable[..., Showcase]):
    with pytest.raises(UserError, match="seed 0: no surface"):
        make(shape_level=1e9).geometry()
