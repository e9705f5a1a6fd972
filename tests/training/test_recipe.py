"""What each option of the recipe changes in a training step. (Augmentation itself: test_augment; mirror images: test_mirror.)"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dnnlib.errors import CheckpointError, ConfigError
from next3d.checkpoint import load_generator, save_generator
from next3d.config import GeneratorConfig, from_json, to_json
from next3d.types import Camera, Planes
from tests.nohost import NoHost
from tests.training.test_phases import CPU, run, tiny_config, weights
from training.augment import STRENGTH, Augmentation, View
from training.conditions import expression_size, fitted
from training.config import TRANSFORMS, AugmentConfig, ScheduleConfig, TrainConfig
from training.dataset import PortraitDataset, open_dataset
from training.losses import density_fall, density_variation
from training.randomness import Draws
from training.schedule import raw_resolution
from training.state import new_state, resume, save_state
from training.trainer import Trainer
from training.views import Presentation


@pytest.fixture(scope="module")
def dataset(published: Path) -> PortraitDataset:
    return open_dataset(published, 32)


def with_section(section: str, config: TrainConfig | None = None, **changes: object) -> TrainConfig:
    config = config or tiny_config()
    return replace(config, **{section: replace(getattr(config, section), **changes)})


def fresh(config: TrainConfig, dataset: PortraitDataset) -> Trainer:
    return Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)


# Adaptive and fixed augmentation


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_augmentation_changes_what_both_networks_learn_from(share_fakes, dataset):
    plain = tiny_config(share_fakes=share_fakes)
    _, without = run(plain, dataset, 1)
    _, fixed = run(with_section("augment", plain, kind="fixed", p=0.9), dataset, 1)
    for name in ("loss/generator", "loss/real", "loss/r1_penalty"):
        assert fixed[0][name] != pytest.approx(without[0][name], rel=1e-5), name


def test_augmentation_does_not_depend_on_parts(dataset):
    config = with_section("augment", tiny_config(batch=8, mismatch_weight=0.5), kind="fixed", p=0.7)
    _, whole = run(config, dataset, 1)
    _, parts = run(replace(config, run=replace(config.run, batch_gpu=4)), dataset, 1)
    assert whole[0] == pytest.approx(parts[0], rel=1e-4)


def test_adaptive_strength_follows_the_verdicts_and_resumes_bit_by_bit(dataset, tmp_path):
    """A target of -1 is always exceeded: the strength rises by batch x interval / (speed x 1000) every `interval` steps."""
    config = with_section("augment", kind="ada", target=-1.0, interval=2, speed_kimg=0.1, transforms=("blit", "geom", "color", "cutout"))
    uncut, losses = fresh(config, dataset), []
    for expected in (0.0, 0.08, 0.08, 0.16, 0.16, 0.24, 0.24):
        losses += run(config, dataset, 1, uncut)[1]
        assert uncut.state.counters[STRENGTH] == pytest.approx(expected)
    assert all(-1 <= step["augment/real_sign"] <= 1 for step in losses)
    cut, _ = run(config, dataset, 3)
    save_state(tmp_path / "network-000000.state", cut.state, config)
    state = new_state(config, dataset.topology, CPU)
    resume(tmp_path / "network-000000.state", state)
    continued, rest = run(config, dataset, 4, Trainer(config, dataset, state, CPU))
    assert rest == losses[3:]
    assert torch.equal(continued.state.counters[STRENGTH], uncut.state.counters[STRENGTH])
    expected = weights(uncut)
    assert all(torch.equal(value, expected[name]) for name, value in weights(continued).items())


def test_adaptive_strength_falls_below_its_target(dataset):
    config = with_section("augment", kind="ada", p=0.5, target=1.0, interval=1, speed_kimg=0.1)
    trainer, _ = run(config, dataset, 3)
    assert trainer.state.counters[STRENGTH] < 0.5


def test_a_skipped_step_leaves_the_strength_alone(dataset):
    config = with_section("augment", kind="ada", p=0.5, target=-1.0, interval=1)
    trainer = fresh(config, dataset)
    with torch.no_grad():
        next(trainer.state.discriminator.parameters()).fill_(float("nan"))
    run(config, dataset, 1, trainer)
    assert trainer.state.counters[STRENGTH] == 0.5


# Noise on labels


def test_label_noise_is_so_many_standard_deviations_of_the_data(dataset):
    """On the camera's 25 numbers, other draws for every purpose; numbers that never vary stay."""
    labels, draws = dataset.labels, Draws(0)
    spread = labels.std(dim=0, correction=0)
    present = Presentation(Augmentation(AugmentConfig(), draws, dataset.topology), draws, 0.5 * spread)
    images, count = torch.zeros(2000, 3, 1, 1), 2000
    label = torch.cat([labels[:1], torch.ones(1, 3)], dim=1).expand(count, -1)
    view, position = View(images, images, None, None, label), torch.arange(count)
    noisy = present(view, position, "reals", torch.zeros(()))
    torch.testing.assert_close((noisy.label - label)[:, :25].std(dim=0), 0.5 * spread, rtol=0.1, atol=1e-6)
    assert torch.equal(noisy.label[:, 25:], label[:, 25:])
    assert not torch.equal(present(view, position, "fakes", torch.zeros(())).label, noisy.label)


