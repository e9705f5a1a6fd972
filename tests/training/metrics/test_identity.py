"""ID consistency: 0 for equal pictures, small for one person in many moments, about 1 where the seed says nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from next3d.head.model import Joint
from tests.training.metrics.test_recognition import small
from training.metrics.fisher import FisherFaces
from training.metrics.identity import EXPRESSIONS, VIEWS, Judge, by_person, grid, measure, ratio
from training.metrics.scenes import Scenes


def test_ratio_of_known_embeddings():
    """Two people at a right angle, one of whom is never quite the same."""
    embeddings = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    within, between = by_person(embeddings, torch.tensor([4, 4, 9, 9]))
    torch.testing.assert_close(within, torch.tensor([0.0, 1.0]).double())
    assert between[0, 1] == 1
    assert ratio(within, between, torch.arange(2)) == 0.5
    single = by_person(embeddings[:3], torch.tensor([0, 0, 1]))[0]
    assert single[0] == 0
    assert single[1].isnan()


def test_fisher_faces_find_what_people_differ_in(rng):
    """Large differences within people are ignored, small ones between them are kept, also of people who were not fitted to."""

    def pictures(count: int) -> tuple[Tensor, Tensor]:
        people = torch.arange(count).repeat_interleave(6)
        own = torch.randn(count, 4, generator=rng)[people]
        moods = 5 * torch.randn(len(people), 12, generator=rng)
        return torch.cat([moods, own], dim=1) + 0.05 * torch.randn(len(people), 16, generator=rng), people

    faces = FisherFaces.fit(*pictures(60))
    features, people = pictures(30)
    everyone = torch.arange(30)
    raw = ratio(*by_person(torch.nn.functional.normalize(features, dim=1), people), everyone)
    assert raw > 0.8
    assert ratio(*by_person(faces.embed(features), people), everyone) < 0.1


def test_a_seed_has_every_expression_from_every_view(avatar_context):
    """64 people are enough for the fewest seeds only."""
    scenes, people = grid(avatar_context)
    assert people.tolist() == [index // 40 for index in range(160)]
    for seed in range(4):
        one = scenes[40 * seed : 40 * (seed + 1)]
        head = one.moving
        assert len(one.z.unique(dim=0)) == len(head.shape.unique(dim=0)) == len(one.known_by.to_label().unique(dim=0)) == 1
        faces = torch.cat([head.expression, head.pose[:, Joint.JAW :].flatten(1)], dim=1)
        views = torch.cat([one.camera.to_label(), head.translation, head.pose[:, : Joint.JAW].flatten(1)], dim=1)
        assert len(faces.unique(dim=0)) == EXPRESSIONS
        assert len(views.unique(dim=0)) == VIEWS
        assert len(torch.cat([faces, views], dim=1).unique(dim=0)) == 40
    assert len(scenes.camera.to_label().unique(dim=0)) == 4 * VIEWS
    many = replace(avatar_context, settings=replace(avatar_context.settings, people=100), _kept={})
    assert grid(many)[1].max() == 4


def test_a_face_that_follows_the_expression_is_somebody_else(coded_context):
    """Looks that hang on the seed alone get 0, looks that ignore the seed get 1, and what is between grows with the expression's share."""
    judge = Judge(lambda images: torch.nn.functional.normalize(images.flatten(1)[:, :8], dim=1), None, "judged by what is written there")
    coded_context.once("avatar: judge", lambda: judge)

    def looks(leak: float, scenes: Scenes) -> Tensor:
        mood = scenes.moving.expression[:, :8]
        look = scenes.z / 8**0.5 + leak * (mood - mood.mean(dim=1, keepdim=True))
        return torch.nn.functional.pad(look, (0, 3 * 64 * 64 - 8)).view(-1, 3, 64, 64)

    values = []
    for leak in (0.0, 1.0, 3.0, 1e6):
        coded_context.test_another(partial(looks, leak))
        (figure,) = measure(coded_context)
        assert figure.low - 1e-6 <= figure.value <= figure.high + 1e-6
        assert figure.count == 160
        values.append(figure.value)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[-1] == pytest.approx(1, abs=0.1)
    assert all(later > earlier + 0.05 for earlier, later in pairwise(values)), values


def test_one_person_is_found_consistent_and_a_stranger_each_time_is_not(avatar_context, truth, monkeypatch):
    monkeypatch.setattr("training.metrics.identity.EXPRESSIONS", 4)
    monkeypatch.setattr("training.metrics.identity.VIEWS", 2)
    kept = {key: made for key, made in avatar_context._kept.items() if key != "avatar: scenes"}
    context = replace(avatar_context, settings=replace(avatar_context.settings, people=240), _kept=kept)
    (same,) = measure(context)
    assert same.count == 96
    assert same.value < 0.5
    assert same.low < same.value < same.high
    assert same.floor is not None
    assert same.value < same.floor < 0.9

    def strangers(scenes: Scenes) -> Tensor:
        label = scenes.camera.to_label()[:, :8] + scenes.moving.expression[:, :8]
        return truth(replace(scenes, z=label, params=replace(scenes.moving, shape=scenes.moving.shape.roll(1, 1) * label[:, :1].sign())))

    (different,) = measure(replace(context, sampler=strangers, _kept=dict(context._kept)))
    assert 0.75 < different.value < 1.25
    assert same.value < 0.6 * different.value


def test_a_network_judges_if_there_is_one(avatar_context, tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save(small().state_dict(), path)
    settings = replace(avatar_context.settings, face_recognition=path, people=12)
    kept = {key: value for key, value in avatar_context._kept.items() if key in ("avatar: reader", "avatar: controls", "head")}
    pictures = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    context = replace(avatar_context, settings=settings, _kept=kept, sampler=lambda scenes: pictures[: len(scenes)])
    (figure,) = measure(context)
    assert "backbone.pth" in figure.note
    assert figure.floor is not None
    assert figure.count == 160


def test_data_without_identities_is_judged_by_rendered_people(avatar_context, monkeypatch):
    monkeypatch.setattr(type(avatar_context.dataset), "identities", None)
    monkeypatch.setattr("training.metrics.identity.RENDERED_PEOPLE", 14)
    monkeypatch.setattr("training.metrics.identity.RENDERED_HELD_OUT", 4)
    kept = {key: value for key, value in avatar_context._kept.items() if key != "avatar: judge"}
    blank = replace(avatar_context, _kept=kept, sampler=lambda scenes: torch.zeros(len(scenes), 3, 64, 64))
    (figure,) = measure(blank)
    assert "no identities" in figure.note
    assert figure.floor == pytest.approx(0.7, abs=0.6)


def test_a_file_that_is_no_network_is_found_before_anything_is_measured(avatar_context, tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    context = replace(avatar_context, settings=replace(avatar_context.settings, face_recognition=path), _kept={})
    assert "backbone.pth" in (context.lacks("face_recognition") or "")
    assert avatar_context.lacks("face_recognition") is None
