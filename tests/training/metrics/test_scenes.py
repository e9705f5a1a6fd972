"""The sampler asks a network for what training would: its own label, posed head and camera, in bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from next3d.config import preset
from next3d.generator import Generator
from next3d.head.model import Joint
from next3d.render.cameras import orbit_camera
from tests.training.factory import small_head
from training.metrics.scenes import Scenes, generator_sampler, in_many_poses, quantise, random_people

HEAD = small_head()
EXPRESSION = len(HEAD.expression_names) + 3


def network(expression_size: int) -> Generator:
    torch.manual_seed(0)
    config = preset("tiny").generator
    return Generator(replace(config, mapping=replace(config.mapping, expression_size=expression_size)), HEAD.topology).eval()


@pytest.fixture
def scenes() -> Scenes:
    params = HEAD.neutral(5)
    params.pose[:, Joint.JAW, 0] = torch.linspace(0, 0.3, 5)
    params.expression[:, 0] = torch.linspace(1, -1, 5)
    camera = orbit_camera(torch.linspace(-0.3, 0.3, 5), torch.zeros(5))
    return random_people(params, camera, preset("tiny").generator.latent_size)


@pytest.mark.parametrize("expression_size", [0, EXPRESSION])
@torch.inference_mode()
def test_a_network_is_told_what_it_was_trained_with(scenes, expression_size):
    generator = network(expression_size)
    told = torch.cat([scenes.camera.to_label(), scenes.moving.expression, scenes.moving.pose[:, Joint.JAW]], dim=1)
    expected = quantise(generator(scenes.z, told[:, : 25 + expression_size], HEAD(scenes.moving)).image)
    images = generator_sampler(generator, HEAD, batch=2)(scenes)
    assert (images - expected).abs().max() <= 2 / 255 + 1e-6  # a rounding apart: batches differ
    if expression_size:
        silent = generator_sampler(network(0), HEAD)(scenes)
        assert not torch.equal(images, silent)


@torch.inference_mode()
def test_equal_faces_are_computed_once(scenes, monkeypatch):
    """Two people in three poses, known by one camera: two rows go through the mapping, and the pictures are those of no sharing."""
    generator = network(0)
    people = scenes[:2]
    poses = [replace(people.moving, pose=people.moving.pose + 0.1 * turn) for turn in range(3)]
    many = in_many_poses(replace(people, known_by=orbit_camera(torch.zeros(2), torch.zeros(2))), poses)
    expected = quantise(generator(many.z, many.known_by.to_label(), HEAD(many.moving), camera=many.camera).image)
    mapped: list[int] = []
    mapping = generator.mapping
    monkeypatch.setattr(generator, "mapping", lambda z, c, **settings: mapped.append(len(z)) or mapping(z, c, **settings))
    images = generator_sampler(generator, HEAD)(many)
    assert mapped == [2]
    assert (images - expected).abs().max() <= 2 / 255 + 1e-6
    own = generator_sampler(generator, HEAD)(replace(many, known_by=None))
    assert not torch.equal(images, own)


def test_poses_of_a_person_stand_together(scenes):
    heads = [replace(scenes.moving, scale=torch.arange(5.0) + 10 * turn) for turn in range(2)]
    many = in_many_poses(scenes, heads)
    assert many.moving.scale.tolist() == [0, 10, 1, 11, 2, 12, 3, 13, 4, 14]
    assert torch.equal(many.z, scenes.z.repeat_interleave(2, dim=0))


def test_people_have_numbers(scenes):
    """Person 7 is the same one alone and among others."""
    later = random_people(scenes.moving, scenes.camera, 8, seed=3, first=5)
    both = random_people(HEAD.neutral(12), orbit_camera(torch.zeros(12), torch.zeros(12)), 8, seed=3)
    assert torch.equal(later.z, both.z[5:10])


def test_truncation_moves_faces_together(scenes):
    generator = network(0)
    full, mean = (generator_sampler(generator, HEAD, truncation)(replace(scenes, params=HEAD.neutral(5))) for truncation in (1.0, 0.0))
    assert mean.std(dim=0).mean() < full.std(dim=0).mean()
