"""Every name in the catalogue leads to a metric; needs are checked before anything is computed; ranks agree."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dnnlib.errors import ConfigError
from dnnlib.files import sha256
from tests.processes import run_ranks
from tests.training.metrics.pictures import like_the_reals, noise, paint_context, with_settings
from torch_utils.distributed import world
from training.metrics.catalog import METRICS, SUITE_NAMES, choose, measure, suite
from training.metrics.context import Context
from training.metrics.detector import INCEPTION
from training.metrics.figures import Figure, figures_table

DISTRIBUTION = [metric.name for metric in suite("distribution")]


@pytest.fixture
def context(tmp_path: Path, knows_small_head: None) -> Context:
    return paint_context(tmp_path)


@pytest.mark.parametrize("name", METRICS)
def test_names_lead_to_functions_and_are_documented(repository, name):
    metric = METRICS[name]
    module, _, function = metric.target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert metric.suite in SUITE_NAMES[:-1]
    assert f"| `{name}` |" in (repository / "docs" / "metrics.md").read_text()


def test_unknown_names_are_answered_with_the_list():
    with pytest.raises(ConfigError, match="'beauty'; choose from swd, fid, kid, pr"):
        choose(["swd", "beauty"])
    with pytest.raises(ConfigError, match="distribution, avatar, all"):
        suite("everything")
    assert choose(["fid", "swd", "fid"]) == [METRICS["swd"], METRICS["fid"]]
    assert suite("all") == list(METRICS.values())


def test_needs_come_first(context, tmp_path, monkeypatch):
    """By name a need that is not met is an error before anything is generated; in a suite the metric is left out, and why is said."""
    monkeypatch.setenv("NEXT3D_CACHE", str(tmp_path / "cache"))
    lacking = with_settings(context, detector=None)
    lacking.sampler = lambda scenes: pytest.fail("generated before the check")
    with pytest.raises(ConfigError, match=r"'fid': .*cache/pt_inception-2015-12-05-6726825d.pth.*--download.*--detector-path"):
        measure(choose(["swd", "fid"]), lacking)
    said: list[str] = []
    lacking.say, lacking.sampler = said.append, context.sampler
    figures = measure(suite("distribution"), lacking, skip=True)
    assert {figure.name.partition("_")[0] for figure in figures} == {"swd"}
    assert sum(line.startswith("Left out: ") and "pt_inception" in line for line in said) == 3


def test_wanted_weights_are_fetched(context, tmp_path, monkeypatch):
    """With `download`, and only then, the detector comes from its publisher into the cache."""
    weights = tmp_path / "inception.pth"
    published = replace(INCEPTION, url=weights.as_uri(), sha256=sha256(weights)[:8])
    monkeypatch.setattr("training.metrics.context.INCEPTION", published)
    monkeypatch.setenv("NEXT3D_CACHE", str(tmp_path / "cache"))
    assert "--download" in (with_settings(context, detector=None).lacks("detector") or "")
    assert not (tmp_path / "cache").exists()
    assert with_settings(context, detector=None, download=True).lacks("detector") is None
    assert with_settings(context, detector=None).detector.digest == sha256(weights)


def figures_of(context: Context) -> list[Figure]:
    """What a rank measures. (The world of a context is the one in which it is made.)"""
    context.world = world()
    return measure(choose(DISTRIBUTION), context)


def test_ranks_agree_with_one_process(context):
    """Three ranks and five chunks of images: shares differ, one metric's blocks are fewer than the ranks' chunks; no bit does."""
    context = with_settings(context, images=18, reals=22)
    for figures in run_ranks(figures_of, 3, context):
        assert figures == figures_of(with_settings(context))


def test_a_perfect_generator_is_at_the_floor_and_noise_is_not(tmp_path, knows_small_head):
    """Floors are lower than noise, too: they compare halves of the real set."""
    context = paint_context(tmp_path, count=96, images=48)
    good = {figure.name: figure for figure in figures_of(context)}
    context.test_another(noise)
    bad = {figure.name: figure for figure in figures_of(context)}
    assert list(good) == ["swd_mean", "swd_32", "swd_16", "fid48", "kid48", "precision48", "recall48"]
    for name in ("swd_mean", "swd_32", "swd_16", "fid48"):
        assert good[name].value < 1.5 * good[name].floor
        assert good[name].value < 0.3 * bad[name].value > 0.5 * good[name].floor, name
        assert good[name].low <= good[name].value <= good[name].high
    assert abs(good["kid48"].value) < 0.001 * bad["kid48"].low
    assert good["precision48"].value > 0.9 < good["recall48"].value
    assert bad["precision48"].value == 0
    assert {figure.count for figure in good.values()} == {48}
    assert "few images" in good["fid48"].note


def test_pictures_are_made_once(context):
    """Metrics share what the network drew, and what was made of real images survives the network."""
    drawn: list[int] = []

    def counting(scenes):
        drawn.extend(range(len(scenes)))
        return like_the_reals(scenes)

    context.sampler = counting
    figures_of(context)
    assert len(drawn) == 24
    reals = context.kept("real features")
    context.test_another(noise)
    assert context.kept("fake features") is None
    assert context.kept("real features") is reals


def test_long_work_says_how_far_it_is(context):
    said: list[str] = []
    context.say = said.append
    context.rows(201, lambda start, stop: torch.zeros(stop - start), title="Rows")
    context.rows(20, lambda start, stop: torch.zeros(stop - start), title="Few rows")
    assert said == [f"Rows: {percent} %" for percent in range(10, 101, 10)]


def test_lines_and_table():
    figure = Figure("kid1k", float("nan"), 1000, 3, 0.1, 0.2, note="a „note“")
    line = figure.to_json({"network": "n"})
    assert "\n" not in line
    fields = {"value": None, "count": 1000, "seed": 3, "low": 0.1, "high": 0.2, "floor": None, "unit": "", "note": "a „note“"}
    assert json.loads(line) == {"name": "kid1k", **fields, "network": "n"}
    rows = figures_table([figure, Figure("fid", 12.345678, 10, 0, floor=1.0)]).splitlines()
    assert rows[2].split() == ["kid1k", "nan", "0.1", "…", "0.2", "1000", "a", "„note“"]
    assert rows[3].split() == ["fid", "12.35", "1", "10"]
