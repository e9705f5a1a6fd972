"""The avatar metrics on pictures whose truth is known: at their floor where everything is right, and growing with what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dnnlib.errors import DatasetError
from tests.processes import run_ranks
from tests.training.factory import small_head
from tests.training.metrics.conftest import MaskHead
from tests.training.metrics.pictures import paint_context
from torch_utils.distributed import world
from training.metrics.context import Context
from training.metrics.figures import Figure
from training.metrics.obedience import (
    measure_expression,
    measure_gaze,
    measure_landmarks,
    measure_pose,
    measure_response,
    r_squared,
    response_figures,
    slope,
)
from training.metrics.readings import face_reader, known_controls, natural_scenes, other_rows, read_scenes
from training.metrics.scenes import Sampler
from training.metrics.truth import MistakenSampler, TruthSampler

Measure = Callable[[Context], list[Figure]]
MEASURES: Sequence[Measure] = (measure_expression, measure_pose, measure_landmarks, measure_gaze)


@pytest.fixture(scope="module")
def figures(avatar_context) -> Callable[[Sampler], dict[str, Figure]]:
    """Figures of another sampler by the same reader over the same scenes; each sampler is asked once."""
    face_reader(avatar_context)
    known: dict[Sampler, dict[str, Figure]] = {}

    def of(sampler: Sampler) -> dict[str, Figure]:
        if sampler not in known:
            kept = {key: made for key, made in avatar_context._kept.items() if key not in ("avatar: generated", "avatar: pictures")}
            context = replace(avatar_context, sampler=sampler, _kept=kept)
            known[sampler] = {figure.name: figure for measure in MEASURES for figure in measure(context)}
        return known[sampler]

    return of


def test_truth_is_at_the_floor(figures, truth):
    """Truly rendered commands are read as well as held-out real images are."""
    for figure in figures(truth).values():
        assert figure.floor is not None
        assert figure.low < figure.value < figure.high
        assert figure.low < 1.15 * figure.floor
        assert figure.value < 1.3 * figure.floor
    assert figures(truth)["aed"].count == 64


def test_wrong_expressions_are_seen_by_their_size(figures, truth):
    aed = [figures(truth)["aed"].value]
    aed += [figures(MistakenSampler(truth, expression=share))["aed"].value for share in (0.1, 0.2, 0.4)]
    assert all(later > earlier for earlier, later in pairwise(aed)), aed
    assert aed[-1] > 1.5 * aed[0]
    wrong = figures(MistakenSampler(truth, expression=0.4))
    for name in ("apd", "gaze_error"):
        assert wrong[name].value == pytest.approx(figures(truth)[name].value, rel=0.15)


def test_wrong_poses_are_seen(figures, truth):
    right, wrong = figures(truth), figures(MistakenSampler(truth, turn=0.15))
    assert wrong["apd"].value == pytest.approx((right["apd"].value ** 2 + 8.6**2) ** 0.5, rel=0.2)
    assert wrong["apd_median"].value == pytest.approx((right["apd_median"].value ** 2 + 8.6**2) ** 0.5, rel=0.2)
    assert right["apd_median"].value < right["apd"].value  # a few pictures are read badly
    assert wrong["akd"].value > 1.5 * right["akd"].value
    assert wrong["aed"].value < 1.2 * right["aed"].value


def test_wrong_gaze_is_seen(figures, truth):
    right, wrong = figures(truth), figures(MistakenSampler(truth, gaze=0.25))
    assert wrong["gaze_error"].value > 1.4 * right["gaze_error"].value
    for name in ("aed", "apd", "akd"):
        assert wrong[name].value == pytest.approx(right[name].value, rel=0.15)


def test_jaw_is_read_back(avatar_context):
    """Commanded evenly, the jaw is read with nearly its full slope."""
    context, control = avatar_context, known_controls(avatar_context)["jaw"]
    scenes = natural_scenes(context)[:48]
    commands = torch.linspace(control.low, control.high, 48)
    readings = read_scenes(context, scenes.commanded(control, commands)).controls[:, list(known_controls(context)).index("jaw")]
    found = {figure.name: figure for figure in response_figures(context, control, (commands, readings), (commands, commands))}
    assert found["jaw_spearman"].value > 0.85
    assert 0.7 < found["jaw_slope"].low < found["jaw_slope"].value < 1.2
    assert found["jaw_slope"].floor == pytest.approx(1)
    assert found["jaw_r2"].floor == pytest.approx(1)


def test_every_command_is_compared_with_its_own_reading(coded_context):
    """Pictures that hold the numbers they were commanded are read exactly; pictures of other commands say nothing."""
    figures = {figure.name: figure.value for figure in measure_response(coded_context)}
    for name in known_controls(coded_context):
        assert figures[f"{name}_spearman"] == pytest.approx(1), name
        assert figures[f"{name}_slope"] == pytest.approx(1, abs=1e-3), name
    own = coded_context.sampler
    coded_context.test_another(lambda scenes: own(scenes[torch.arange(len(scenes)).roll(4)]))
    for figure in measure_response(coded_context):
        assert abs(figure.value) < 0.4, figure.name


def test_slope_and_r_squared_agree_with_scipy(rng):
    from scipy.stats import linregress

    first = torch.rand(40, generator=rng)
    second = 0.7 * first + 0.1 * torch.randn(40, generator=rng)
    expected = linregress(first, second)
    assert slope(first, second) == pytest.approx(expected.slope, rel=1e-5)
    assert r_squared(first, second) == pytest.approx(expected.rvalue**2, rel=1e-5)
    assert slope(torch.ones(3), second[:3]) == r_squared(torch.ones(3), second[:3]) == 0


def test_held_out_images_are_never_fitted_to(avatar_context):
    rows = other_rows(avatar_context)
    assert sorted(rows) == list(range(280))
    crowded = replace(avatar_context, settings=replace(avatar_context.settings, holdout=358), _kept={})
    with pytest.raises(DatasetError, match="hold out fewer"):
        other_rows(crowded)


def test_reading_needs_nothing_but_the_picture(avatar_context, truth):
    """The reader reads what is shown, whatever was commanded."""
    scenes = natural_scenes(avatar_context)[:4]
    reader = face_reader(avatar_context)
    assert torch.equal(reader.read(truth(scenes)).to_rows(), reader.read(truth(scenes)).to_rows())
    alone = torch.cat([reader.read(truth(scenes[index : index + 1])).to_rows() for index in range(4)])
    torch.testing.assert_close(alone, reader.read(truth(scenes)).to_rows(), atol=1e-5, rtol=1e-5)


def test_jaw_and_smile_are_read_off_the_mouth_alone(avatar_context, truth):
    """A last regression that says the same of every mouth makes all jaws and smiles alike, and leaves everything else as it was."""
    reader, pictures = face_reader(avatar_context), truth(natural_scenes(avatar_context)[:6])
    blind = replace(reader, mouth=replace(reader.mouth, weights=torch.zeros_like(reader.mouth.weights)))
    seen, unseen = reader.read(pictures), blind.read(pictures)
    for column, name in enumerate(known_controls(avatar_context)):
        if name in ("jaw", "smile"):
            assert unseen.controls[:, column].std() < 1e-6 < 1e-2 < seen.controls[:, column].std()
        else:
            assert torch.equal(unseen.controls[:, column], seen.controls[:, column])
    assert torch.equal(unseen.landmarks, seen.landmarks)
    assert torch.equal(unseen.gaze, seen.gaze)


def test_heads_without_smiles_have_no_such_curve(mask_head: MaskHead, truth: TruthSampler):
    from training.metrics.face_state import avatar_controls

    assert set(avatar_controls(mask_head)) == {"jaw", "gaze", "blink"}
    assert set(avatar_controls(truth.head)) == {"jaw", "gaze", "blink", "smile"}


def ranked(context: Context) -> list[Figure]:
    """What a rank measures. (The eyes of the small head have no distance, so its expressions have no unit.)"""
    context.world = world()
    return [*measure_pose(context), *measure_response(context)]


def test_ranks_agree_with_one_process(tmp_path, knows_small_head):
    context = paint_context(tmp_path)
    context.settings = replace(context.settings, people=14, holdout=8, fitting=24, batch=4)
    context.once("head", small_head)
    for figures in run_ranks(ranked, 3, context):
        assert figures == ranked(context)
