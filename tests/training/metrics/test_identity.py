"""ID consistency: 0 for equal pictures, small for one person in many moments, about 1 where the seed says nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.training.metrics.test_recognition import small
from training.metrics.fisher import FisherFaces
from training.metrics.identity import MOMENTS, by_person, measure, moments, ratio
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


def test_moments_keep_the_person_and_change_the_rest(avatar_context):
    scenes, people = moments(avatar_context)
    assert len(scenes) == 60
    assert people.tolist() == [index // MOMENTS for index in range(60)]
    first = scenes[:MOMENTS]
    assert (first.z == first.z[0]).all()
    assert (first.moving.shape == first.moving.shape[0]).all()
    assert len(first.moving.expression.unique(dim=0)) == len(first.camera.cam2world.unique(dim=0)) == MOMENTS


def test_one_person_is_found_consistent_and_a_stranger_each_time_is_not(avatar_context, truth):
    (same,) = measure(avatar_context)
    assert same.value < 0.5
    assert same.low < same.value < same.high
    assert same.floor is not None
    assert same.value < same.floor < 0.9

    def strangers(scenes: Scenes) -> Tensor:
        label = scenes.camera.to_label()[:, :8] + scenes.moving.expression[:, :8]
        return truth(replace(scenes, z=label, params=replace(scenes.moving, shape=scenes.moving.shape.roll(1, 1) * label[:, :1].sign())))

    kept = dict(avatar_context._kept)
    (different,) = measure(replace(avatar_context, sampler=strangers, _kept=kept))
    assert 0.75 < different.value < 1.25
    assert same.value < 0.6 * different.value


def test_a_network_judges_if_there_is_one(avatar_context, tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save(small().state_dict(), path)
    settings = replace(avatar_context.settings, face_recognition=path, people=12)
    kept = {key: value for key, value in avatar_context._kept.items() if key in ("avatar: reader", "avatar: controls", "head")}
    pictures = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    context = replace(avatar_context, settings=settings, _kept=kept, sampler=lambda scenes: pictures[: len(scenes)])
    (figure,) = measure(context)
    assert "backbone.pth" in figure.note
    assert figure.floor is not None
    assert figure.count == 12


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
