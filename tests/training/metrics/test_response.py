"""Jaw, gaze and blink figures on pictures whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.training.metrics.conftest import DROP, SIZE, Painter, mask_scenes
from training.metrics.controls import controls
from training.metrics.regions import control_regions
from training.metrics.regressor import Reader, evenly_spread, reader_quality, spearman
from training.metrics.response import control_change, measured_change, read_back
from training.metrics.scenes import Scenes, quantise


@pytest.mark.parametrize("name", ["jaw", "gaze", "blink"])
def test_control_sets_and_reads_only_itself(mask_head, name, rng):
    control = controls(mask_head)[name]
    scenes = mask_scenes(5, seed=0)
    value = control.at(torch.rand(5, generator=rng))
    changed = scenes.commanded(control, value)
    torch.testing.assert_close(control.read(changed.params), value)
    restored = changed.commanded(control, control.read(scenes.params)).params
    for field, before in vars(scenes.params).items():
        torch.testing.assert_close(vars(restored)[field], before)


def test_heads_without_lids_have_no_blink(mask_head):
    bare = type(mask_head)()
    bare.expression_names = ("one", "two", "three")
    assert set(controls(bare)) == {"jaw", "gaze"}


def test_change_is_that_of_the_two_regions(mask_head):
    """A sampler that changes the two regions by known amounts gets exactly these figures."""
    control = controls(mask_head)["jaw"]

    def sampler(scenes: Scenes) -> Tensor:
        inside, elsewhere = control_regions(mask_head, scenes.params, scenes.camera, control, SIZE)
        amount = control.read(scenes.params) / control.high
        return (amount[:, None, None] * (0.8 * inside - 0.1 * elsewhere)).unsqueeze(1).expand(-1, 3, -1, -1) - 0.2

    change = control_change(sampler, mask_scenes(4, seed=1), mask_head, control)
    assert change.inside == pytest.approx(0.4)
    assert change.elsewhere == pytest.approx(0.05)
    assert change.ratio == pytest.approx(8)


def test_change_of_a_painted_mouth(mask_head):
    """The painted mouth opens within the mouth's region by a known area and colour, and nothing else moves."""
    control = controls(mask_head)["jaw"]
    scenes = mask_scenes(6, seed=2)
    change = control_change(Painter(mask_head), scenes, mask_head, control)
    inside, _ = control_regions(mask_head, scenes.params, scenes.camera, control, SIZE)
    area = 0.12 * DROP * control.high / (2 * 0.3166 / SIZE) ** 2
    skin = (0.3 + 0.1 * scenes.z[:, :3].tanh()).mean(dim=1)
    expected = ((skin + 0.9) / 2 * area / inside.sum(dim=(1, 2))).mean()
    assert change.inside == pytest.approx(float(expected), rel=0.1)
    assert change.elsewhere == 0
    assert change.ratio == float("inf")


def test_nothing_changes_when_the_generator_ignores_the_mesh(mask_head):
    change = control_change(Painter(mask_head, faithful=0), mask_scenes(2, seed=3), mask_head, controls(mask_head)["jaw"])
    assert (change.inside, change.elsewhere, change.ratio) == (0, 0, 0)


def test_scenes_that_hide_a_region_do_not_count():
    before, after = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    inside = torch.zeros(2, 4, 4, dtype=torch.bool)
    inside[0, 0] = True
    assert measured_change(before, after, inside, ~inside).inside == 0.5


@pytest.mark.parametrize(("name", "floor"), [("jaw", 0.97), ("gaze", 0.9), ("blink", 0.9)])
def test_reader_reads_what_was_painted(mask_head, name, floor):
    control = controls(mask_head)[name]
    train, held_out = mask_scenes(300, seed=4), mask_scenes(80, seed=5)
    if name == "gaze":  # shut eyes look nowhere
        train, held_out = (scenes.commanded(controls(mask_head)["blink"], torch.zeros(len(scenes))) for scenes in (train, held_out))
    painter = Painter(mask_head)
    reader = Reader.fit(control, mask_head, painter(train), train.params, train.camera)
    quality = reader_quality(reader, painter(held_out), held_out.params, held_out.camera)
    assert quality.spearman > floor
    assert quality.error < 0.1 * (control.high - control.low)
    if name == "jaw":
        assert read_back(painter, held_out, reader) > floor
        assert abs(read_back(Painter(mask_head, faithful=0), held_out, reader)) < 0.3
        half = read_back(Painter(mask_head, faithful=0.5), held_out, reader)
        assert 0.15 < half < floor - 0.1


def test_evenly_spread_takes_as_many_from_every_part(mask_head, rng):
    jaw = controls(mask_head)["jaw"]
    values = jaw.at(torch.rand(400, generator=rng).square())  # mostly closed
    chosen = values[evenly_spread(values, jaw)]
    counts = torch.histc(chosen, bins=4, min=jaw.low, max=jaw.high)
    assert len(chosen) > 100
    assert (counts == counts[0]).all()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2, 3, 4], [10.0, 20, 25, 90], 1.0),
        ([1.0, 2, 3, 4], [4.0, 3, 2, 1], -1.0),
        ([1.0, 2, 3, 4], [5.0, 5, 5, 5], 0.0),
        ([1.0, 2, 2, 3], [1.0, 2, 2, 3], 1.0),
        ([], [], 0.0),
    ],
    ids=["monotone", "reversed", "constant", "ties", "empty"],
)
def test_spearman(first, second, expected):
    assert spearman(torch.tensor(first), torch.tensor(second)) == pytest.approx(expected)


def test_spearman_with_ties_agrees_with_scipy(rng):
    from scipy.stats import spearmanr

    first, second = (torch.randint(6, (50,), generator=rng).float() for _ in range(2))
    assert spearman(first, second) == pytest.approx(float(spearmanr(first, second).statistic))


def test_quantise_gives_bytes():
    values = quantise(torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0]))
    assert values.min() == -1
    assert values.max() == 1
    assert torch.equal((values + 1) * 127.5, ((values + 1) * 127.5).round())
