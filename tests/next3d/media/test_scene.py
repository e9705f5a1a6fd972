"""A scene shows what it is asked to, the same every time, and computes nothing twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dnnlib.errors import ConfigError
from next3d.checkpoint import load_generator
from next3d.generator import Generator
from next3d.media.motions import MOTIONS
from next3d.media.scene import Scene, VideoConfig, film, head_of, seed_styles

CONFIG = VideoConfig(seeds=(0, 1, 2, 3), columns=2, rows=2, motion="jaw", frames=4, size=32)


@pytest.fixture
def generator(network_file: Path) -> Generator:
    return load_generator(network_file)


@pytest.fixture
def calls(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each stage of the generator ran."""
    counts: Counter[str] = Counter()

    def count(name: str) -> None:
        stage = getattr(generator, name)

        def counted(*args, **kwargs):
            counts[name] += 1
            return stage(*args, **kwargs)

        monkeypatch.setattr(generator, name, counted)

    for name in ("identity", "animate", "render"):
        count(name)
    return counts


@pytest.mark.parametrize(
    ("motion", "identities", "animations"),
    [("jaw", 1, 4), ("gaze", 1, 4), ("orbit", 1, 1), ("interpolate", 4, 4)],
)
def test_what_a_motion_leaves_alone_is_computed_once(
    generator: Generator, calls: Counter[str], motion: str, identities: int, animations: int
):
    frames = list(film(generator, head_of(generator), replace(CONFIG, motion=motion)))
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 4
    assert calls == {"identity": identities, "animate": animations, "render": 4}


def test_nothing_is_computed_before_a_frame_is_asked_for(generator: Generator, calls: Counter[str]):
    frames = film(generator, head_of(generator), replace(CONFIG, frames=1000))
    next(frames)
    assert calls["render"] == 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_moves_the_picture_and_is_reproducible(generator: Generator, motion: str):
    config = replace(CONFIG, motion=motion, frames=10)
    scene, again = (Scene(generator, head_of(generator), config) for _ in range(2))
    frames = [scene.frame(index) for index in range(4)]
    assert torch.equal(frames[2], again.frame(2)), "a frame does not depend on the frames before it"
    assert max(float((frame - frames[0]).abs().max()) for frame in frames[1:]) > 1e-3


def test_the_batch_does_not_change_the_picture(generator: Generator):
    head = head_of(generator)
    whole, parts = (Scene(generator, head, replace(CONFIG, batch=batch)).frame(1) for batch in (4, 3))
    assert (whole - parts).abs().max() < 1e-4


def test_a_face_does_not_depend_on_its_neighbours(generator: Generator):
    together = seed_styles(generator, [5, 7], truncation=0.7)
    alone = seed_styles(generator, [7], truncation=0.7)
    assert torch.allclose(together.static[1], alone.static[0], atol=1e-6)
    assert not torch.allclose(together.static[0], alone.static[0], atol=1e-3)


def test_the_mesh_stands_beside_the_face(generator: Generator):
    head = head_of(generator)
    plain = Scene(generator, head, CONFIG).frame(1)
    beside = Scene(generator, head, replace(CONFIG, mesh=True)).frame(1)
    assert beside.shape == (3, 64, 128)
    assert torch.equal(beside[:, :32, :32], plain[:, :32, :32])
    assert (beside[:, :32, 32:64] > -1).float().mean() > 0.2, "no mesh to be seen"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"motion": "dance"}, "choose one of gaze"),
        ({"seeds": (1, 2, 3)}, "give 4 seeds"),
        ({"seeds": (1,), "columns": 1, "rows": 1, "motion": "interpolate"}, "at least two"),
    ],
    ids=["unknown motion", "grid not filled", "nowhere to walk"],
)
def test_impossible_videos_are_refused(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


def test_a_walk_may_have_more_faces_than_tiles(generator: Generator):
    config = replace(CONFIG, columns=1, rows=1, motion="interpolate")
    assert Scene(generator, head_of(generator), config).frame(0).shape == (3, 32, 32)
