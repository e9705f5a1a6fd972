"""`--flame`: commands find the model that a network or a data set names, and leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from next3d.checkpoint import load_generator, save_generator
from next3d.commands.flame import flame_option
from next3d.config import preset
from next3d.generator import Generator
from next3d.head import FLAME_VARIABLE
from next3d.head.flame import load_flame
from tests.flame_files import fake_flame
from tests.training.factory import write_own

Run = Callable[..., tuple[int, str]]


@click.command()
@flame_option
def show() -> None:
    """Print where FLAME would be looked for."""
    click.echo(os.environ.get(FLAME_VARIABLE, "nowhere"))


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_the_option_goes_before_the_variable_and_ends_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(FLAME_VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(FLAME_VARIABLE, before)
    assert CliRunner().invoke(show, []).output.strip() == (before or "nowhere")
    assert CliRunner().invoke(show, ["--flame", str(tmp_path)]).output.strip() == str(tmp_path)
    assert os.environ.get(FLAME_VARIABLE) == before


def test_a_network_of_flame_heads_is_shown_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.delenv(FLAME_VARIABLE, raising=False)
    folder = fake_flame().write(tmp_path / "FLAME2020", style="chumpy")
    config = replace(preset("tiny").generator, head="flame")
    save_generator(tmp_path / "network.safetensors", Generator(config, load_flame(folder).topology))
    arguments = ("samples", "--network", tmp_path / "network.safetensors", "--seeds", "0", "--device", "cpu", "--threads", "1")
    code, message = run(*arguments, "--outdir", tmp_path / "out")
    assert code == 2
    assert "--flame FOLDER" in message
    assert message.count("\n") == 1
    code, message = run(*arguments, "--outdir", tmp_path / "out", "--flame", folder, "--mesh")
    assert code == 0, message
    assert (tmp_path / "out" / "seed0000-mesh.png").exists()


def test_data_of_flame_heads_is_found_whatever_the_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """The version is only known by names; the numbers decide whether it is the same model."""
    monkeypatch.delenv(FLAME_VARIABLE, raising=False)
    head = load_flame(fake_flame().write(tmp_path / "FLAME2020"))
    data = write_own(tmp_path / "portraits", 3, 16, head)
    code, message = run("data", "check", data)
    assert code == 2
    assert "head model 'flame-2020' cannot be loaded: no FLAME here" in message
    assert run("data", "check", data, "--flame", fake_flame().write(tmp_path / "renamed"))[0] == 0
    code, message = run("data", "check", data, "--flame", fake_flame(seed=1).write(tmp_path / "other"))
    assert code == 2
    assert "was made with head model 'flame-2020'" in message


def test_a_network_keeps_the_contour(tmp_path: Path) -> None:
    """Both new fields of the topology survive in a file."""
    topology = load_flame(fake_flame().write(tmp_path)).topology
    save_generator(tmp_path / "network.safetensors", Generator(preset("tiny").generator, topology))
    loaded = load_generator(tmp_path / "network.safetensors").topology
    assert topology.contour_faces is not None
    assert loaded.contour_faces is not None
    assert torch.equal(loaded.contour_faces, topology.contour_faces)