def test_label_noise_reaches_the_discriminator_alone(dataset):
    """Its verdicts change, the generated images do not: the density loss, which sees them, is the same."""
    _, plain = run(tiny_config(), dataset, 1)
    _, noisy = run(tiny_config(label_noise=1.0), dataset, 1)
    assert noisy[0]["loss/real"] != plain[0]["loss/real"]
    assert noisy[0]["loss/density"] == plain[0]["loss/density"]


# Density regularisation


class Slope:
    """Density that grows by these amounts per unit of x, y and z."""

    def __init__(self, *slope: float) -> None:
        self.slope = torch.tensor(slope)

    def density(self, planes: Planes, points: torch.Tensor) -> torch.Tensor:
        return (points * self.slope).sum(dim=-1, keepdim=True)


NO_PLANES = Planes(torch.zeros(2, 3, 1, 1, 1))


def test_total_variation_adds_the_changes_along_the_axes():
    points = torch.rand(2, 50, 3)
    found = density_variation(Slope(3, -1, 2), NO_PLANES, points, 0.01)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.full((2,), 0.06), rtol=1e-3, atol=0)


def test_density_may_grow_on_the_way_into_the_head_but_not_fall():
    """Inwards is away from the viewer of the front, towards -z."""
    points = torch.rand(2, 50, 3)
    assert density_fall(Slope(3, 1, -2), NO_PLANES, points, 0.01).max() == 0  # type: ignore[arg-type]
    falling = density_fall(Slope(0, 0, 2), NO_PLANES, points, 0.01)  # type: ignore[arg-type]
    torch.testing.assert_close(falling, torch.full((2,), 0.02), rtol=1e-3, atol=0)


def test_every_kind_trains_with_another_term(dataset):
    found = {kind: run(tiny_config(density_kind=kind), dataset, 1)[1][0]["loss/density"] for kind in ("l1", "total-variation", "monotonic")}
    assert len(set(found.values())) == 3
    assert all(value > 0 for value in found.values())


# Neural rendering resolution


def test_raw_resolution_grows_by_even_numbers():
    config = ScheduleConfig(raw_initial=16, raw_final=32, raw_fade_kimg=1)
    assert [raw_resolution(config, images, 8) for images in (0, 100, 500, 990, 5000)] == [16, 18, 24, 32, 32]
    assert raw_resolution(replace(config, raw_final=None), 5000, 8) == 16
    assert raw_resolution(ScheduleConfig(), 0, 8) == 8


def test_raw_images_of_reals_and_fakes_follow_the_schedule_and_files_record_it(dataset, tmp_path):
    config = with_section("schedule", raw_initial=8, raw_final=20, raw_fade_kimg=0.012)
    trainer = fresh(config, dataset)
    seen: list[tuple[int, int]] = []
    trainer.state.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0].shape[-1], inputs[1].shape[-1])))
    run(config, dataset, 3, trainer)
    sizes = list(dict.fromkeys(seen))
    assert sizes == [(32, 8), (32, 12), (32, 16)]
    save_generator(tmp_path / "network.safetensors", trainer.state.average)
    assert load_generator(tmp_path / "network.safetensors").config.render.resolution == 16


# Expression conditioning


@pytest.fixture
def expressive(own: Path) -> tuple[TrainConfig, PortraitDataset]:
    dataset = open_dataset(own, 32)
    return fitted(with_section("data", expression=True), dataset), dataset


