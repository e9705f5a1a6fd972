from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from next3d.render.mesh_image import render_mesh_image
from training.config import LossConfig, default_config
from training.dataset import PortraitDataset, open_dataset
from training.fakes import FakeMaker, StepInput, prepare
from training.randomness import Draws
from training.state import TrainState, new_state

OTHERS = [3, 0, 1, 2, 7, 4, 5, 6]


@pytest.fixture(scope="module")
def dataset(published: Path) -> PortraitDataset:
    return open_dataset(published, 32)


@pytest.fixture(scope="module")
def state(dataset: PortraitDataset) -> TrainState:
    """Networks whose noise and weights matter: nothing is at its trivial start."""
    state = new_state(default_config("tiny", "data"), dataset.topology, torch.device("cpu"))
    for name, parameter in state.generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.2)
    return state


@pytest.fixture(scope="module")
def step(dataset: PortraitDataset, state: TrainState) -> StepInput:
    batch = dataset.read(range(8))
    return prepare(
        state.generator,
        state.discriminator.config,
        batch.image,
        batch.camera,
        dataset.head_mesh(batch),
        swapped=dataset.labels[100:108],
        position=torch.arange(40, 48),
        other_mesh=dataset.head_mesh(batch[OTHERS]),
    )


def make(state: TrainState, step: StepInput, probability: float = 0.5, **settings: object) -> torch.Tensor:
    maker = FakeMaker(state.generator, Draws(0), replace(LossConfig(), **settings), "test")
    with torch.no_grad():
        return maker(step, probability).output.image


def test_a_fake_does_not_depend_on_its_company(state, step):
    """Latents, jitter, importance draws, noise and swaps are keyed by the sample: any split of the batch gives the same images."""
    whole = make(state, step, style_mixing=0.5)
    parts = torch.cat([make(state, step[:3], style_mixing=0.5), make(state, step[3:], style_mixing=0.5)])
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)


def test_every_sample_has_a_latent_of_its_own(state, step):
    alike = replace(step, **{name: getattr(step[[0] * 8], name) for name in ("camera", "mesh", "rasters", "label", "swapped")})
    images = make(state, alike, 0.0)
    assert (images[1:] - images[:1]).abs().mean(dim=(1, 2, 3)).min() > 1e-3


def test_swap_probability_decides_whose_camera_conditions(state, step):
    never, always = make(state, step, 0.0), make(state, step, 1.0)
    as_if = make(state, replace(step, label=step.swapped), 0.0)
    assert not torch.allclose(never, always)
    torch.testing.assert_close(always, as_if)


def test_noise_is_fresh_unless_it_is_constant(state, step):
    moved = replace(step, position=step.position + 8)
    assert not torch.equal(make(state, step), make(state, moved))
    same_z = [make(state, step, noise=noise) for noise in ("random", "const")]
    assert not torch.allclose(same_z[0], same_z[1])


def test_other_meshes_are_seen_by_the_image_s_own_camera(dataset, step):
    """A camera that fits the mesh gives nothing away."""
    mesh = dataset.head_mesh(dataset.read(OTHERS))
    expected = render_mesh_image(mesh, step.camera, dataset.topology, 32)
    assert torch.equal(step.other_mesh_image, expected)
    assert not torch.equal(step.other_mesh_image, step.mesh_image)
