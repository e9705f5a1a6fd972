"""A scene shows what it is asked to, the same every time, and computes nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from dnnlib.errors import ConfigError, UserError
from next3d.checkpoint import load_generator
from next3d.config import TriplaneConfig, preset
from next3d.generator import Generator, TriplaneGenerator
from next3d.media.motions import MOTIONS
from next3d.media.performance import HeadPerformance, Performance, StillPerformance
from next3d.media.scene import Scene, VideoConfig, film, head_of, seed_styles

CONFIG = VideoConfig(seeds=(0, 1, 2, 3), columns=2, rows=2, size=32)


@pytest.fixture
def generator(network_file: Path) -> Generator:
    return load_generator(network_file)


def moving(generator: Generator, motion: str, frames: int = 4, seeds: tuple[int, ...] = CONFIG.seeds) -> Performance:
    """The network's own head model at work."""
    return HeadPerformance(head_of(generator), motion, seeds, frames=frames)


def standing(generator: Generator, motion: str, frames: int = 4) -> Performance:
    """One mesh for all."""
    head = head_of(generator)
    return StillPerformance(head(head.neutral(1)), motion, frames=frames)


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
    ("motion", "perform", "identities", "animations"),
    [
        ("jaw", moving, 1, 4),
        ("gaze", moving, 1, 4),
        ("orbit", moving, 1, 1),
        ("interpolate", moving, 4, 4),
        ("orbit", standing, 1, 1),
        ("interpolate", standing, 4, 4),
    ],
)
def test_what_a_performance_leaves_alone_is_computed_once(
    generator: Generator,
    calls: Counter[str],
    motion: str,
    perform: Callable[[Generator, str], Performance],
    identities: int,
    animations: int,
):
    frames = list(film(generator, perform(generator, motion), CONFIG))
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 4
    assert calls == {"identity": identities, "animate": animations, "render": 4}


def test_nothing_is_computed_before_a_frame_is_asked_for(generator: Generator, calls: Counter[str]):
    frames = film(generator, moving(generator, "jaw", frames=1000), CONFIG)
    assert not calls
    next(frames)
    assert calls["render"] == 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_moves_the_picture_and_is_reproducible(generator: Generator, motion: str):
    scene, again = (Scene(generator, moving(generator, motion, frames=10), CONFIG) for _ in range(2))
    frames = [scene.frame(index) for index in range(4)]
    assert torch.equal(frames[2], again.frame(2)), "a frame does not depend on the frames before it"
    assert max(float((frame - frames[0]).abs().max()) for frame in frames[1:]) > 1e-4


@pytest.mark.parametrize("motion", ["turn", "orbit", "interpolate"])
def test_a_mesh_that_stands_still_is_seen_from_all_sides_and_worn_by_all_faces(generator: Generator, motion: str):
    scene = Scene(generator, standing(generator, motion, frames=8), CONFIG)
    first, later = scene.frame(0), scene.frame(1)
    assert (later - first).abs().max() > 1e-3
    meshes = scene.performance.mesh(3, range(1, 3))
    assert meshes is not None
    assert torch.equal(meshes.vertices[0], meshes.vertices[1])


@pytest.mark.parametrize("motion", ["gaze", "jaw", "blink", "expression", "talk"])
@pytest.mark.parametrize("has_mesh", [True, False])
def test_only_a_head_model_moves_its_face(generator: Generator, motion: str, has_mesh: bool):
    head = head_of(generator)
    with pytest.raises(ConfigError, match=rf"motion {motion}: needs a head model.*choose turn or orbit or interpolate\.$"):
        StillPerformance(head(head.neutral(1)) if has_mesh else None, motion)


def test_a_network_without_a_mesh_is_filmed_too():
    config = preset("tiny").generator
    shared = {field.name: getattr(config, field.name) for field in fields(TriplaneConfig)}
    network = TriplaneGenerator(TriplaneConfig(**shared)).eval().requires_grad_(False)
    for motion in ("turn", "orbit", "interpolate"):
        frames = list(film(network, StillPerformance(None, motion, frames=3), CONFIG))
        assert [frame.shape for frame in frames] == [(64, 64, 3)] * 3
    with pytest.raises(UserError, match="leave out --mesh"):
        next(film(network, StillPerformance(None, "orbit"), replace(CONFIG, mesh=True)))


def test_the_batch_does_not_change_the_picture(generator: Generator):
    jaw = moving(generator, "jaw")
    whole, parts = (Scene(generator, jaw, replace(CONFIG, batch=batch)).frame(1) for batch in (4, 3))
    assert (whole - parts).abs().max() < 1e-4


def test_a_face_does_not_depend_on_its_neighbours(generator: Generator):
    together = seed_styles(generator, [5, 7], truncation=0.7)
    alone = seed_styles(generator, [7], truncation=0.7)
    assert torch.allclose(together.static[1], alone.static[0], atol=1e-6)
    assert not torch.allclose(together.static[0], alone.static[0], atol=1e-3)


def test_the_mesh_stands_beside_the_face(generator: Generator):
    jaw = moving(generator, "jaw")
    plain = Scene(generator, jaw, CONFIG).frame(1)
    beside = Scene(generator, jaw, replace(CONFIG, mesh=True)).frame(1)
    assert beside.shape == (3, 64, 128)
    assert torch.equal(beside[:, :32, :32], plain[:, :32, :32])
    assert (beside[:, :32, 32:64] > -1).float().mean() > 0.2, "no mesh to be seen"


@pytest.mark.parametrize("mesh", [False, True])
def test_a_spare_tile_shows_the_mesh_that_leads_all_faces(generator: Generator, mesh: bool):
    config = replace(CONFIG, seeds=(0, 1, 2), mesh=mesh)
    alone = Scene(generator, standing(generator, "orbit"), replace(config, columns=3, rows=1)).frame(1)
    frame = Scene(generator, standing(generator, "orbit"), config).frame(1)
    width = 64 if mesh else 32
    assert torch.equal(frame[:, :32, width:], alone[:, :, :width]), "the faces come after the mesh"
    assert 0.2 < (frame[:, :32, :32] > -1).float().mean() < 0.9, "no mesh to be seen"


@pytest.mark.parametrize(
    ("changes", "motion", "message"),
    [
        ({}, "dance", "choose one of gaze"),
        ({"seeds": (1, 2, 3)}, "orbit", "give 4 seeds"),
        ({"seeds": (1,), "columns": 1, "rows": 1}, "interpolate", "at least two"),
    ],
    ids=["unknown motion", "grid not filled", "nowhere to walk"],
)
def test_impossible_videos_are_refused(generator: Generator, changes: dict, motion: str, message: str):
    config = replace(CONFIG, **changes)
    with pytest.raises(ConfigError, match=message):
        film(generator, moving(generator, motion, seeds=config.seeds), config)


def test_a_walk_may_have_more_faces_than_tiles(generator: Generator):
    config = replace(CONFIG, columns=1, rows=1)
    assert Scene(generator, moving(generator, "interpolate"), config).frame(0).shape == (3, 32, 32)