def test_the_generator_is_told_expression_and_jaw(expressive):
    """The mapping reads two expressions and three numbers of the jaw; without them it takes the neutral ones."""
    config, dataset = expressive
    assert config.model.generator.mapping.expression_size == expression_size(dataset) == 5
    generator = new_state(config, dataset.topology, CPU).average
    z, label = torch.randn(1, 16), dataset.labels[:1]
    told = [generator.mapping(z, torch.cat([label, extra], dim=1)).static for extra in (torch.zeros(1, 5), torch.ones(1, 5))]
    assert not torch.allclose(*told)
    assert torch.equal(generator.mapping(z, label).static, told[0])


def test_expressions_of_steps_are_those_of_the_heads_and_of_others(expressive):
    """Own conditions end in the head's jaw, swapped ones in the jaw that belongs to their camera."""
    config, dataset = expressive
    trainer = fresh(config, dataset)
    batch = dataset.read([3, 4, 5, 6])
    (part,) = trainer._parts(batch)
    torch.testing.assert_close(part.label[:, 27], batch.head.pose[:, 2, 0])
    jaws = dataset.read(range(10)).head.pose[:, 2, 0]
    for row in part.swapped:
        (item,) = (dataset.labels == row[:25]).all(dim=1).nonzero()
        assert row[27] == jaws[item]
    run(config, dataset, 1, trainer)


def test_expression_conditioning_needs_parameters(dataset):
    with pytest.raises(ConfigError, match="--gen-exp-cond: the data set's heads are meshes"):
        fitted(with_section("data", expression=True), dataset)


def test_configurations_without_expression_conditioning_are_read(expressive):
    text = json.loads(to_json(expressive[0].model.generator))
    del text["mapping"]["expression_size"]
    assert from_json(GeneratorConfig, json.dumps(text)).mapping.expression_size == 0


def test_a_state_of_another_conditioning_is_refused(expressive, tmp_path):
    config, dataset = expressive
    plain = fitted(tiny_config(), dataset)
    save_state(tmp_path / "network-000000.state", new_state(plain, dataset.topology, CPU), plain)
    with pytest.raises(CheckpointError, match="of another architecture"):
        resume(tmp_path / "network-000000.state", new_state(config, dataset.topology, CPU))


# What learns, and how fast


def test_frozen_blocks_stay_as_they_are(dataset, tmp_path):
    """The first blocks keep their bits, all else moves; the run resumes, also from a state in which they were not frozen."""
    config = with_section("discriminator_optimizer", frozen_blocks=2)
    trainer = fresh(config, dataset)
    before = {name: value.clone() for name, value in trainer.state.discriminator.named_parameters()}
    run(config, dataset, 2, trainer)
    same = {name.partition(".")[0] for name, value in trainer.state.discriminator.named_parameters() if torch.equal(value, before[name])}
    moved = {
        name.partition(".")[0] for name, value in trainer.state.discriminator.named_parameters() if not torch.equal(value, before[name])
    }
    assert same - moved == {"b32", "b16"}
    assert moved == {"b8", "b4", "mapping"}
    for written in (config, tiny_config()):
        save_state(tmp_path / "network.state", run(written, dataset, 1)[0].state, written)
        state = new_state(config, dataset.topology, CPU)
        resume(tmp_path / "network.state", state)
        run(config, dataset, 1, Trainer(config, dataset, state, CPU))
    save_state(tmp_path / "network.state", trainer.state, config)
    with pytest.raises(CheckpointError, match="same --freezed"):
        resume(tmp_path / "network.state", new_state(tiny_config(), dataset.topology, CPU))


def test_more_frozen_blocks_than_there_are_is_refused(dataset):
    with pytest.raises(ConfigError, match="--freezed=9: the discriminator has 3 blocks"):
        new_state(with_section("discriminator_optimizer", frozen_blocks=9), dataset.topology, CPU)


def test_parts_learn_at_rates_of_their_own(dataset):
    """Adam's first step is the rate itself: a tenth of it in the decoder, none in the texture network."""
    config = with_section("generator_optimizer", multipliers=(("decoder", 0.1), ("texture", 0.0)))
    steps = []
    for settings in (tiny_config(), config):
        trainer = fresh(settings, dataset)
        before = {name: value.detach().clone() for name, value in trainer.state.generator.named_parameters()}
        run(settings, dataset, 1, trainer)
        after = {name: value.detach() for name, value in trainer.state.generator.named_parameters()}
        steps.append({name: float((after[name] - value).abs().max()) for name, value in before.items()})
    plain, slow = steps
    assert slow["decoder.net.0.weight"] == pytest.approx(0.1 * plain["decoder.net.0.weight"], rel=1e-2)
    assert slow["static.b8.conv0.weight"] == pytest.approx(plain["static.b8.conv0.weight"], rel=1e-2)
    assert slow["texture.b8.conv0.weight"] == 0


