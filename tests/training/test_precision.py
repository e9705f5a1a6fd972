"""Half precision, finite gradients, compiled networks: what they change and what they leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.precision
from dnnlib.errors import ConfigError
from next3d.config import preset
from next3d.stylegan2.synthesis import SynthesisNetwork
from tests.training.test_phases import CPU, run, tiny_config
from torch_utils.ops.modulated_conv import modulated_conv2d
from training.conditions import fitted
from training.config import PrecisionConfig, TrainConfig
from training.dataset import PortraitDataset, open_dataset
from training.precision import clamped, compile_network, make_finite, tensor_float, with_blocks
from training.state import new_state
from training.trainer import Trainer


@pytest.fixture(scope="module")
def dataset(published: Path) -> PortraitDataset:
    return open_dataset(published, 32)


def half_config(half_type: str = "float16", **loss: object) -> TrainConfig:
    precision = PrecisionConfig(half_type=half_type, generator_blocks=2, superres_blocks=1, discriminator_blocks=2)
    config = tiny_config(**loss)
    return replace(config, precision=precision, model=clamped(config.model, precision))


def types_seen(trainer: Trainer, dataset: PortraitDataset) -> dict[str, torch.dtype]:
    """What the convolutions of both networks put out in one step."""
    seen: dict[str, torch.dtype] = {}
    for network in (trainer.state.generator, trainer.state.discriminator):
        for name, module in network.named_modules():
            if name.endswith(("conv0", "conv1", "fromrgb")):
                module.register_forward_hook(lambda _, inputs, output, name=name: seen.__setitem__(name, output.dtype))
    run(trainer.config, dataset, 1, trainer)
    return seen


@pytest.mark.parametrize("half_type", ["float16", "bfloat16"])
def test_the_highest_resolutions_compute_in_half_precision_and_the_losses_stay(half_type, dataset):
    """Two of the resolutions of every generator network and of the discriminator, the last block of super-resolution."""
    config = half_config(half_type)
    trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
    seen = types_seen(trainer, dataset)
    half = {name for name, dtype in seen.items() if dtype == getattr(torch, half_type)}
    assert {"texture.b16.conv0", "texture.b8.conv1", "static.b32.conv0", "static.b16.conv1", "superres.block1.conv0"} <= half
    assert {"b32.conv0", "b32.fromrgb", "b16.conv1", "mouth.complete.b16.conv0", "mouth.complete.encoder.0.conv1"} <= half
    assert {"static.b8.conv0", "static.b4.conv1", "superres.block0.conv0", "b8.conv0"}.isdisjoint(half)
    losses = trainer.phases.means
    _, full = run(tiny_config(), dataset, 1)
    for name in ("loss/generator", "loss/real", "loss/fake", "loss/r1_penalty"):
        assert float(losses[name]) == pytest.approx(full[0][name], rel=0.05 if half_type == "float16" else 0.1), name


def test_training_in_half_precision_keeps_everything_else_in_float32(dataset):
    """Weights, gradients, moments and the averaged network, which computes in float32 itself."""
    config = half_config(mismatch_weight=0.5, share_fakes=True)
    trainer, losses = run(config, dataset, 3)
    assert all(value.isfinite().all() for network in trainer.state.networks().values() for value in network.parameters())
    assert all(parameter.dtype == torch.float32 for network in trainer.state.networks().values() for parameter in network.parameters())
    assert losses[-1] == run(config, dataset, 3)[1][-1], "and it repeats"
    average = trainer.state.average
    assert all(getattr(module, "half_type", None) is None for module in average.modules())


def test_half_precision_clamps_what_is_not_clamped():
    model, precision = preset("tiny"), PrecisionConfig(generator_blocks=1, superres_blocks=1, discriminator_blocks=1)
    assert clamped(model, PrecisionConfig()) is model
    assert clamped(model, replace(precision, half_type="bfloat16")) is model
    found = clamped(model, precision)
    assert (found.generator.clamp, found.generator.superres.clamp, found.discriminator.clamp) == (256, 256, 256)
    only = clamped(model, PrecisionConfig(discriminator_blocks=1))
    assert (only.generator.clamp, only.discriminator.clamp) == (None, 256)


def test_bfloat16_without_numbers_chooses_blocks(dataset):
    config = replace(tiny_config(), precision=PrecisionConfig(half_type="bfloat16"))
    chosen = fitted(config, dataset).precision
    assert (chosen.generator_blocks, chosen.superres_blocks, chosen.discriminator_blocks) == (4, 2, 4)
    named = PrecisionConfig(half_type="bfloat16", superres_blocks=1)
    assert with_blocks(named) is named


def test_modulated_convolutions_in_float16_survive_large_weights_and_styles(rng):
    """Sums that float16 cannot hold: normalised before, they are what float32 gives."""
    x, weight = torch.randn(2, 64, 8, 8, generator=rng), torch.randn(8, 64, 3, 3, generator=rng) * 100
    styles = torch.randn(2, 64, generator=rng) * 100
    expected = modulated_conv2d(x, weight, styles, padding=1)
    found = modulated_conv2d(x.half(), weight, styles, padding=1)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


def test_gradients_that_overflow_become_finite_and_the_step_is_made(dataset):
    gradient = torch.tensor([1.0, float("nan"), float("inf"), float("-inf")])
    make_finite([gradient])
    assert gradient.tolist() == [1, 0, 1e5, -1e5]
    for half, moves in ((True, True), (False, False)):
        config = half_config() if half else tiny_config()
        trainer = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
        bias = trainer.state.generator.decoder.output.bias
        bias.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
        before = trainer.state.generator.static.b8.conv0.weight.clone()
        run(config, dataset, 1, trainer)
        assert torch.equal(trainer.state.generator.static.b8.conv0.weight, before) != moves
        assert len(trainer.settle()) == (0 if moves else 1)


def test_tensor_float_is_as_asked_for_only_while_it_lasts():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for allowed in (True, False):
        with tensor_float(allowed):
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def small_network() -> SynthesisNetwork:
    torch.manual_seed(0)
    network = SynthesisNetwork(style_size=8, resolution=8, image_channels=3, channel_base=32, channel_max=8)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return network


def test_compiled_networks_draw_the_same_noise(rng):
    """Traced but not compiled, which is what can go wrong: same images and gradients, noise from a function asked in the same order."""
    plain, compiled, rows = small_network(), small_network(), torch.randn(2, 4, 8, generator=rng)
    compile_network(compiled, backend="eager")
    found = []
    for network in (plain, compiled):
        draws = torch.Generator().manual_seed(1)
        image = network(rows, lambda shape, draws=draws: torch.randn(shape, generator=draws))
        image.square().sum().backward()
        found.append((image.detach(), [parameter.grad for parameter in network.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert list(compiled.state_dict()) == list(plain.state_dict())


@pytest.mark.slow
def test_the_compiler_gives_the_same_images(rng):
    """One network, by the machine's compiler."""
    plain, compiled, rows = small_network(), small_network(), torch.randn(2, 4, 8, generator=rng)
    compile_network(compiled)
    with torch.no_grad():
        torch.testing.assert_close(compiled(rows, "const"), plain(rows, "const"), rtol=1e-4, atol=1e-5)


def test_compiling_replaces_all_synthesis_networks(dataset, monkeypatch):
    """Texture, static, both mouth networks and super-resolution; the average, which draws pictures now and then, stays as it is."""
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(training.precision, "compile_network", compiled.append)
    monkeypatch.setattr(training.precision, "_check_compiler", lambda device: None)
    config = replace(tiny_config(), precision=PrecisionConfig(compile=True))
    generator = Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU).state.generator
    assert compiled == [generator.texture, generator.static, generator.mouth.complete, generator.mouth.blend, generator.superres]


def test_a_missing_compiler_is_one_sentence(dataset, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    config = replace(tiny_config(), precision=PrecisionConfig(compile=True))
    with pytest.raises(ConfigError, match=r"--compile: torch.compile is not usable here \(no compiler found\)"):
        Trainer(config, dataset, new_state(config, dataset.topology, CPU), CPU)
