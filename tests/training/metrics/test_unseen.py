"""Rare combinations: commands are what they say, true renderings are read well there, and pictures of other commands are not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from next3d.head.model import Joint
from training.metrics.controls import controls
from training.metrics.readings import known_controls, natural_scenes
from training.metrics.unseen import EDGE, ends, measure, shown_together, sweeps


def test_commands_are_even_and_at_their_extremes(coded_context):
    known, params = known_controls(coded_context), natural_scenes(coded_context).moving
    plans = sweeps(known, params)
    assert [tuple(plan.commands) for plan in plans] == [("jaw",), ("gaze",), ("blink", "smile")]
    for plan in plans:
        jaw, gaze = (known[name].read(plan.heads) for name in ("jaw", "gaze"))
        if "jaw" not in plan.commands:
            assert jaw.min() >= (1 - EDGE) * 0.35 - 1e-6
            assert jaw.max() <= 0.35 + 1e-6
        if "gaze" not in plan.commands:
            assert gaze.abs().min() >= math.radians(20) * (1 - 2 * EDGE) - 1e-6
            assert gaze.abs().max() <= math.radians(20) + 1e-6
            assert 0.25 < (gaze > 0).double().mean() < 0.75
        for name, commands in plan.commands.items():
            torch.testing.assert_close(known[name].read(plan.heads), commands)
            fraction = (commands - known[name].low) / (known[name].high - known[name].low)
            assert fraction.min() < 0.1 < 0.9 < fraction.max()
        assert torch.equal(plan.heads.shape, params.shape)
        assert torch.equal(plan.heads.pose[:, [Joint.GLOBAL, Joint.NECK]], params.pose[:, [Joint.GLOBAL, Joint.NECK]])


def test_heads_without_lids_and_smiles_have_two_sweeps(mask_head):
    bare = {name: control for name, control in controls(mask_head).items() if name != "blink"}
    assert [tuple(plan.commands) for plan in sweeps(bare, mask_head.neutral(3))] == [("jaw",), ("gaze",)]


def test_ends_are_the_two_ends():
    fractions = torch.tensor([0.0, 0.25, 0.499, 0.5, 0.75, 0.999])
    torch.testing.assert_close(ends(fractions), torch.tensor([0.0, EDGE / 2, EDGE, 1.0, 1 - EDGE / 2, 1 - EDGE]), atol=2e-4, rtol=0)


def test_only_both_extremes_at_once_are_counted(mask_head):
    known, params = controls(mask_head), mask_head.neutral(5)
    jaw, gaze = torch.tensor([0.35, 0.35, 0.1, 0.4, 0.35]), torch.tensor([0.34, 0.1, 0.34, -0.4, -0.345])
    assert shown_together(known, known["gaze"].set(known["jaw"].set(params, jaw), gaze)) == 3


def test_every_command_is_compared_with_its_own_reading(coded_context, monkeypatch):
    """Pictures that hold the numbers they were commanded are read exactly; pictures of other people's commands say nothing."""
    monkeypatch.setattr("training.metrics.unseen.SYNTHETIC_HEAD", "another")  # no floor
    figures = {figure.name: figure for figure in measure(coded_context)}
    names = [f"unseen_{name}_spearman" for name in ("jaw", "gaze", "blink", "smile")]
    assert list(figures) == [*names, "unseen_apd_median"]
    for name in names:
        assert figures[name].value == pytest.approx(1)
        assert (figures[name].count, figures[name].floor) == (60, None)
    assert figures["unseen_apd_median"].value == pytest.approx(0, abs=0.1)
    assert figures["unseen_apd_median"].count == 180
    assert "of 280 images that are not held out" in figures["unseen_jaw_spearman"].note
    own = coded_context.sampler
    coded_context.test_another(lambda scenes: own(scenes[torch.arange(len(scenes)).roll(3)]))
    wrong = {figure.name: figure.value for figure in measure(coded_context)}
    assert max(abs(wrong[name]) for name in names) < 0.4
    assert wrong["unseen_apd_median"] > 5


def test_true_renderings_are_read_well_and_faces_that_do_not_move_are_not(avatar_context, truth, monkeypatch):
    """The floor is what the reader says of true renderings of the same commands."""
    monkeypatch.setattr("training.metrics.unseen.TRUE_PEOPLE", 40)
    rest = truth.head.neutral(1)
    still = truth(replace(natural_scenes(avatar_context)[:1], params=rest))
    kept = {key: made for key, made in avatar_context._kept.items() if key not in avatar_context._of_network}
    context = replace(avatar_context, sampler=lambda scenes: still.expand(len(scenes), -1, -1, -1), _kept=kept, _of_network=set())
    figures = {figure.name: figure for figure in measure(context)}
    assert figures["unseen_jaw_spearman"].floor > 0.8
    assert figures["unseen_gaze_spearman"].floor > 0.6
    assert figures["unseen_apd_median"].floor < 4
    assert figures["unseen_apd_median"].value > 2 * figures["unseen_apd_median"].floor
    for name in ("jaw", "gaze", "blink", "smile"):
        assert abs(figures[f"unseen_{name}_spearman"].value) < 0.4
