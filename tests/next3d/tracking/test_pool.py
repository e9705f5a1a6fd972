"""Workers that die, and engines that all do the same."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from next3d.tracking.job import Foreman
from next3d.tracking.pool import Done, open_local
from next3d.tracking.ray_engine import open_ray
from next3d.tracking.results import load_arrays
from next3d.tracking.units import Unit, Workplace
from tests.tracking_units import Feat, Telltale, workplace


def test_a_worker_that_dies_costs_only_what_it_stumbled_over(tmp_path: Path):
    """A portion that fails is taken apart, its parts are tried alone, and the culprits are named."""
    place = workplace(tmp_path)
    units = [Feat((0, 1, 2), deadly=(1,)), Feat((3,)), Feat((4,), wrong=(4,))]
    with open_local() as engine:
        foreman = Foreman(place, engine, 1)
        foreman.do(units)
    problems = foreman.outcome.failed
    assert [unit.content() for unit in problems] == [(1,), (4,)]
    assert "SIGKILL" in problems[units[0].alone()[1]]
    assert problems[units[2]] == "ZeroDivisionError: of no use"
    assert [place.has(unit) for unit in [*units[0].alone(), *units[1:]]] == [True, False, True, True, False]


def test_work_that_is_done_is_not_done_again(tmp_path: Path):
    place = workplace(tmp_path)
    given: list[tuple[object, ...]] = []

    def engine(units: Sequence[Unit], place: Workplace, workers: int) -> Iterator[Done]:
        for unit in units:
            given.append(unit.content())
            Path(place.path(unit)).touch()
            yield unit, ""

    steps: list[int] = []
    for count in (2, 4):
        Foreman(place, engine, 1, lambda done, total: steps.append(done)).do([Feat((number,)) for number in range(count)])
    assert given == [(0,), (1,), (2,), (3,)]
    assert steps[-1] == 4, "what was done before counts as done"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_workers_have_our_environment_and_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where what they are forked from is older."""
    place = workplace(tmp_path)
    for number in range(2):
        monkeypatch.setenv("TELLTALE", str(number))
        with open_local() as engine:
            assert [problem for _, problem in engine([Telltale((number,))], place, 1)] == [""]
        assert load_arrays(place.path(Telltale((number,))))["told"].tolist() == [number, 1]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_does_the_same(tmp_path: Path):
    place = workplace(tmp_path)
    feats = [Feat((number,), deadly=(1,), wrong=(2,)) for number in range(4)]
    with open_ray() as engine:
        told = dict(engine(feats, place, 2))
    assert [told[feat] == "" for feat in feats] == [True, False, False, True]
    assert [place.has(feat) for feat in feats] == [True, False, False, True]