def test_states_do_not_depend_on_rates(dataset, tmp_path):
    """Moments are numbered as the parameters are, whatever the groups."""
    plain = tiny_config()
    other = with_section("generator_optimizer", multipliers=(("decoder", 0.5),))
    trainer, _ = run(plain, dataset, 1)
    save_state(tmp_path / "network.state", trainer.state, plain)
    state = new_state(other, dataset.topology, CPU)
    resume(tmp_path / "network.state", state)
    for mine, theirs in zip(state.generator.parameters(), trainer.state.generator.parameters(), strict=True):
        assert torch.equal(state.optimizers[0].state[mine]["exp_avg_sq"], trainer.state.optimizers[0].state[theirs]["exp_avg_sq"])


def test_unknown_parts_are_refused(dataset):
    with pytest.raises(ConfigError, match="no part 'txture' to learn at a rate of its own; there are mapping_network, texture"):
        new_state(with_section("generator_optimizer", multipliers=(("txture", 0.1),)), dataset.topology, CPU)


def test_mapping_multiplier_is_in_the_layers(dataset):
    config = tiny_config()
    mapping = replace(config.model.generator.mapping, lr_multiplier=0.1)
    config = replace(config, model=replace(config.model, generator=replace(config.model.generator, mapping=mapping)))
    layer = new_state(config, dataset.topology, CPU).generator.mapping_network.fc0
    assert layer.bias_gain == 0.1
    assert layer.weight.detach().std() == pytest.approx(10, rel=0.2)


def test_cameras_of_labels_ignore_what_follows(expressive):
    _, dataset = expressive
    longer = torch.cat([dataset.labels[:2], torch.ones(2, 5)], dim=1)
    assert torch.equal(Camera.from_label(longer).to_label(), dataset.labels[:2])


OTHER_OPTIONS = {
    "augmentation": {"augment": {"kind": "ada", "p": 0.3}},
    "precision": {"precision": {"discriminator_blocks": 1, "generator_blocks": 1}},
    "schedule": {"schedule": {"raw_initial": 8, "raw_final": 16, "raw_fade_kimg": 0.02, "blur_sigma": 2.0}},
    "losses": {"loss": {"density_kind": "monotonic", "label_noise": 0.5, "style_mixing": 0.5}},
}


@pytest.mark.parametrize("name", OTHER_OPTIONS)
def test_a_run_goes_on_with_other_options(name, dataset, tmp_path):
    """From its state, and from a network file; the weights that it begins with are those of the file."""
    trainer, _ = run(tiny_config(), dataset, 1)
    save_state(tmp_path / "network.state", trainer.state, tiny_config())
    save_generator(tmp_path / "network.safetensors", trainer.state.average)
    config = tiny_config()
    for section, changes in OTHER_OPTIONS[name].items():
        config = with_section(section, config, **changes)
    for file, source in (("network.state", trainer.state.generator), ("network.safetensors", trainer.state.average)):
        state = new_state(config, dataset.topology, CPU)
        resume(tmp_path / file, state)
        expected = source.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in state.generator.state_dict().items())
        resumed, losses = run(config, dataset, 1, Trainer(config, dataset, state, CPU))
        assert resumed.state.images == (8 if file.endswith("state") else 4)
        assert losses[0]["loss/real"] > 0


@pytest.mark.parametrize("share_fakes", [True, False], ids=["shared", "separate"])
def test_all_options_together_wait_for_nobody(share_fakes, even):
    """One step with everything on, in which no value of a tensor decides what runs."""
    config = tiny_config(share_fakes=share_fakes, mismatch_weight=0.5, style_mixing=0.5, label_noise=0.3, density_kind="total-variation")
    config = with_section("augment", config, kind="ada", p=0.5, interval=1, transforms=TRANSFORMS)
    config = with_section("precision", config, generator_blocks=2, superres_blocks=2, discriminator_blocks=2)
    config = with_section("schedule", config, raw_initial=8, raw_final=16)
    config = with_section("discriminator_optimizer", config, frozen_blocks=1)
    config = fitted(with_section("data", config, mirror=True, expression=True), even)
    trainer = fresh(config, even)
    batch = even.read([0, 1, 2, 3])
    trainer.state.generator.rasterize(even.head_mesh(batch))  # what is compiled and cached is so in the first call
    with NoHost():
        trainer.step(batch)
    assert all(value > 0 for name, value in trainer.phases.statistics.take().items() if name.startswith("loss/"))
