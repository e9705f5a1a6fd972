from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from next3d.render.mesh_depth import render_face_depth
from training.config import LossConfig, TrainConfig, default_config
from training.dataset import PortraitDataset, open_dataset
from training.loader import load_batches
from training.losses import surface_distance
from training.state import new_state, resume, save_state
from training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(published: Path) -> PortraitDataset:
    return open_dataset(published, 32)


def tiny_config(*, batch: int = 4, batch_gpu: int | None = None, seed: int = 0, **loss: object) -> TrainConfig:
    config = default_config("tiny", "data")
    return replace(
        config,
        run=replace(config.run, batch=batch, batch_gpu=batch_gpu, seed=seed),
        loss=replace(config.loss, **{"density_points": 32, "mismatch_weight": 0.0, "gamma": 1.0, **loss}),
    )


def run(
    config: TrainConfig, dataset: PortraitDataset, steps: int, trainer: Trainer | None = None
) -> tuple[Trainer, list[dict[str, float]]]:
    """Train for some steps; the losses of each."""
    trainer = trainer or Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
    batches = load_batches(dataset, seed=config.run.seed, start=trainer.state.images, size=config.run.batch)
    losses = []
    for batch in islice(batches, steps):
        trainer.step(batch)
        losses.append(trainer.phases.statistics.take())
    return trainer, losses


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name, network in trainer.state.networks().items() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_every_parameter_gets_a_gradient_in_one_step(dataset, share_fakes, monkeypatch):
    config = tiny_config(share_fakes=share_fakes, style_mixing=0.5)
    trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
    missing: dict[int, list[str]] = {}
    for number, (network, optimizer) in enumerate(
        zip((trainer.state.generator, trainer.state.discriminator), trainer.state.optimizers, strict=True)
    ):

        def look(number=number, network=network):
            without = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
            missing.setdefault(number, without)

        optimizer.register_step_pre_hook(lambda *_, look=look: look())
    run(config, dataset, 1, trainer)
    assert missing == {0: [], 1: []}


def test_one_seed_gives_identical_losses(dataset):
    """20 steps, twice; another seed gives others."""
    _, first = run(tiny_config(), dataset, 20)
    torch.rand(100)  # the global random state must not matter
    _, second = run(tiny_config(), dataset, 20)
    _, other = run(tiny_config(seed=1), dataset, 1)
    assert first == second
    assert other[0] != first[0]
    assert all("loss/r1_penalty" in losses for losses in (first[0], first[16]))
    assert sum("loss/r1_penalty" in losses for losses in first) == 2
    assert sum("loss/density" in losses for losses in first) == 5


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_resumed_run_equals_the_uncut_one_bit_by_bit(dataset, share_fakes, tmp_path):
    config = tiny_config(share_fakes=share_fakes)
    uncut, losses = run(config, dataset, 7)
    cut, _ = run(config, dataset, 3)
    save_state(tmp_path / "network-000000.state", cut.state, config)
    state = new_state(tiny_config(seed=9), dataset.topology, CPU)
    resume(tmp_path / "network-000000.state", state)
    continued, rest = run(config, dataset, 4, Trainer(config, dataset, state, CPU))
    assert rest == losses[3:]
    assert (continued.state.images, continued.state.step) == (28, 7)
    expected = weights(uncut)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_splitting_a_batch_changes_nothing(dataset, share_fakes):
    """Eight samples at once or twice four: the same losses, and gradients equal up to rounding."""
    gradients = []
    for batch_gpu in (None, 4):
        config = tiny_config(batch=8, batch_gpu=batch_gpu, share_fakes=share_fakes)
        trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
        found: list[torch.Tensor] = []
        trainer.state.optimizers[0].register_step_pre_hook(
            lambda *_, found=found, network=trainer.state.generator: found.extend(p.grad.clone() for p in network.parameters())
        )
        _, losses = run(config, dataset, 1, trainer)
        gradients.append((losses[0], found))
    (whole, one), (parts, two) = gradients
    assert whole == pytest.approx(parts, rel=1e-4)
    for a, b in zip(one, two, strict=True):
        assert (a - b).norm() <= 1e-3 * a.norm() + 1e-9


def test_shared_fakes_give_the_same_gradients_as_separate_passes(dataset):
    """Before any weight moves, the generator's gradient is the same; the discriminator's differs only by its fakes."""
    found = []
    for share in (True, False):
        config = tiny_config(share_fakes=share)
        trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
        gradients: list[torch.Tensor] = []
        trainer.state.optimizers[0].register_step_pre_hook(
            lambda *_, gradients=gradients, network=trainer.state.generator: gradients.extend(p.grad.clone() for p in network.parameters())
        )
        run(config, dataset, 1, trainer)
        found.append(gradients)
    for a, b in zip(*found, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-9


def test_mismatch_term_is_there_only_when_asked_for(dataset):
    _, plain = run(tiny_config(), dataset, 1)
    _, losses = run(tiny_config(mismatch_weight=1.0), dataset, 1)
    assert "loss/mismatched" not in plain[0]
    assert losses[0]["loss/mismatched"] > 0
    assert losses[0]["loss/real"] == plain[0]["loss/real"]


def test_networks_learn(dataset):
    """The discriminator tells fakes from reals after a few steps against an idle generator."""
    config = tiny_config(batch=8, gamma=0.1)
    config = replace(config, generator_optimizer=replace(config.generator_optimizer, lr=1e-8), loss=replace(config.loss, share_fakes=True))
    _, losses = run(config, dataset, 20)
    last = losses[-1]
    assert last["logits/real"] - last["logits/fake"] > 0.5


def test_loss_configuration_documents_its_defaults():
    """The method's published settings."""
    config = LossConfig()
    assert (config.r1_interval, config.density_weight, config.density_interval, config.density_distance) == (16, 0.25, 4, 0.004)
    full = default_config("official-512", "data")
    assert (full.generator_optimizer.lr, full.discriminator_optimizer.lr) == (0.0025, 0.002)
    assert full.generator_optimizer.betas == full.discriminator_optimizer.betas == (0.0, 0.99)


def test_the_surface_term_pulls_density_to_the_mesh(dataset):
    """After a few steps the faces' density is nearer to the mesh than without the term; it is noted under its name."""
    ends = []
    for weight in (0.0, 100.0):
        config = tiny_config(surface_weight=weight, share_fakes=True)
        trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
        _, losses = run(config, dataset, 12, trainer)
        assert ("loss/surface" in losses[0]) == (weight > 0)
        ends.append(surface_gap(trainer, dataset))
    assert ends[1] < 0.8 * ends[0]


@torch.no_grad()
def surface_gap(trainer: Trainer, dataset) -> float:
    """Mean distance of density from the mesh over the faces of some samples."""
    batch, generator = dataset.read(range(8)), trainer.state.generator
    mesh, camera = dataset.head_mesh(batch), batch.camera
    styles = generator.mapping(torch.zeros(8, generator.config.latent_size), camera.to_label())
    rays: dict[str, torch.Tensor] = {}
    generator.render(generator.animate(generator.identity(styles), mesh), camera, styles, probe=rays.__setitem__)
    truth, face = render_face_depth(mesh, camera, generator.topology, generator.config.render.resolution)
    return float(surface_distance(rays["ray_weights"], rays["ray_depths"], truth, face).mean())
