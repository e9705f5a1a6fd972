"""Training that starts from a published snapshot: what fits is taken, the rest stays fresh, and both are said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dnnlib.errors import CheckpointError
from next3d.checkpoint import load_generator
from next3d.commands.main import run_command
from next3d.commands.train import train
from next3d.official.build import official_name
from tests.models import toy_head
from tests.next3d.official.snapshot_maker import Network, snapshot_bytes
from tests.reference.tiny import is_parameter
from training.config import default_config
from training.pretrained import resume_published
from training.state import TrainState, new_state

Tensors = dict[str, Tensor]
TAKEN = ("mapping_network.", "static.", "decoder.", "superres.")
"""What an EG3D network has in common with a generator."""

BINOMIAL_SQUARE = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


@pytest.fixture
def state() -> TrainState:
    return new_state(default_config("tiny", "nowhere"), toy_head().topology, torch.device("cpu"))


def eg3d_like(state: TrainState, seed: int) -> Tensors:
    """Other weights for the parts of the generator that EG3D has, under their official names."""
    rng = torch.Generator().manual_seed(seed)
    own = {name: value for name, value in state.generator.state_dict().items() if name.startswith(TAKEN)}
    return {official_name(name): torch.randn(value.shape, generator=rng) for name, value in own.items()}


def judge_like(state: TrainState, seed: int) -> Tensors:
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(value.shape, generator=rng) for name, value in state.discriminator.state_dict().items()}


def written(path: Path, arguments: Mapping[str, Any] | None = None, **networks: Mapping[str, Tensor]) -> Path:
    """A snapshot with these tensors and constructor arguments."""
    made = {
        name: Network(
            "TriPlaneGenerator" if name != "D" else "DualDiscriminator",
            kwargs=dict(arguments or {}),
            parameters={key: value for key, value in tensors.items() if is_parameter(key)},
            buffers={key: value for key, value in tensors.items() if not is_parameter(key)},
        )
        for name, tensors in networks.items()
    }
    path.write_bytes(snapshot_bytes(made))
    return path


def copies(state: TrainState) -> dict[str, Tensors]:
    return {name: {key: value.clone() for key, value in network.state_dict().items()} for name, network in state.networks().items()}


def test_an_eg3d_snapshot_gives_its_parts_to_generator_and_average(state, tmp_path):
    before, given = copies(state), eg3d_like(state, 1)
    lines = resume_published(written(tmp_path / "eg3d.pkl", G_ema=given), state)
    for name in ("generator", "average"):
        for key, value in state.networks()[name].state_dict().items():
            expected = given[official_name(key)] if key.startswith(TAKEN) else before[name][key]
            assert torch.equal(value, expected), (name, key)
    assert all(torch.equal(value, before["discriminator"][key]) for key, value in state.discriminator.state_dict().items())
    assert lines[0] == "eg3d.pkl, G_ema -> generator:"
    taken, new, left = lines[1:]
    assert taken.startswith("  taken: mapping_network ")
    assert all(f"{part} " in taken for part in ("static", "decoder", "superres"))
    assert new.startswith("  new: texture ")
    assert "mouth " in new
    assert left == "  left: 0 tensors"
    assert (state.images, state.step) == (0, 0)
    assert all(not optimizer.state for optimizer in state.optimizers), "moments start afresh"


def test_counts_are_numbers_of_values(state, tmp_path):
    lines = resume_published(written(tmp_path / "eg3d.pkl", G_ema=eg3d_like(state, 1)), state)
    decoder = sum(value.numel() for name, value in state.generator.state_dict().items() if name.startswith("decoder."))
    texture = sum(value.numel() for name, value in state.generator.state_dict().items() if name.startswith("texture."))
    assert f"decoder {decoder:,}" in lines[1]
    assert f"texture {texture:,}" in lines[2]


def test_generator_and_average_take_their_own_where_both_are_there(state, tmp_path):
    raw, mean = eg3d_like(state, 1), eg3d_like(state, 2)
    lines = resume_published(written(tmp_path / "both.pkl", G=raw, G_ema=mean), state)
    assert torch.equal(state.generator.decoder.hidden.weight, raw["decoder.net.0.weight"])
    assert torch.equal(state.average.decoder.hidden.weight, mean["decoder.net.0.weight"])
    assert [line for line in lines if "->" in line] == ["both.pkl, G -> generator:"]


def test_the_discriminator_is_taken_where_it_fits(state, tmp_path):
    """A published one sees no rendering of the mesh: the layer that does stays fresh, all others are taken."""
    before, given = copies(state), judge_like(state, 3)
    first = "b32.fromrgb.weight"
    given[first] = given[first][:, :6]
    lines = resume_published(written(tmp_path / "all.pkl", G_ema=eg3d_like(state, 1), D=given), state)
    for key, value in state.discriminator.state_dict().items():
        expected = before["discriminator"][key] if key.startswith("b32.fromrgb.") else given[key]
        assert torch.equal(value, expected), key
    position = lines.index("all.pkl, D -> discriminator:")
    assert "b32 " in lines[position + 2]
    assert "b16 " in lines[position + 1]


@pytest.mark.parametrize("wrong", ["missing", "shape"])
def test_half_a_block_is_left(state, tmp_path, wrong):
    before, given = copies(state), eg3d_like(state, 1)
    name = "backbone.synthesis.b16.conv0.weight"
    if wrong == "missing":
        del given[name]
    else:
        given[name] = given[name][:-1]
    lines = resume_published(written(tmp_path / "eg3d.pkl", G_ema=given), state)
    for key, value in state.generator.state_dict().items():
        if key.startswith("static."):
            expected = before["generator"][key] if key.startswith("static.b16.") else given[official_name(key)]
            assert torch.equal(value, expected), key
    left = sum(key.startswith("backbone.synthesis.b16.") for key in given)
    assert lines[3] == f"  left: {left} tensors of static"


def test_fixed_filters_and_the_mesh_are_not_counted_as_left(state, tmp_path):
    given = eg3d_like(state, 1) | {"faces": torch.zeros(1, 4, 3).long(), "backbone.synthesis.b8.resample_filter": BINOMIAL_SQUARE}
    lines = resume_published(written(tmp_path / "eg3d.pkl", G_ema=given), state)
    assert lines[3] == "  left: 0 tensors"


def test_a_snapshot_in_which_nothing_fits_is_refused(state, tmp_path):
    before = copies(state)
    given = {name: torch.zeros(3, *value.shape) for name, value in eg3d_like(state, 1).items()}
    with pytest.raises(CheckpointError, match=r"large\.pkl: nothing in it has the shape of this network's parts; train with a preset"):
        resume_published(written(tmp_path / "large.pkl", G_ema=given, D=judge_like(state, 1)), state)
    for name, network in state.networks().items():
        assert all(torch.equal(value, before[name][key]) for key, value in network.state_dict().items()), name


def test_a_snapshot_without_a_generator_is_refused(state, tmp_path):
    with pytest.raises(CheckpointError, match=r"judge\.pkl: holds no generator; expected a snapshot of"):
        resume_published(written(tmp_path / "judge.pkl", D=judge_like(state, 1)), state)


def test_train_resumes_from_a_pickle(state, own: Path, tmp_path: Path, capsys):
    pickle = written(tmp_path / "eg3d.pkl", G_ema=eg3d_like(state, 1))
    arguments = ["--outdir", tmp_path / "runs", "--cfg", "tiny", "--data", own, "--batch", "4", "--kimg", "0.004", "--threads", "1"]
    flags = ["--resume", pickle, "--glr", "1e-12", "--dlr", "1e-12"]
    assert run_command(train, [str(argument) for argument in arguments + flags]) == 0
    printed = capsys.readouterr().out
    assert "eg3d.pkl, G_ema -> generator:" in printed
    assert "  new: texture " in printed
    (network,) = (tmp_path / "runs").rglob("network-*.safetensors")
    weight = load_generator(network).decoder.hidden.weight
    torch.testing.assert_close(weight, eg3d_like(state, 1)["decoder.net.0.weight"], atol=1e-6, rtol=0)


def test_train_refuses_a_damaged_pickle_before_it_writes(own: Path, tmp_path: Path, capsys):
    broken = tmp_path / "broken.pkl"
    broken.write_bytes(b"\x80\x04}")
    arguments = ["--outdir", tmp_path / "runs", "--cfg", "tiny", "--data", own, "--batch", "4", "--kimg", "0.004", "--resume", broken]
    assert run_command(train, [str(argument) for argument in arguments]) == 2
    assert "broken.pkl" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_decoder_s_multiplier_goes_into_its_weights(state, tmp_path):
    given = eg3d_like(state, 1)
    resume_published(written(tmp_path / "plain.pkl", G_ema=given), state)
    plain = copies(state)["average"]
    resume_published(written(tmp_path / "scaled.pkl", {"rendering_kwargs": {"decoder_lr_mul": 0.5}}, G_ema=given), state)
    scaled = copies(state)["average"]
    assert torch.equal(scaled["decoder.net.0.weight"], plain["decoder.net.0.weight"] * 0.5)
    assert torch.equal(scaled["static.b4.const"], plain["static.b4.const"])
