"""The `train` command: what it prints, what its flags change, and that a dry run leaves no trace."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from next3d.commands.main import run_command
from next3d.commands.train import train


def run(data: Path, outdir: Path, *more: str) -> int:
    fixed = ["--outdir", str(outdir), "--cfg", "tiny", "--data", str(data), "--batch", "8", "--threads", "1"]
    return run_command(train, [*fixed, *more])


def configuration(data: Path, outdir: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    """What a dry run prints."""
    assert run(data, outdir, *more, "--dry-run") == 0
    text = capsys.readouterr().out
    return json.loads(text[: text.rindex("\n}\n") + 2])


def test_dry_run_prints_everything_and_writes_nothing(own: Path, tmp_path: Path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert run(own, tmp_path / "runs", "-n") == 0
    text = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert re.search(r"Generator +\d+\.\d+ M parameters, \d+\.\d+ GFLOP per image", text)
    assert re.search(r"Discriminator +\d+\.\d+ M parameters, \d+\.\d+ GFLOP per image", text)
    assert "10 images of 32²" in text
    config = json.loads(text[: text.rindex("\n}\n") + 2])
    assert config["model"]["generator"]["head"] == "small"
    assert set(config) >= {
        "model",
        "data",
        "run",
        "loss",
        "schedule",
        "augment",
        "precision",
        "generator_optimizer",
        "discriminator_optimizer",
    }


@pytest.mark.parametrize(
    ("flags", "section", "name", "value"),
    [
        (["--gamma", "3"], "loss", "gamma", 3),
        (["--density_reg", "0.1"], "loss", "density_weight", 0.1),
        (["--density-reg-every", "2"], "loss", "density_interval", 2),
        (["--style_mixing_prob", "0.9"], "loss", "style_mixing", 0.9),
        (["--mismatch-weight", "0.5"], "loss", "mismatch_weight", 0.5),
        (["--share-fakes", "false"], "loss", "share_fakes", False),
        (["--gpc_reg_prob", "0.8"], "schedule", "swap_probability", 0.8),
        (["--gpc-reg-prob", "0.7"], "schedule", "swap_probability", 0.7),
        (["--gpc_reg_fade_kimg", "9"], "schedule", "swap_fade_kimg", 9),
        (["--blur_fade_kimg", "0"], "schedule", "blur_fade_kimg", 0),
        (["--glr", "0.01"], "generator_optimizer", "lr", 0.01),
        (["--dlr", "0.01"], "discriminator_optimizer", "lr", 0.01),
        (["--batch_gpu", "4"], "run", "batch_gpu", 4),
        (["--kimg", "3"], "run", "kimg", 3),
        (["--tick", "2"], "run", "tick", 2),
        (["--snap", "7"], "run", "snap", 7),
        (["--snap", "none"], "run", "snap", None),
        (["--seed", "11"], "run", "seed", 11),
        (["--metrics", "swd"], "run", "metrics", ["swd"]),
        (["--metrics", "none"], "run", "metrics", []),
        (["--holdout", "2"], "data", "holdout", 2),
        (["--workers", "2"], "data", "workers", 2),
        (["--reg-type", "total-variation"], "loss", "density_kind", "total-variation"),
        (["--disc-c-noise", "0.5"], "loss", "label_noise", 0.5),
        (["--blur-init-sigma", "4"], "schedule", "blur_sigma", 4),
        (["--neural_rendering_resolution_initial", "8"], "schedule", "raw_initial", 8),
        (["--g-lr-mul", "texture=0.5,decoder=0.1"], "generator_optimizer", "multipliers", [["texture", 0.5], ["decoder", 0.1]]),
        (["--d-lr-mul", "b32=0.1"], "discriminator_optimizer", "multipliers", [["b32", 0.1]]),
        (["--freezed", "1"], "discriminator_optimizer", "frozen_blocks", 1),
        (["--gen-exp-cond", "1"], "data", "expression", True),
        (["--aug", "ada"], "augment", "kind", "ada"),
        (["--aug", "ada", "--p", "0.3"], "augment", "p", 0.3),
        (["--target", "0.5"], "augment", "target", 0.5),
        (["--ada-kimg", "100"], "augment", "speed_kimg", 100),
        (["--ada-interval", "2"], "augment", "interval", 2),
        (["--augpipe", "blit,cutout"], "augment", "transforms", ["blit", "cutout"]),
        (["--g_num_fp16_res", "2"], "precision", "generator_blocks", 2),
        (["--sr-num-fp16-res", "1"], "precision", "superres_blocks", 1),
        (["--d-num-fp16-res", "3"], "precision", "discriminator_blocks", 3),
        (["--bf16", "true"], "precision", "half_type", "bfloat16"),
        (["--tf32", "1"], "precision", "tf32", True),
        (["--compile", "true"], "precision", "compile", True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and str(value[0]).startswith("--") else None,
)
def test_flags_reach_the_configuration(flags, section, name, value, own, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.summary.measure", lambda *_: dict.fromkeys(COSTS, 0.0))
    assert configuration(own, tmp_path / "runs", capsys, *flags)[section][name] == value


COSTS = ("generator_parameters", "generator_gflop", "discriminator_parameters", "discriminator_gflop")


def test_flags_reach_the_networks(own, tmp_path, capsys):
    model = configuration(own, tmp_path / "runs", capsys, "--mesh-image", "false", "--gen_pose_cond", "false", "--mbstd-group", "2")[
        "model"
    ]
    assert model["discriminator"]["mesh_image"] is False
    assert model["discriminator"]["group_size"] == 2
    assert model["generator"]["mapping"]["pose_conditioning"] is False


def test_flags_of_the_recipe_reach_the_networks(own, tmp_path, capsys):
    """Also what follows from them: sizes from the data set's heads, clamps for float16."""
    flags = ["--cbase", "64", "--cmax", "8", "--map-depth", "3", "--map-lrmul", "0.1", "--gen-exp-cond", "true", "--d-num-fp16-res", "2"]
    model = configuration(own, tmp_path / "runs", capsys, *flags)["model"]
    assert [model[name][size] for name in ("generator", "discriminator") for size in ("channel_base", "channel_max")] == [64, 8, 64, 8]
    mapping = model["generator"]["mapping"]
    assert (mapping["layers"], mapping["lr_multiplier"], mapping["expression_size"]) == (3, 0.1, 5)
    assert (model["generator"]["clamp"], model["discriminator"]["clamp"]) == (None, 256)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--aug", "fixed"], "--aug fixed needs a probability above 0, give --p"),
        (["--p", "0.5"], "--p=0.5 does nothing without augmentation"),
        (["--augpipe", "sepia"], "unknown transforms 'sepia'"),
        (["--neural-rendering-resolution-final", "16"], "needs --neural-rendering-resolution-initial"),
        (["--neural-rendering-resolution-initial", "32", "--neural-rendering-resolution-final", "16"], "but 16 is less than 32"),
        (["--neural-rendering-resolution-initial", "15"], "expected an even number"),
        (["--g-lr-mul", "texture"], "is not a list like texture=0.5,decoder=0.1"),
        (["--g-lr-mul", "hair=0.1"], "no part 'hair'"),
        (["--freezed", "7"], "the discriminator has 3 blocks"),
        (["--mirror", "true"], "--mirror: the data set's meshes have no left-right map"),
    ],
)
def test_impossible_recipes_are_one_sentence(flags, message, own, tmp_path, capsys):
    """The small head has no left-right map."""
    assert run(own, tmp_path / "runs", *flags, "--kimg", "0.008") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_a_run_from_the_command_line_measures_and_names_its_folder(own, tmp_path, capsys):
    assert run(own, tmp_path / "runs", "--kimg", "0.008", "--metrics", "swd", "--desc", "trial", "--gamma", "0.5") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "00000-tiny-own-gpus1-batch8-gamma0.5-trial"
    record = json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])
    assert record["metrics/swd_mean"] > 0
    assert "metrics/swd_mean" in capsys.readouterr().out
