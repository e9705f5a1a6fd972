"""Training on several ranks is training on one, split; and steps that are not finite."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dnnlib.errors import ConfigError
from tests.processes import run_ranks
from tests.training.test_phases import tiny_config, weights
from torch_utils.distributed import world
from training.batch import Batch
from training.config import TrainConfig
from training.dataset import PortraitDataset, open_dataset
from training.loader import load_batches
from training.state import TrainState, new_state, resume, save_state
from training.trainer import SkippedStep, Trainer

CPU = torch.device("cpu")
BATCH = 8


@pytest.fixture(scope="module")
def dataset(published: Path) -> PortraitDataset:
    return open_dataset(published, 32)


def ranks_config(*, batch_gpu: int | None = None, share_fakes: bool = True) -> TrainConfig:
    """Everything that enters a loss, often: R1, density, mismatched meshes, mixed styles, augmentation, noisy labels; groups of two."""
    loss = {"mismatch_weight": 0.5, "style_mixing": 0.5, "r1_interval": 3, "density_interval": 2, "density_points": 16, "label_noise": 0.5}
    config = tiny_config(batch=BATCH, share_fakes=share_fakes, **loss)
    config = replace(config, augment=replace(config.augment, kind="ada", p=0.3, target=-1.0, interval=2))
    discriminator = replace(config.model.discriminator, group_size=2)
    return replace(config, model=replace(config.model, discriminator=discriminator), run=replace(config.run, batch_gpu=batch_gpu))


def batches_from(config: TrainConfig, dataset: PortraitDataset, images: int, count: int) -> list[Batch]:
    """This rank's share of so many batches."""
    me, group = world(), config.model.discriminator.group_size
    return list(islice(load_batches(dataset, seed=0, start=images, size=BATCH, group=group, rank=me.rank, ranks=me.size), count))


def train(state: TrainState, config: TrainConfig, dataset: PortraitDataset, steps: int) -> list[dict[str, float]]:
    """Losses of each step, as means over the whole batch."""
    trainer, losses = Trainer(config, dataset, state, CPU), []
    for batch in batches_from(config, dataset, state.images, steps):
        trainer.step(batch)
        losses.append({name: float(value) for name, value in trainer.phases.means.items()})
    assert trainer.settle() == []
    return losses


def ten_steps(dataset: PortraitDataset, batch_gpu: int | None = None) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """In float64, half of the steps with shared fakes, half without: all losses, all weights."""
    config = ranks_config(batch_gpu=batch_gpu)
    state = new_state(config, dataset.topology, CPU)
    for network in state.networks().values():
        network.double()
    losses = train(state, config, dataset, 5)
    losses += train(state, ranks_config(batch_gpu=batch_gpu, share_fakes=False), dataset, 5)
    kept = {name: value for name, network in state.networks().items() for name, value in weights_of(name, network)}
    return losses, kept


def weights_of(prefix: str, network: torch.nn.Module) -> list[tuple[str, Tensor]]:
    return [(f"{prefix}.{name}", value.detach()) for name, value in network.state_dict().items()]


def test_any_number_of_ranks_gives_the_same_training(dataset):
    """Ten steps in float64 at the same global batch: losses and weights agree to 1e-9, and all ranks have the same bits."""
    losses, alone = ten_steps(dataset)
    for size, batch_gpu in ((2, 2), (4, None)):
        results = run_ranks(ten_steps, size, dataset, batch_gpu, timeout=200)
        for split_losses, split in results:
            assert len(split_losses) == len(losses) == 10
            for one, several in zip(losses, split_losses, strict=True):
                assert several == pytest.approx(one, rel=1e-9)
            for name, value in alone.items():
                assert (split[name] - value).norm() <= 1e-9 * value.norm(), name
                assert torch.equal(split[name], results[0][1][name]), name


def first_step(dataset: PortraitDataset, share_fakes: bool) -> tuple[dict[str, float], list[tuple[str, Tensor]]]:
    """In float32 and without augmentation: the losses, and every gradient that an optimiser was given."""
    config = ranks_config(share_fakes=share_fakes)
    config = replace(config, augment=replace(config.augment, kind="noaug", p=0.0))
    state = new_state(config, dataset.topology, CPU)
    gradients: list[tuple[str, Tensor]] = []
    for network, optimizer in zip((state.generator, state.discriminator), state.optimizers, strict=True):

        def look(network: torch.nn.Module = network) -> None:
            kind = type(network).__name__
            gradients.extend((f"{kind}.{name}", p.grad.clone()) for name, p in network.named_parameters() if p.grad is not None)

        optimizer.register_step_pre_hook(lambda *_, look=look: look())
    return train(state, config, dataset, 1)[0], gradients


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_first_gradients_do_not_depend_on_the_split(dataset, share_fakes):
    """In float32, to 1e-5 of a tensor's gradient, the losses to 1e-6. The discriminator's tensors have two gradients: R1 hardly depends on
    biases (they only shift a piecewise linear function), so that theirs is rounding, and is measured by the other one."""
    losses, gradients = first_step(dataset, share_fakes)
    split_losses, split = run_ranks(first_step, 2, dataset, share_fakes)[0]
    assert split_losses == pytest.approx(losses, rel=1e-6)
    sizes: dict[str, float] = {}
    for name, one in gradients:
        sizes[name] = max(sizes.get(name, 0.0), float(one.norm()))
    for (name, one), (other, several) in zip(gradients, split, strict=True):
        assert name == other
        size = sizes[name] if name.endswith("bias") else one.norm()
        assert (several - one).norm() <= 1e-5 * size, name


