"""Packed states: what they keep, what they lose and how little that is, and that a folder never loses its last good one."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import training.packed
from dnnlib.errors import CheckpointError, ConfigError, WriteError
from next3d.commands.main import run_command
from next3d.commands.state import state as state_command
from next3d.commands.train import train as train_command
from tests.full_disk import no_file_longer_than
from tests.processes import run_ranks
from tests.training.runs import go, quick_config
from training.config import TrainConfig
from training.dataset import open_dataset
from training.packed import read_packed
from training.state import TrainState, new_state, pack_state, read_progress, resume, save_state, unpack_state

CPU = torch.device("cpu")
KIB = 1 << 10
WHOLE = 1 << 30


def fresh(config: TrainConfig) -> TrainState:
    return new_state(config, open_dataset(config.data.path, 32).topology, CPU)


def descend(state: TrainState, seed: int) -> None:
    """A step of both optimisers with gradients that do not depend on the state: of all sizes, as those of real layers are."""
    draws = torch.Generator().manual_seed(seed)
    for optimizer in state.optimizers:
        for parameter in optimizer.param_groups[0]["params"]:
            size = 10 ** (8 * torch.rand(parameter.shape, generator=draws) - 8)
            parameter.grad = torch.randn(parameter.shape, generator=draws) * size
        optimizer.step()
        optimizer.zero_grad()


def trained(config: TrainConfig, path: Path, images: int = 5008) -> Path:
    """A state file with moments, counters and an average that is not the generator."""
    state = fresh(config)
    for seed in range(3):
        descend(state, seed)
    state.images, state.step = images, 626
    state.counters |= {"strength": torch.tensor(0.25, dtype=torch.float64), "signs": torch.arange(3)}
    save_state(path, state, config)
    return path


@pytest.fixture
def config(own: Path) -> TrainConfig:
    return quick_config(own, 2)


@pytest.fixture
def source(config: TrainConfig, tmp_path: Path) -> Path:
    return trained(config, tmp_path / "source.state")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parts_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.state.*of*"))


def test_what_comes_back(source: Path, tmp_path: Path):
    """Weights, buffers and counters bit by bit; the average to 2^-11, second moments to 2^-8 of each number."""
    pack_state(source, tmp_path / "packed", 40 * KIB)
    unpack_state(tmp_path / "packed", tmp_path / "back.state")
    before, after = load_file(source), load_file(tmp_path / "back.state")
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        if name.endswith(".exp_avg_sq"):
            assert ((after[name] - value).abs() <= 2**-8 * value).all()
        elif name.startswith("average."):
            assert ((after[name] - value).abs() <= 2**-11 * value.abs() + 2**-25).all()
        elif not name.endswith(".exp_avg"):
            assert torch.equal(after[name], value), name


def test_a_run_goes_on_where_it_was(config: TrainConfig, source: Path, tmp_path: Path):
    pack_state(source, tmp_path / "packed", 40 * KIB)
    plain, packed = fresh(config), fresh(config)
    resume(source, plain)
    resume(tmp_path / "packed", packed)
    assert (packed.images, packed.step) == (plain.images, plain.step) == (5008, 626)
    assert packed.counters.keys() == plain.counters.keys()
    assert all(torch.equal(packed.counters[name], value) for name, value in plain.counters.items())
    assert all(torch.equal(a, b) for a, b in zip(packed.generator.parameters(), plain.generator.parameters(), strict=True))


def test_packing_what_was_unpacked_changes_nothing_more(source: Path, tmp_path: Path):
    """Carried from machine to machine without a step between, a state stays what it is: the same files."""
    first = pack_state(source, tmp_path / "a", 40 * KIB)
    unpack_state(tmp_path / "a", tmp_path / "again.state")
    second = pack_state(tmp_path / "again.state", tmp_path / "b", 40 * KIB)
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_state_before_the_first_step(config: TrainConfig, tmp_path: Path):
    """The average is the generator, there are no moments."""
    save_state(tmp_path / "new.state", fresh(config), config)
    pack_state(tmp_path / "new.state", tmp_path / "packed", WHOLE)
    tensors, _ = read_packed(tmp_path / "packed")
    before = load_file(tmp_path / "new.state")
    assert before.keys() == tensors.keys()
    assert all(torch.equal(tensors[name], value) for name, value in before.items())


def test_numbers_that_are_too_large_for_half_precision_stay(config: TrainConfig, tmp_path: Path):
    state = fresh(config)
    next(state.average.parameters()).data.view(-1)[0] = 1e5 + 1 / 64
    save_state(tmp_path / "large.state", state, config)
    pack_state(tmp_path / "large.state", tmp_path / "packed", WHOLE)
    again = fresh(config)
    resume(tmp_path / "packed", again)
    assert torch.equal(next(again.average.parameters()), next(state.average.parameters()))


@pytest.mark.parametrize("kib", [24, 37, 100, 1 << 20])
def test_no_part_is_longer_than_asked_and_there_are_few(source: Path, tmp_path: Path, kib: int):
    paths = pack_state(source, tmp_path / "packed", kib * KIB)
    sizes = [path.stat().st_size for path in paths]
    assert max(sizes) <= kib * KIB
    payload = sum(value.nbytes for path in paths for value in load_file(path).values())
    headers = sum(sizes) - payload
    # Every part but the last is full up to a row and a little that was set aside for its header.
    assert len(paths) <= math.ceil((payload + headers) / ((kib - 8) * KIB))
    assert payload < 0.51 * source.stat().st_size


def test_parts_without_room_for_a_row_are_refused(source: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^--part-mib: .*give more$"):
        pack_state(source, tmp_path / "packed", 4 * KIB)
    assert not (tmp_path / "packed").exists()


def all_parameters(state: TrainState) -> torch.Tensor:
    """Those of both networks, one after the other: [P]."""
    return torch.cat(
        [parameter.detach().flatten() for network in (state.generator, state.discriminator) for parameter in network.parameters()]
    )


def after_a_step(config: TrainConfig, start: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """How far one step moves every parameter, [P], and everything afterwards."""
    state = fresh(config)
    resume(start, state)
    before = all_parameters(state)
    descend(state, 99)
    end = start.with_name(f"{start.name}-after.state")
    save_state(end, state, config)
    return all_parameters(state) - before, load_file(end)


def test_first_moments_that_are_not_kept_are_not_missed(config: TrainConfig, source: Path, tmp_path: Path):
    """With a decay of 0 the step after is the same, bit by bit, whatever the first moments were."""
    assert config.generator_optimizer.betas[0] == config.discriminator_optimizer.betas[0] == 0
    pack_state(source, tmp_path / "packed", WHOLE)
    (part,) = parts_of(tmp_path / "packed")
    assert not [name for name in load_file(part) if name.endswith(".exp_avg")]
    unpack_state(tmp_path / "packed", tmp_path / "without.state")
    with safe_open(tmp_path / "without.state", "pt") as file:
        texts = file.metadata()
    tensors, original = load_file(tmp_path / "without.state"), load_file(source)
    first = [name for name in tensors if name.endswith(".exp_avg")]
    assert first
    assert not any(tensors[name].any() for name in first)
    assert any(original[name].any() for name in first)
    save_file(tensors | {name: original[name] for name in first}, tmp_path / "with.state", metadata=texts)
    ends = [after_a_step(config, tmp_path / name)[1] for name in ("without.state", "with.state")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_first_moments_that_are_needed_are_kept(config: TrainConfig, tmp_path: Path):
    config = replace(config, generator_optimizer=replace(config.generator_optimizer, betas=(0.5, 0.99)))
    source = trained(config, tmp_path / "source.state")
    pack_state(source, tmp_path / "packed", WHOLE)
    tensors, before = read_packed(tmp_path / "packed")[0], load_file(source)
    for name in (name for name in before if name.endswith(".exp_avg")):
        if name.startswith("generator_"):
            assert ((tensors[name] - before[name]).abs() <= 2**-8 * before[name].abs()).all()
        else:
            assert not tensors[name].any()


def test_a_step_is_longer_or_shorter_by_what_rounding_explains(config: TrainConfig, source: Path, tmp_path: Path):
    """Half of the second moment's relative error, 2^-8, because its root divides; and float32's own rounding of the sum."""
    pack_state(source, tmp_path / "packed", WHOLE)
    start = fresh(config)
    resume(source, start)
    plain, packed = (after_a_step(config, path)[0] for path in (source, tmp_path / "packed"))
    allowed = plain.abs() * 2**-9 + (all_parameters(start).abs() + plain.abs()) * 2**-23
    assert ((packed - plain).abs() <= allowed).all()
    assert (packed - plain).abs().max() > 2**-11 * plain.abs().max()  # there is something to explain


def spoil(path: Path, at: int) -> None:
    """Turn one bit of a file; counted from its end if negative."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def rewrite(path: Path, **texts: str) -> None:
    """Change a part's metadata."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    save_file(load_file(path), path, metadata=metadata | texts)


def swap_in(paths: list[Path]) -> None:
    """A part of another state in the place of the second, under its name."""
    shutil.copyfile(next(paths[0].parent.parent.glob("other/*.2of*")), paths[1])


DAMAGE: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "missing": (lambda paths: paths[1].unlink(), r"\.2of\d is missing; copy all \d parts"),
    "all missing": (lambda paths: [path.unlink() for path in paths], "holds no packed state; give a folder"),
    "another state's": (swap_in, r"2of\d: is a part of another state than its name says"),
    "a part twice": (lambda paths: shutil.copyfile(paths[0], paths[1]), "is a part of another state than its name says"),
    "one bit": (lambda paths: spoil(paths[1], -1000), r"2of\d: its numbers are not those that were written: the file is damaged"),
    "cut short": (lambda paths: os.truncate(paths[1], 1000), r"2of\d: not a readable safetensors file"),
    "empty": (lambda paths: paths[1].write_bytes(b""), r"2of\d: not a readable safetensors file"),
    "newer": (lambda paths: rewrite(paths[1], format_version="2"), "format version 2, this program reads up to 1; update it"),
    "other counts": (lambda paths: [rewrite(path, step="7") for path in paths], "do not belong together"),
    "other counts in one": (lambda paths: rewrite(paths[1], images="7"), "is a part of another state than its name says"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_sentence(config: TrainConfig, source: Path, tmp_path: Path, case: str):
    paths = pack_state(source, tmp_path / "packed", 60 * KIB)
    pack_state(trained(config, tmp_path / "other.state", 6000), tmp_path / "other", 60 * KIB)
    change, message = DAMAGE[case]
    change(paths)
    with pytest.raises(CheckpointError, match=message):
        resume(tmp_path / "packed", fresh(config))


def test_halves_of_two_states_are_none(config: TrainConfig, source: Path, tmp_path: Path):
    paths = pack_state(source, tmp_path / "packed", 60 * KIB)
    paths[0].unlink()
    shutil.copy(pack_state(trained(config, tmp_path / "b.state", 9000), tmp_path / "b", 60 * KIB)[0], tmp_path / "packed")
    with pytest.raises(CheckpointError, match="holds parts of 2 different states and none that is complete"):
        read_packed(tmp_path / "packed")


def test_another_architecture_and_single_parts_are_refused(config: TrainConfig, source: Path, tmp_path: Path):
    (part,) = pack_state(source, tmp_path / "packed", WHOLE)
    model = config.model
    other = replace(config, model=replace(model, generator=replace(model.generator, channel_max=4)))
    with pytest.raises(CheckpointError, match="the file is of another architecture"):
        resume(tmp_path / "packed", fresh(other))
    with pytest.raises(CheckpointError, match=f"is one part of a packed state; give the folder {part.parent}"):
        resume(part, fresh(config))


def test_a_newer_state_takes_the_place_of_the_older(config: TrainConfig, source: Path, tmp_path: Path):
    """Also where both have seen the same thousands of images, and where there were more parts; other files stay."""
    folder = tmp_path / "packed"
    old = pack_state(source, folder, 30 * KIB)
    (folder / "README.md").write_text("mine")
    new = pack_state(trained(config, tmp_path / "b.state", 5016), folder, 60 * KIB)
    assert len(new) < len(old)
    assert names(folder) == sorted(["README.md", *(path.name for path in new)])
    assert read_packed(folder)[1]["images"] == "5016"
    content = [path.read_bytes() for path in new]
    assert pack_state(tmp_path / "b.state", folder, 60 * KIB) == new
    assert [path.read_bytes() for path in new] == content
    assert names(folder) == sorted(["README.md", *(path.name for path in new)])


def dies_at(event: int, source: Path, folder: Path) -> None:
    """Pack, and be killed at a file operation, as nothing can catch."""
    left = event
    inner_save, inner_unlink = training.packed.save_tensors, Path.unlink

    def counted(inner):
        def call(path, *arguments, **named):
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= training.packed.is_part(Path(path))
            return inner(path, *arguments, **named)

        return call

    training.packed.save_tensors, Path.unlink = counted(inner_save), counted(inner_unlink)
    pack_state(source, folder, 60 * KIB)
    os._exit(0)


def test_whenever_packing_is_killed_a_complete_state_is_there(config: TrainConfig, source: Path, tmp_path: Path):
    """The old one until the last part of the new one is written, then the new one; and packing again cleans up."""
    old = pack_state(source, tmp_path / "old", 60 * KIB)
    newer = trained(config, tmp_path / "newer.state", 5016)
    found, event = [], 0
    while True:
        folder = tmp_path / f"killed{event}"
        shutil.copytree(tmp_path / "old", folder)
        (folder / ".network-000005-00000000.state.999-0123abcd.1of3").write_bytes(b"left by one that was killed")
        child = multiprocessing.get_context("fork").Process(target=dies_at, args=(event, newer, folder))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        found.append(int(read_packed(folder)[1]["images"]))
        new = pack_state(newer, folder, 60 * KIB)
        assert names(folder) == [path.name for path in new]
        event += 1
    assert found == sorted(found)
    assert set(found) == {5008, 5016}
    assert found.count(5008) >= len(old)


def test_a_full_disk_leaves_the_old_one(config: TrainConfig, source: Path, tmp_path: Path):
    folder = tmp_path / "packed"
    pack_state(source, folder, 60 * KIB)
    before = names(folder)
    newer = trained(config, tmp_path / "newer.state", 6000)
    with no_file_longer_than(59 * KIB), pytest.raises(WriteError, match=r"network-000006-.*of\d: cannot be written"):
        pack_state(newer, folder, 70 * KIB)
    assert names(folder) == before
    assert read_packed(folder)[1]["images"] == "5008"


def command(kind: str, *arguments: object) -> int:
    return run_command({"state": state_command, "train": train_command}[kind], [str(argument) for argument in arguments])


def train_until(images: int, own: Path, outdir: Path, *more: object) -> int:
    length = ["--kimg", images / 1000, "--batch", 4, "--tick", 0.008, "--threads", 1]
    return command("train", "--outdir", outdir, "--cfg", "tiny", "--data", own, *length, *more)


def test_a_training_in_stretches(own: Path, tmp_path: Path, capsys):
    """Train, pack, carry, go on, by commands alone; twice."""
    assert train_until(8, own, tmp_path / "first") == 0
    for number, images in enumerate((16, 24)):
        (state,) = (tmp_path / ("first", "1")[number]).rglob("*.state")
        assert command("state", "pack", state, tmp_path / "here", "--part-mib", "0.05") == 0
        shutil.rmtree(tmp_path / "carried", ignore_errors=True)
        shutil.copytree(tmp_path / "here", tmp_path / "carried")
        assert train_until(images, own, tmp_path / str(number + 1), "--resume", tmp_path / "carried") == 0
    (state,) = (tmp_path / "2").rglob("*.state")
    assert read_progress(state) == 24
    assert train_until(16, own, tmp_path / "3", "--resume", tmp_path / "carried") == 2
    assert "carried: has already seen 0.016 kimg; give a larger --kimg" in capsys.readouterr().err


def resumed(config: TrainConfig, outdir: Path, folder: Path) -> str:
    return str(go(config, outdir, folder, lambda line: None))


def test_two_processes_go_on_together(own: Path, tmp_path: Path):
    config = quick_config(own, 1, batch=8, kimg=5.016)
    pack_state(trained(config, tmp_path / "source.state"), tmp_path / "packed", 60 * KIB)
    folders = run_ranks(resumed, 2, config, tmp_path / "runs", tmp_path / "packed")
    assert read_progress(Path(folders[0]) / "network-000005.state") == 5016


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "missing.state", "out"], "'missing.state' does not exist"),
        (["pack", "text.state", "out"], "text.state: not a readable safetensors file"),
        (["pack", "text.state", "text.state"], "cannot be an output folder"),
        (["pack", "text.state", "out", "--part-mib", "0"], "0.0 is not in the range x>0"),
        (["unpack", "empty", "out.state"], "empty: holds no packed state"),
        (["unpack", "empty", "out.safetensors"], "expected a name that ends in .state"),
        (["unpack", "empty", "text.state"], "text.state: is there already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line(tmp_path: Path, monkeypatch, capsys, arguments: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.state").write_text("not a state")
    (tmp_path / "empty").mkdir()
    assert command("state", *arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text.state"]


def test_a_run_folder_is_no_packed_state(own: Path, tmp_path: Path, capsys):
    (tmp_path / "runs" / "00000-tiny").mkdir(parents=True)
    assert train_until(8, own, tmp_path / "new", "--resume", tmp_path / "runs" / "00000-tiny") == 2
    assert "00000-tiny: holds no packed state; give a folder that 'next3d state pack' has written" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