def cut_and_resumed(dataset: PortraitDataset, path: Path) -> bool:
    """Four steps at once and as two and two: the same bits."""
    config = ranks_config()
    uncut = new_state(config, dataset.topology, CPU)
    train(uncut, config, dataset, 4)
    cut = new_state(config, dataset.topology, CPU)
    train(cut, config, dataset, 2)
    mine = path / f"network-00000{world().rank}.state"
    save_state(mine, cut, config)
    continued = new_state(config, dataset.topology, CPU)
    resume(mine, continued)
    train(continued, config, dataset, 2)
    expected = dict(weights_of("", uncut.generator) + weights_of("d", uncut.discriminator) + weights_of("a", uncut.average))
    found = dict(weights_of("", continued.generator) + weights_of("d", continued.discriminator) + weights_of("a", continued.average))
    return all(torch.equal(value, expected[name]) for name, value in found.items())


def test_two_ranks_resume_bit_by_bit(dataset, tmp_path):
    assert run_ranks(cut_and_resumed, 2, dataset, tmp_path) == [True, True]


def poisoned(batch: Batch) -> Batch:
    """A camera that is not a number."""
    return replace(batch, camera=replace(batch.camera, intrinsics=batch.camera.intrinsics * float("nan")))


def skip_one(dataset: PortraitDataset) -> tuple[list[SkippedStep], bool, bool, list[int]]:
    """Three steps, one rank's share of the second poisoned: what was skipped, whether that changed nothing, and the third something."""
    config = ranks_config()
    state = new_state(config, dataset.topology, CPU)
    trainer = Trainer(config, dataset, state, CPU)
    first, second, third = batches_from(config, dataset, 0, 3)
    trainer.step(first)
    before = {name: value.clone() for name, value in weights(trainer).items()}
    counts = [float(entry["step"]) for optimizer in state.optimizers for entry in optimizer.state.values()]
    trainer.step(poisoned(second) if world().rank == world().size - 1 else second)
    same = all(torch.equal(value, before[name]) for name, value in weights(trainer).items())
    same &= counts == [float(entry["step"]) for optimizer in state.optimizers for entry in optimizer.state.values()]
    trainer.step(third)
    moved = not torch.equal(before["generator.decoder.net.0.weight"], weights(trainer)["generator.decoder.net.0.weight"])
    assert (state.step, state.images) == (3, 3 * BATCH)
    skipped = trainer.settle()
    assert trainer.settle() == []
    return skipped, same, moved, second.index.tolist()


@pytest.mark.parametrize("size", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing(dataset, size):
    """On every rank, whichever had the trouble; the next step goes on."""
    results = [skip_one(dataset)] if size == 1 else run_ranks(skip_one, size, dataset)
    items = [item for *_, share in results for item in share]
    for skipped, same, moved, _ in results:
        (step,) = skipped
        assert (step.step, step.images, list(step.items)) == (1, BATCH, items)
        assert any(value != value for value in step.losses.values())
        assert same
        assert moved


def begin_with_other_weights(dataset: PortraitDataset) -> None:
    config = ranks_config()
    state = new_state(config, dataset.topology, CPU)
    if world().rank == 1:
        with torch.no_grad():
            state.discriminator.b4.fc.weight[0, 0] += 1e-3
    Trainer(config, dataset, state, CPU)


def test_ranks_that_begin_differently_are_refused(dataset):
    with pytest.raises(AssertionError, match=rf"{ConfigError.__name__}: rank 1: its discriminator\.b4\.fc\.weight is not that of rank 0"):
        run_ranks(begin_with_other_weights, 2, dataset)


def test_the_mean_latent_moves_once_per_pass_over_the_batch(dataset):
    """However many parts the batch has."""
    averages = []
    for batch_gpu in (None, 2):
        config = ranks_config(batch_gpu=batch_gpu)
        state = new_state(config, dataset.topology, CPU)
        train(state, config, dataset, 1)
        averages.append(state.generator.mapping_network.w_avg)
    torch.testing.assert_close(averages[1], averages[0], rtol=1e-5, atol=1e-7)
